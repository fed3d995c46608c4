"""Compare the twin with a real Prefect server and process worker on the same workload.

Three queues share a pool of two slots: `urgent` (priority 1) gets a run now and then, `normal` (2, limit 1) and `bulk`
(3) have a backlog. Flows sleep for a drawn time. The twin is given two things from the recorded day: how long each run
held its slot, start-up included, and the period of the worker's polls, which is its setting plus the time that a poll
takes. The comparison is about how slots are assigned: the order of starts, where Prefect determines it, and the
quantiles of the waiting time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

QUEUES: Final = (
    QueueSetting(name="urgent", priority=1),
    QueueSetting(name="normal", priority=2, limit=1),
    QueueSetting(name="bulk", priority=3),
)
POOL_LIMIT: Final = 2
POLL_S: Final = 1.0
_POLL_JITTER: Final = 0.3
_CREATING_S: Final = 0.4
"""Seconds allowed to create one run; the API needs a tenth of that on an idle machine."""
_FLOW: Final = """
import time

from prefect import flow


@flow
def rest(seconds: float) -> None:
    time.sleep(seconds)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDay:
    """What a real server and worker did; arrays of shape (runs,), instants in seconds from the beginning.

    Attributes:
        queue: Index of each run's queue in `QUEUES`.
        scheduled_s: Its scheduled start.
        claimed_s: When it took its slot (PENDING).
        started_s: When it began to run.
        ended_s: When it gave the slot back.
    """

    queue: Array
    scheduled_s: Array
    claimed_s: Array
    started_s: Array
    ended_s: Array


