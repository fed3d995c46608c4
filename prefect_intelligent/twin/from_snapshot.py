"""The twin of a live pool: worlds that begin with the runs of a snapshot, one world per sampled future.

What is known is the same in every future: settings, waiting runs, schedules, when each active run took its slot. What
is not known is drawn: durations (lognormal with the predicted quantiles, given how long a run has worked), outcomes,
and ad-hoc arrivals at the recent rate of each queue that has no schedule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import QueueState, Run, RunPhase, Snapshot
from prefect_intelligent.domain.snapshot import MOST_RECENT
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference
from prefect_intelligent.twin.model.nodes import enqueue_for_node, place_waiting
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.run_lifecycle import start, take_slot
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.state import PENDING, State, StateRow
from prefect_intelligent.twin.model.timers import ADD_NODE, MARK_LATE, set_timer
from prefect_intelligent.twin.model.world import DRAWN, World, WorldRow
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, Runs

_SHORTEST_S = 0.1
"""Least seconds of work of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFutures:
    """A live pool in sampled futures.

    Attributes:
        twin: One world per future, at the instant of the snapshot.
        runs: The runs of the snapshot; run i of every world is `runs[i]`, followers and ad-hoc ones come after them.
    """

    twin: Twin
    runs: tuple[Run, ...]


def sample_futures(
    snapshot: Snapshot, pool: PoolSpec, rng: np.random.Generator, *, futures: int, horizon_s: float
) -> SampledFutures:
    """Draw futures of a pool, from the instant of a snapshot on.

    Args:
        snapshot: The pool as it is.
        pool: How it behaves (polls, start-up, prices, nodes); its queues and limit are those of the snapshot.
        rng: For all_runs that is drawn.
        futures: How many, 1 or more.
        horizon_s: Seconds for which ad-hoc runs keep coming.
    """
    runs = tuple(
        run for phase in ("active", "waiting", "upcoming") for queue in snapshot.queues for run in getattr(queue, phase)
    )
    begun = _begun(snapshot, pool)
    resources = [ResourceSpec(name=resource.name, capacity=resource.capacity) for resource in snapshot.resources]
    worlds = [_future(snapshot, pool, runs, begun, resources, horizon_s, rng) for _ in range(futures)]
    world = stack(worlds)
    twin = Twin(world)
    claimed_s = np.array([run.started_s or snapshot.at_s for run in runs[: len(begun)]])
    order = np.argsort(~begun, kind="stable")  # those that have a node first
    _begin_active(world, twin.state, order, begun, claimed_s)
    return SampledFutures(twin=twin, runs=runs)


def _begun(snapshot: Snapshot, pool: PoolSpec) -> npt.NDArray[np.bool_]:
    """Which active runs have a node; where runs are claimed ahead, those that are still PENDING wait for theirs."""
    active = [run for queue in snapshot.queues for run in queue.active]
    return np.array([run.phase is not RunPhase.PENDING or not pool.claims_ahead for run in active], dtype=bool)


