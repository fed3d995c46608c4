"""How many runs the workers of a pool carry at once, as far as the pool shows it: Prefect does not tell."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Run, Snapshot

_OVERDUE_S: Final = 60.0
"""Several polls of a worker."""


def learned_slots(snapshot: Snapshot, runs: pd.DataFrame) -> int | None:
    """Most runs at work together since a run has waited that nothing but the workers keeps from starting.

    Such a run is due for a minute, its queue and the pool have room, and no other run of its deployment is at work
    (whose concurrency limit might be reached).

    Args:
        snapshot: The pool as it is.
        runs: Its runs of the last day, as from `history.runs_frame`; may be empty.

    Returns:
        None if no such run waits, or if nothing is at work: then perhaps no worker polls.
    """
    room = np.inf if snapshot.pool.limit is None else snapshot.pool.limit
    if snapshot.pool.paused or not 0 < snapshot.active < room:
        return None
    at_work = {run.deployment for queue in snapshot.queues for run in queue.active}
    kept: list[Run] = [
        run
        for queue in snapshot.queues
        if not queue.setting.paused and (queue.setting.limit is None or len(queue.active) < queue.setting.limit)
        for run in queue.waiting
        if snapshot.at_s - run.scheduled_s > _OVERDUE_S and run.deployment not in at_work
    ]
    if not kept:
        return None
    since_s = min(run.scheduled_s for run in kept)
    past = runs[runs["started_s"].notna() & (runs["ended_s"] > since_s)]
    began, over = past["started_s"].to_numpy(float), past["ended_s"].to_numpy(float)
    active = [run.started_s for queue in snapshot.queues for run in queue.active if run.started_s is not None]
    instants = np.concatenate([over, began, active])  # of equal instants an end comes first
    steps = np.concatenate([np.full(len(over), -1), np.ones(len(began) + len(active))])
    order = np.argsort(instants, kind="stable")
    together = np.cumsum(steps[order])
    later = together[instants[order] >= since_s]
    return int(max(snapshot.active, later.max(initial=0)))