def record_day(
    runs: int, seed: int, timeout_s: float = 900.0, start_worker: Callable[[Any, str], Any] | None = None
) -> RecordedDay:
    """Run the workload on a real server; takes about 1.5 s per run plus start and stop of server and worker.

    Args:
        runs: Number of runs, at least 6.
        seed: Of schedules and sleeps.
        timeout_s: Seconds until all runs have to be over.
        start_worker: Starts a worker on a server's pool that polls every `POLL_S` and takes a run's seconds from its
            parameter; a process worker if None.
    """
    from tests import real_prefect

    rng = np.random.default_rng(seed)
    # Few urgent and normal runs, so that the median wait is one of a `bulk` run that started after all `normal` ones.
    # Before that, waits of `bulk` are far apart, and which of them is the median is chance.
    urgent, normal = max(2, runs // 12), max(2, runs // 6)
    queue = np.repeat([0, 1, 2], [urgent, normal, max(2, runs - urgent - normal)])
    offset = np.where(queue == 0, rng.uniform(5.0, 1.2 * runs, len(queue)), rng.uniform(0.0, 1.0, len(queue)))
    seconds = rng.lognormal(0.5, 0.5, len(queue))
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-") as text:
        folder = Path(text)
        (folder / "rest.py").write_text(_FLOW, encoding="utf-8")
        with real_prefect.open_server(folder / "server") as server:
            api = server.api()
            pool = api.pool(limit=POOL_LIMIT)
            deployments = []
            for each in QUEUES:
                api.queue(pool, each.name, priority=each.priority, limit=each.limit)
                place: dict[str, Any] = {"entrypoint": "rest.py:rest", "path": folder}
                deployments.append(api.deployment(pool, each.name, flow="rest", name=each.name, **place))
            worker = (start_worker or real_prefect.start_worker)(server, pool)
            try:
                api.wait_for_worker(pool)
                begin = time.time() + 2.0 + _CREATING_S * len(queue)
                ids = [
                    api.run(deployments[number], at_s=begin + at, parameters={"seconds": float(sleep)})
                    for number, at, sleep in zip(queue, offset, seconds, strict=True)
                ]
                if time.time() > begin:
                    raise InvalidInputError(
                        "server", server.api_url, "is too slow: runs were due before all of them were created"
                    )
                api.wait(ids, timeout_s)
            finally:
                worker.stop()
            states = [api.call("GET", f"/flow_run_states/?flow_run_id={run_id}") for run_id in ids]
    moments = [_firsts_s(each, begin) for each in states]
    claimed, started, ended = (
        np.array([each[name] for each in moments]) for name in ("PENDING", "RUNNING", "COMPLETED")
    )
    return RecordedDay(queue=queue, scheduled_s=offset, claimed_s=claimed, started_s=started, ended_s=ended)


def _firsts_s(states: Sequence[Mapping[str, Any]], begin_s: float) -> dict[str, float]:
    """When a run was first in each type of state (a worker makes it Pending twice), seconds from the beginning."""
    newest_first = sorted(((unix_s(state["timestamp"]), state["type"]) for state in states), reverse=True)
    return {kind: at_s - begin_s for at_s, kind in newest_first}


def poll_period_s(day: RecordedDay) -> float:
    """Mean seconds between two polls, from how long a freed slot stayed empty while `bulk` had a backlog.

    A slot is freed at a random moment between two polls and claimed at the next one, so it stays empty for half a
    period on average. Ends and claims (but the first ones) are matched in order.
    """
    backlog_until = day.claimed_s[day.queue == 2].max()
    ends = np.sort(day.ended_s)
    claims = np.sort(day.claimed_s)[POOL_LIMIT:]
    idle = claims - ends[: len(claims)]
    during = (claims <= backlog_until) & (idle > 0)
    return max(POLL_S, 2.0 * float(idle[during].mean()))


def twin_days(day: RecordedDay, worlds: int, seed: int) -> Array:
    """When each run took its slot in the twin, shape (worlds, runs), seconds from the beginning."""
    pool = PoolSpec(
        queues=QUEUES,
        limit=POOL_LIMIT,
        max_slots=POOL_LIMIT,
        poll_s=poll_period_s(day),
        poll_jitter=_POLL_JITTER,
        prefetch_s=0.0,
        startup_s=0.0,
    )
    held = day.ended_s - day.claimed_s
    count = len(held)
    runs = Runs(
        deployment=day.queue.astype(np.int64),
        scheduled_s=day.scheduled_s,
        known_s=day.scheduled_s,
        work_s=held,
        p50_s=held,
        spread=np.zeros(count),
        due_s=np.full(count, np.inf),
        due_within_s=np.full(count, np.inf),
        outcome_source=np.full(count, COMPLETES, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    deployments = [DeploymentSpec(name=each.name, queue=each.name) for each in QUEUES]
    twin = Twin(stack([build_world([pool], deployments, runs, seed=seed + world) for world in range(worlds)]))
    twin.finish()
    claimed: Array = twin.state.runs["first_claimed_s"][:, :count]
    return claimed


def agreement(day: RecordedDay, claimed_s: Array) -> float:
    """Share of pairs that start in the same order in the twin, of pairs whose order Prefect determines; 0 to 1.

    It determines the order of two runs that both waited when the first of them was claimed, that were claimed by
    different polls, and that are in one queue or in queues without limits.
    """
    first, second = (
        side.ravel() for side in np.meshgrid(np.arange(len(day.queue)), np.arange(len(day.queue)), indexing="ij")
    )
    free = np.array([queue.limit is None for queue in QUEUES])[day.queue.astype(int)]
    both_waited = day.scheduled_s[second] < day.claimed_s[first] - 2 * POLL_S
    apart = day.claimed_s[second] - day.claimed_s[first] > 0.7 * POLL_S
    comparable = (day.queue[first] == day.queue[second]) | (free[first] & free[second])
    known = both_waited & apart & comparable
    same = claimed_s[:, first[known]] <= claimed_s[:, second[known]]
    return float(same.mean())


def compare(day: RecordedDay, worlds: int = 200, seed: int = 0) -> dict[str, float]:
    """Figures of the comparison: agreement of order, and relative errors of the p50 and p90 of the waiting time.

    `*_spread` is the relative standard deviation of a quantile over the twin's days: the part of an error that is
    noise.
    """
    claimed = twin_days(day, worlds, seed)
    real = np.maximum(day.claimed_s - day.scheduled_s, 0.0)
    twin = np.maximum(claimed - day.scheduled_s, 0.0)
    figures = {"order_agreement": agreement(day, claimed)}
    for name, share in (("p50", 0.5), ("p90", 0.9)):
        truth = float(np.quantile(real, share))
        days = np.quantile(twin, share, axis=1)
        modelled = float(days.mean())
        figures[f"wait_{name}_s"] = truth
        figures[f"twin_wait_{name}_s"] = modelled
        figures[f"wait_{name}_error"] = abs(modelled - truth) / truth
        figures[f"wait_{name}_spread"] = float(days.std() / modelled)
    return figures
