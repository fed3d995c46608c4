"""Workers that are told apart: each polls by itself, for the queues that it was given, up to a limit of its own.

Runs may wait although the pool has room: nobody who polls their queue has any. A worker that dies takes its runs with
it, those included whose process waits for a retry.
"""

from __future__ import annotations

import math

from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import POLL, stream_key, uniform_at
from prefect_intelligent.twin.model.dispatch import dispatch
from prefect_intelligent.twin.model.run_lifecycle import end, retry_or_finish
from prefect_intelligent.twin.model.state import CRASHED, RESUMING, StateRow
from prefect_intelligent.twin.model.timers import COME_BACK, DIE, set_timer
from prefect_intelligent.twin.model.world import WorldRow


@compiled
def begin_workers(world: WorldRow, state: StateRow) -> None:
    """Set when each worker polls first, dies and comes back. A pool with workers does not poll by itself."""
    for worker in range(state.workers.shape[0]):
        state.workers[worker].next_poll_s = math.inf
    for pool in range(state.pools.shape[0]):
        pool_spec = world.pools[pool]
        if pool_spec.workers == 0:
            continue
        state.pools[pool].next_poll_s = math.inf
        for worker in range(pool_spec.first_worker, pool_spec.first_worker + pool_spec.workers):
            worker_state = state.workers[worker]
            worker_state.poll_stream = stream_key(world.settings[0].seed, POLL, state.pools.shape[0] + worker)
            if pool_spec.poll_s > 0:
                phase_s = pool_spec.poll_s * uniform_at(worker_state.poll_stream, 0)
                worker_state.next_poll_s = state.totals[0].now_s + phase_s
    for number in range(world.outages.shape[0]):
        outage = world.outages[number]
        if math.isfinite(outage.at_s):
            set_timer(state, outage.at_s, DIE, outage.worker)
        if math.isfinite(outage.back_s):
            set_timer(state, outage.back_s, COME_BACK, outage.worker)


@compiled
def next_worker_poll(world: WorldRow, state: StateRow, before_s: float, until_s: float) -> tuple[int, float]:
    """The worker that polls first before an instant, and when; -1 for none. Polls that would claim nothing are passed.

    Args:
        world: What is given.
        state: What changes.
        before_s: The instant of the next event of another kind.
        until_s: To when the world runs; nothing is passed after it.
    """
    first, first_s = -1, before_s
    for pool in range(state.pools.shape[0]):
        pool_state, pool_spec = state.pools[pool], world.pools[pool]
        for worker in range(pool_spec.first_worker, pool_spec.first_worker + pool_spec.workers):
            worker_state = state.workers[worker]
            if pool_state.needs_dispatch == 0 and worker_state.needs_dispatch == 0 and pool_spec.overshoot == 0:
                while worker_state.next_poll_s < first_s and worker_state.next_poll_s <= until_s:
                    _plan_poll(world, state, pool, worker)
            if worker_state.next_poll_s < first_s:
                first, first_s = worker, worker_state.next_poll_s
    return first, first_s


@compiled
def poll_as(world: WorldRow, state: StateRow, worker: int) -> None:
    """A worker asks for runs and submits them."""
    pool = world.workers[worker].pool
    _plan_poll(world, state, pool, worker)
    if state.pools[pool].needs_dispatch != 0:
        _wake(world, state, pool)
    state.workers[worker].needs_dispatch = 0
    dispatch(world, state, pool, worker)


@inlined
def _plan_poll(world: WorldRow, state: StateRow, pool: int, worker: int) -> None:
    """Move the next poll of a worker on by one period."""
    worker_state, pool_spec = state.workers[worker], world.pools[pool]
    worker_state.polls += 1
    stretch = 1.0 + pool_spec.poll_jitter * (2.0 * uniform_at(worker_state.poll_stream, worker_state.polls) - 1.0)
    worker_state.next_poll_s += pool_spec.poll_s * stretch


@inlined
def _wake(world: WorldRow, state: StateRow, pool: int) -> None:
    """What has happened in a pool may be of use to each of its workers."""
    pool_spec = world.pools[pool]
    for worker in range(pool_spec.first_worker, pool_spec.first_worker + pool_spec.workers):
        state.workers[worker].needs_dispatch = 1


@compiled
def die(world: WorldRow, state: StateRow, worker: int) -> None:
    """A worker is gone, and its runs crash."""
    worker_state, pool = state.workers[worker], world.workers[worker].pool
    worker_state.dead, worker_state.next_poll_s = 1, math.inf
    place = state.totals[0].active - 1
    while place >= 0:
        run = state.active[place]
        if world.queues[world.runs[run].queue].pool == pool and state.runs[run].worker == worker:
            end(world, state, run, CRASHED)
        place -= 1
    for run in range(world.settings[0].runs):
        run_state = state.runs[run]
        here = world.queues[world.runs[run].queue].pool == pool and run_state.worker == worker
        if run_state.phase == RESUMING and here:
            state.totals[0].away -= 1
            worker_state.active -= 1
            retry_or_finish(world, state, run, CRASHED)


@compiled
def come_back(world: WorldRow, state: StateRow, worker: int) -> None:
    """A worker that had died is started again, and polls at once."""
    pool = world.workers[worker].pool
    worker_state = state.workers[worker]
    worker_state.dead, worker_state.needs_dispatch = 0, 1
    state.pools[pool].needs_dispatch = 1
    if world.pools[pool].poll_s > 0:
        worker_state.next_poll_s = state.totals[0].now_s
