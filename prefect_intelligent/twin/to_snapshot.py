"""A `Snapshot` of a world of the twin, made the slow way: what an adapter would see of it."""

import math

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import (
    Estimate,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    Resource,
    Run,
    RunPhase,
    Snapshot,
)
from prefect_intelligent.domain.followers import Follower
from prefect_intelligent.domain.snapshot import MOST_RECENT, RECENT_S
from prefect_intelligent.policy.census import LOOK_AHEAD_S
from prefect_intelligent.twin.model import state as S
from prefect_intelligent.twin.model.run_lifecycle import ARRIVAL_MEMORY_S
from prefect_intelligent.twin.model.world import AFTER_FAILURE
from prefect_intelligent.twin.simulator import Twin

_Z90 = 1.2815515655446004
_PHASES = {
    S.WAITING: RunPhase.WAITING,
    S.PENDING: RunPhase.PENDING,
    S.RUNNING: RunPhase.RUNNING,
    S.NOT_CREATED: RunPhase.UPCOMING,
    S.DELAYED: RunPhase.UPCOMING,
    S.RESUMING: RunPhase.UPCOMING,
}


def snapshot_of(twin: Twin, row: int = 0, pool: int = 0) -> Snapshot:
    """What is known of one pool of one world now."""
    world, state = twin.world, twin.state
    now_s = float(state.totals["now_s"][row])
    names = [f"resource-{number:02d}" for number in range(world.resources.shape[1])]
    width = world.width
    runs = [_run(twin, row, number, names) for number in range(int(world.settings["runs"][row]))]
    queues = []
    for queue in range(pool * width, (pool + 1) * width):
        if not world.queues["present"][row, queue]:
            continue
        queue_state = state.queues[row, queue]
        here = [(number, run) for number, run in enumerate(runs) if run and world.runs["queue"][row, number] == queue]
        waiting = [(state.keys[row, n], n, run) for n, run in here if run.phase is RunPhase.WAITING]
        early = [run for key, _, run in waiting if key > now_s]
        due = [run for key, _, run in sorted(waiting, key=lambda item: item[:2]) if key <= now_s]
        upcoming = [run for _, run in here if run.phase is RunPhase.UPCOMING] + early
        upcoming = [run for run in upcoming if run.scheduled_s - now_s <= LOOK_AHEAD_S]
        rate = (
            queue_state["arrivals_per_s"] * 3600.0 * math.exp((queue_state["arrivals_at_s"] - now_s) / ARRIVAL_MEMORY_S)
        )
        queues.append(
            QueueState(
                setting=QueueSetting(
                    name=f"queue-{queue:02d}",
                    priority=int(queue_state["priority"]),
                    limit=None if math.isinf(queue_state["limit"]) else int(queue_state["limit"]),
                    paused=bool(queue_state["paused"]),
                ),
                waiting=tuple(due),
                active=tuple(run for _, run in here if run.holds_slot),
                upcoming=tuple(sorted(upcoming, key=lambda run: (run.scheduled_s, run.slack_s(now_s)))),
                arrivals_per_hour=float(rate),
                recent=tuple(
                    _describe(twin, row, number, names, RunPhase.UPCOMING) for number in _recent(twin, row, queue)
                ),
            )
        )
    pool_state = state.pools[row, pool]
    begun_s = float(world.settings["start_s"][row])
    over = set(np.flatnonzero(state.runs["phase"][row] >= S.COMPLETED).tolist())
    upstreams = _upstreams(twin, row)
    followers = [number for number in upstreams if _follows(twin, row, number)]
    return Snapshot(
        at_s=now_s,
        pool=PoolSetting(
            name="pool",
            limit=None if math.isinf(pool_state["limit"]) else int(pool_state["limit"]),
            paused=bool(pool_state["paused"]),
        ),
        queues=tuple(queues),
        prices=Prices(
            slot_usd_per_hour=float(pool_state["usd_per_hour"]),
            idle_fraction=float(world.pools["idle_fraction"][row, pool]),
            lateness_weight=float(world.settings["lateness_weight"][row]),
        ),
        resources=tuple(
            Resource(name=name, capacity=float(world.resources["capacity"][row, number]))
            for number, name in enumerate(names)
            if world.resources["capacity"][row, number] > 0
        ),
        followers=tuple(
            Follower(
                run=_describe(twin, row, number, names, RunPhase.UPCOMING),
                after=tuple(f"{each:06d}" for each in upstreams[number] if each not in over),
            )
            for number in followers
        ),
        watched_s=min(RECENT_S, now_s - begun_s),
    )