def _future(
    snapshot: Snapshot,
    pool: PoolSpec,
    runs: Sequence[Run],
    begun: npt.NDArray[np.bool_],
    resources: Sequence[ResourceSpec],
    horizon_s: float,
    rng: np.random.Generator,
) -> World:
    """One drawn world. Its first runs, as many as `begun` has entries, hold their slots already and do not arrive."""
    active = len(begun)
    coming = [
        found
        for queue in snapshot.queues
        for found in _unannounced(queue, snapshot.at_s, snapshot.watched_s, horizon_s, rng)
    ]
    examples, adhoc = [run for run, _ in coming], [at_s for _, at_s in coming]
    followers, edges = _followers(snapshot, runs)
    all_runs = [*runs, *followers, *examples]
    keys = {(run.deployment, run.queue): run for run in all_runs}
    known = {resource.name for resource in resources}
    deployments = [
        DeploymentSpec(
            name=f"{name} in {queue}",
            queue=queue,
            late_usd_per_hour=run.late_usd_per_hour,
            failure_usd=run.failure_usd,
            fails=run.failure_probability,
            resources=tuple(resource for resource in run.resources if resource in known),
        )
        for (name, queue), run in keys.items()
    ]
    number = {key: place for place, key in enumerate(keys)}
    follow = [run.scheduled_s for run in followers]
    scheduled = np.array([*_in_order(snapshot, runs), *follow, *adhoc])
    due = [math.inf if run.due_s is None else run.due_s for run in (*runs, *followers)]
    for run, at_s in zip(examples, adhoc, strict=True):
        due.append(math.inf if run.due_s is None else at_s + run.due_s - run.scheduled_s)
    columns = Runs(
        deployment=np.array([number[run.deployment, run.queue] for run in all_runs], dtype=np.int64),
        scheduled_s=scheduled,
        known_s=np.concatenate([np.full(len(runs), -np.inf), scheduled[len(runs) :]]),
        work_s=_work_s(all_runs, snapshot.at_s, begun, pool.startup_s, rng),
        p50_s=np.array([run.estimate.p50_s for run in all_runs]),
        spread=np.array([run.estimate.sigma for run in all_runs]),
        due_s=np.array(due),
        due_within_s=np.full(len(all_runs), np.inf),
        outcome_source=np.full(len(all_runs), DRAWN, dtype=np.int8),
        edges=edges,
    )
    seed = int(rng.integers(1 << 62))
    world = build_world([pool], deployments, columns, resources=resources, seed=seed, start_s=snapshot.at_s)
    order = world.arrivals[0]
    world.arrivals[0] = np.concatenate([order[order >= active], order[order < active]])
    world.settings["arrivals"] -= active
    return world


def _followers(snapshot: Snapshot, runs: Sequence[Run]) -> tuple[list[Run], npt.NDArray[np.int64]]:
    """The followers in the snapshot's own queues, and the edges to them, without those that nothing listed leads to."""
    queues = {queue.name for queue in snapshot.queues}
    number = {run.id: place for place, run in enumerate(runs)}
    found: list[Run] = []
    edges: list[tuple[int, int]] = []
    left = [follower for follower in snapshot.followers if follower.run.queue in queues]
    while left:
        open_ = {follower.run.id for follower in left}
        ready = [follower for follower in left if open_.isdisjoint(follower.after)]
        if not ready:  # they wait for each other
            break
        for follower in ready:
            before = [number[key] for key in follower.after if key in number]
            if before:
                number[follower.run.id] = len(runs) + len(found)
                edges += [(each, number[follower.run.id]) for each in before]
                found.append(follower.run)
        left = [follower for follower in left if follower.run.id not in {each.run.id for each in ready}]
    return found, np.array(edges, dtype=np.int64).reshape(-1, 2)


def _in_order(snapshot: Snapshot, runs: Sequence[Run]) -> list[float]:
    """From when each run could have started, lowered where Prefect serves it before one that could have earlier.

    The twin serves a queue by these instants; Prefect goes by what was planned, be it a month before the run was made.
    """
    sooner: dict[str, float] = {}
    for queue in snapshot.queues:
        first_s = math.inf
        for run in reversed(queue.waiting):
            first_s = sooner[run.id] = min(first_s, run.scheduled_s)
    return [sooner.get(run.id, run.scheduled_s) for run in runs]


def _unannounced(
    queue: QueueState, at_s: float, watched_s: float, horizon_s: float, rng: np.random.Generator
) -> list[tuple[Run, float]]:
    """Runs that will come into a queue unannounced, and when: as often as of late, each like one of those."""
    span_s = watched_s if len(queue.recent) < MOST_RECENT else at_s - queue.recent[-1].scheduled_s
    if not queue.recent or span_s <= 0:
        return []
    count = rng.poisson(len(queue.recent) / span_s * horizon_s)
    like = rng.integers(len(queue.recent), size=count)
    times = at_s + np.sort(rng.uniform(0.0, horizon_s, count))
    return [(queue.recent[place], float(time)) for place, time in zip(like, times, strict=True)]


