"""Which workers a pool has, which queues they poll and how many runs they take at once, from which took which runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.history.rows import ENDED_STATES
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.spec import WorkerSpec

TAKEN: Final = "prefect.worker.submitted-flow-run"
"""Event by which a worker tells that it has taken a run; `history.adapters.prefect_source` says what is kept of it."""
_ENOUGH: Final = 10
_KNOWN: Final = 0.9
"""Share of runs whose worker has to be known, and of which the workers that stay have to take."""
_STAYS: Final = 0.5
"""Share of the observed time over which a worker has to be seen: others have been replaced meanwhile."""
_CHANCE: Final = 0.01


def takers(payloads: Iterable[Any]) -> dict[str, str]:
    """Which worker has taken a run, by the run's id, from the payloads of `TAKEN` events, oldest first."""
    told = [json.loads(str(text)) for text in payloads]
    return {row["run_id"]: row["name"] for row in told if {"run_id", "name"} <= row.keys()}


def learned_workers(
    passages: pd.DataFrame,
    taken_by: Mapping[str, str],
    queues: tuple[QueueSetting, ...],
    limit: int | None,
    poll_s: float,
) -> tuple[tuple[WorkerSpec, ...], str | None]:
    """The workers of a pool, and what is doubtful about them.

    A worker does not poll a queue of which it would have had a run by now, were it to take from all alike. Its limit is
    the most runs that it has had at once, if runs have waited for just that: its next run had waited since before one
    of its own ended, came within two polls of that end, and neither the pool nor the queue was full.

    Args:
        passages: Changes of state of the pool's runs, by instant: run_id, at_s, state, queue, scheduled_s.
        taken_by: Which worker has taken a run, see `takers`.
        queues: The pool's queues.
        limit: The pool's limit; None is unlimited.
        poll_s: Mean seconds between two polls.

    Returns:
        No worker if they are as one that polls every queue without a limit, or if too little is known of them.
    """
    held = _held(passages, taken_by)
    if held.empty:
        return (), None
    seen = held.groupby("worker").agg(first_s=("claimed_s", "min"), last_s=("claimed_s", "max"), runs=("queue", "size"))
    span_s = float(seen["last_s"].max() - seen["first_s"].min())
    stays = seen[(seen["last_s"] - seen["first_s"] >= _STAYS * span_s) & (seen["runs"] >= _ENOUGH)]
    begun = int(passages.loc[passages["state"] == "RUNNING", "run_id"].nunique())
    if int(stays["runs"].sum()) < _KNOWN * begun:
        return (), f"workers: {len(seen)} names took {len(held)} of {begun} runs, too few stay: taken as one"
    workers = tuple(
        WorkerSpec(
            name=str(name),
            limit=_limit(group, held, queues, limit, poll_s),
            queues=_queues_polled(group, held, queues),
        )
        for name, group in held[held["worker"].isin(stays.index)].groupby("worker")
    )
    polled = {name for worker in workers for name in worker.queues or {queue.name for queue in queues}}
    if unpolled := sorted(set(held["queue"].astype(str)) - polled):
        return (), f"workers: none that stays polls {', '.join(unpolled)}: taken as one"
    plain = all(worker.limit is None and not worker.queues for worker in workers)
    return () if plain else workers, None


def _held(passages: pd.DataFrame, taken_by: Mapping[str, str]) -> pd.DataFrame:
    """When workers have had runs: run_id, worker, queue, scheduled_s, claimed_s, ended_s; by claim."""
    held = passages[passages["state"] == "PENDING"].drop_duplicates("run_id").rename(columns={"at_s": "claimed_s"})
    ended = passages[passages["state"].isin(ENDED_STATES)].drop_duplicates("run_id", keep="last")
    held = held.assign(
        worker=held["run_id"].map(dict(taken_by)),
        ended_s=held["run_id"].map(ended.set_index("run_id")["at_s"]).fillna(np.inf),
    )
    return held.dropna(subset=["worker"]).sort_values("claimed_s", ignore_index=True)


def _queues_polled(own: pd.DataFrame, held: pd.DataFrame, queues: tuple[QueueSetting, ...]) -> tuple[str, ...]:
    """The queues that a worker polls; empty for all."""
    share = held["queue"].value_counts(normalize=True)
    taken = set(own["queue"])
    missed = {
        name for name in share.index if name not in taken and math.log1p(-share[name]) * len(own) < math.log(_CHANCE)
    }
    return tuple(queue.name for queue in queues if queue.name not in missed) if missed else ()


def _limit(
    own: pd.DataFrame, held: pd.DataFrame, queues: tuple[QueueSetting, ...], pool_limit: int | None, poll_s: float
) -> int | None:
    """Most runs that a worker takes at once; None if nothing shows that it has a limit."""
    claimed, ended = own["claimed_s"].to_numpy(float), np.sort(own["ended_s"].to_numpy(float))
    most = int(_active(claimed, claimed, ended).max(initial=0))
    last_end = np.searchsorted(ended, claimed, side="left") - 1
    freed_s = np.where(last_end >= 0, ended[np.maximum(last_end, 0)], -np.inf)
    waited = own["scheduled_s"].to_numpy(float) < freed_s - 2.0 * poll_s
    soon = claimed - freed_s <= 2.0 * poll_s + 1.0
    full = _active(claimed, claimed, ended) == most
    limits = {queue.name: queue.limit for queue in queues}
    before_s = claimed - 2.0 * poll_s - 1.0  # runs that end between two polls free their slots together
    for at_s in (before_s, freed_s - 1e-3):
        full &= ~_crowded(at_s, held, pool_limit)
        for queue, inside in held.groupby("queue"):
            full &= ~(_crowded(at_s, inside, limits.get(str(queue))) & (own["queue"] == queue).to_numpy())
    return most if int((waited & soon & full).sum()) >= _ENOUGH else None


def _crowded(at_s: Array, held: pd.DataFrame, limit: int | None) -> npt.NDArray[np.bool_]:
    """At which instants so many runs were held as a limit permits."""
    bound = math.inf if limit is None else limit
    return _active(at_s, held["claimed_s"].to_numpy(float), np.sort(held["ended_s"].to_numpy(float))) >= bound


def _active(at_s: Array, claimed_s: Array, ended_s: Array) -> npt.NDArray[np.int64]:
    """How many runs are held at instants; claims at an instant count, ends do not. Both arrays are ascending."""
    return np.searchsorted(claimed_s, at_s, side="right") - np.searchsorted(ended_s, at_s, side="right")