def _recent(twin: Twin, row: int, queue: int) -> npt.NDArray[np.int64]:
    """The runs that have come into a queue of late and that nothing had announced, newest first."""
    runs, now_s = twin.world.runs[row], float(twin.state.totals["now_s"][row])
    at_s = runs["scheduled_s"]
    unannounced = (runs["queue"] == queue) & (runs["known_s"] >= at_s) & (runs["upstreams"] == 0)
    found = np.flatnonzero(unannounced & (at_s <= now_s) & (at_s > now_s - RECENT_S))
    newest: npt.NDArray[np.int64] = found[np.argsort(-at_s[found], kind="stable")][:MOST_RECENT]
    return newest


def _upstreams(twin: Twin, row: int) -> dict[int, list[int]]:
    """The upstreams of every run that has some."""
    found: dict[int, list[int]] = {}
    runs = twin.world.runs[row]
    for number in np.flatnonzero(runs["edges"] > 0):
        first = int(runs["first_edge"][number])
        for follower in twin.world.edges[row, first : first + int(runs["edges"][number])]:
            found.setdefault(int(follower), []).append(int(number))
    return found


def _follows(twin: Twin, row: int, number: int) -> bool:
    """Whether a run will be made once its upstreams have completed, and its line has begun or soon will."""
    run_spec, run_state = twin.world.runs[row, number], twin.state.runs[row, number]
    if twin.world.deployments["after_when"][row, run_spec["deployment"]] == AFTER_FAILURE:
        return False
    soon = twin.world.runs["scheduled_s"][row, number] - twin.state.totals["now_s"][row] <= LOOK_AHEAD_S
    return bool(run_state["phase"] == S.NOT_CREATED and run_state["upstreams_left"] > 0 and soon)


def _run(twin: Twin, row: int, number: int, names: list[str]) -> Run | None:
    """One run, or None if nobody can know of it now."""
    run_spec, run_state = twin.world.runs[row, number], twin.state.runs[row, number]
    now_s = float(twin.state.totals["now_s"][row])
    phase = _PHASES.get(int(run_state["phase"]))
    if phase is None or (
        run_state["phase"] == S.NOT_CREATED and (run_spec["upstreams"] > 0 or run_spec["known_s"] > now_s)
    ):
        return None
    return _describe(twin, row, number, names, phase)


def _describe(twin: Twin, row: int, number: int, names: list[str], phase: RunPhase) -> Run:
    """What is known of a run."""
    run_spec, run_state = twin.world.runs[row, number], twin.state.runs[row, number]
    deployment_spec = twin.world.deployments[row, run_spec["deployment"]]
    slots = twin.world.loads[row, deployment_spec["contention_group"]].tolist()
    due_s, scheduled_s = float(run_state["due_s"]), float(run_state["scheduled_s"])
    if run_spec["upstreams"] > 0 and run_state["phase"] == S.NOT_CREATED:
        scheduled_s = float(run_spec["scheduled_s"])
        due_s = math.inf if math.isfinite(run_spec["due_within_s"]) else float(run_spec["due_s"])
    return Run(
        id=f"{number:06d}",
        deployment=str(int(run_spec["deployment"])),
        queue=f"queue-{int(run_spec['queue']):02d}",
        phase=phase,
        scheduled_s=scheduled_s,
        estimate=Estimate(
            p50_s=float(run_spec["p50_s"]), p90_s=float(run_spec["p50_s"]) * math.exp(_Z90 * run_spec["spread"])
        ),
        started_s=float(run_state["claimed_s"]) if phase in (RunPhase.PENDING, RunPhase.RUNNING) else None,
        due_s=None if math.isinf(due_s) else due_s,
        late_usd_per_hour=float(deployment_spec["late_usd_per_hour"]),
        failure_probability=float(deployment_spec["failure_probability"]),
        resources=tuple(name for name, count in zip(names, slots, strict=True) for _ in range(count)),
    )