def _work_s(
    runs: Sequence[Run], at_s: float, begun: npt.NDArray[np.bool_], startup_s: float, rng: np.random.Generator
) -> Array:
    """Seconds of work left for each run: lognormal, for those that have begun given that they have not ended yet."""
    active = len(begun)
    log_median = np.log(np.array([max(run.estimate.p50_s, _SHORTEST_S) for run in runs]))
    sigma = np.maximum(np.array([run.estimate.sigma for run in runs]), 1e-3)
    total = np.exp(log_median + sigma * rng.standard_normal(len(runs)))
    used = np.where(begun, [at_s - (run.started_s or at_s) for run in runs[:active]], 0.0)
    for _ in range(8):  # draw again what would have ended before now; what still would is an overrun
        over = total[:active] <= used
        if not over.any():
            break
        total[:active][over] = np.exp(log_median[:active] + sigma[:active] * rng.standard_normal(active))[over]
    overrun_s = 0.5 * np.maximum(used - np.exp(log_median[:active]), 1.0)
    left = np.where(total[:active] > used, total[:active] - used, overrun_s)
    left = np.where(begun, left, total[:active] - startup_s)
    work: Array = np.maximum(np.concatenate([left, total[active:] - startup_s]), _SHORTEST_S)
    return work


@compiled
def _worker_of(world: WorldRow, state: StateRow, pool: int, queue: int) -> int:
    """The worker that has a run of a queue, which a snapshot does not say: of those that poll it one with most room."""
    pool_spec = world.pools[pool]
    found, most = pool_spec.first_worker, -math.inf
    for worker in range(pool_spec.first_worker, pool_spec.first_worker + pool_spec.workers):
        room = world.workers[worker].limit - state.workers[worker].active
        if world.polled[worker, queue] != 0 and room > most:
            found, most = worker, room
    return int(found)


@compiled
def _begin_active(
    world: World, state: State, order: npt.NDArray[np.int64], begun: npt.NDArray[np.bool_], claimed_s: Array
) -> None:
    """Let the first runs of every world hold their slots: those that have begun run, the others wait for a node."""
    for row in range(world.runs.shape[0]):
        one_world, one_state = by_reference(world_row(world, row)), by_reference(state_row(state, row))
        for run in order:
            run_spec, run_state = one_world.runs[run], one_state.runs[run]
            pool = one_world.queues[run_spec.queue].pool
            run_state.scheduled_s, run_state.due_s, run_state.phase = run_spec.scheduled_s, run_spec.due_s, PENDING
            one_state.pools[pool].present += 1
            if math.isfinite(run_spec.due_s):
                set_timer(one_state, max(run_spec.due_s, one_state.totals[0].now_s), MARK_LATE, run)
            take_slot(one_world, one_state, run)
            if one_world.pools[pool].workers > 0:
                run_state.worker = _worker_of(one_world, one_state, pool, run_spec.queue)
                one_state.workers[run_state.worker].active += 1
            if begun[run]:
                run_state.placed = 1
                one_state.pools[pool].placed += 1
                start(one_world, one_state, run)
            else:
                enqueue_for_node(one_state, pool, run)
            if one_world.pools[pool].follows_demand != 0:
                _give_node(one_world, one_state, pool, begun[run], claimed_s[run])
        for pool in range(one_state.pools.shape[0]):
            place_waiting(one_world, one_state, pool)


@compiled
def _give_node(world: WorldRow, state: StateRow, pool: int, begun: bool, claimed_s: float) -> None:
    """An autoscaler has bought a slot for an active run: its node is there, or boots since the run was claimed."""
    pool_spec, pool_state, now_s = world.pools[pool], state.pools[pool], state.totals[0].now_s
    slots = pool_state.placed if begun else pool_state.active
    nodes = pool_state.nodes if begun else pool_state.nodes + pool_state.nodes_ordered
    ring = state.node_since[pool]
    if slots <= nodes * pool_spec.node_slots or pool_state.nodes + pool_state.nodes_ordered >= ring.shape[0]:
        return
    ring[pool_state.nodes + pool_state.nodes_ordered] = now_s
    if begun:
        pool_state.nodes += 1
    else:
        pool_state.nodes_ordered += 1
        set_timer(state, max(now_s, claimed_s + pool_spec.boot_s), ADD_NODE, pool)
