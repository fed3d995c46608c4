"""How runs get slots: workers poll, queues are served by priority, and a run is claimed if every limit has room."""

from __future__ import annotations

import math
from typing import Final

from prefect_intelligent.twin.engine.heap import pop
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import RACE, uniform, uniform_at
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.nodes import enqueue_for_node, owned_slots, place_on_node, scale
from prefect_intelligent.twin.model.run_lifecycle import finish, start, take_slot
from prefect_intelligent.twin.model.state import CANCELLED, DELAYED, PENDING, StateRow
from prefect_intelligent.twin.model.timers import REENTER, START, set_timer
from prefect_intelligent.twin.model.world import WorldRow

NO_WORKER: Final = -1
"""Stands for all workers of a pool as one."""


@compiled
def poll(world: WorldRow, state: StateRow, pool: int) -> None:
    """A worker asks for runs and submits them."""
    plan_poll(world, state, pool)
    dispatch(world, state, pool, NO_WORKER)


@inlined
def plan_poll(world: WorldRow, state: StateRow, pool: int) -> None:
    """Move the next poll of a pool on by one period."""
    pool_state, pool_spec = state.pools[pool], world.pools[pool]
    pool_state.polls += 1
    stretch = 1.0 + pool_spec.poll_jitter * (2.0 * uniform_at(pool_state.poll_stream, pool_state.polls) - 1.0)
    pool_state.next_poll_s += pool_spec.poll_s * stretch


@inlined
def dispatch_immediately(world: WorldRow, state: StateRow) -> bool:
    """For pools that do not poll: hand out runs as soon as anything has changed. Whether anything had."""
    any_dispatched = False
    for pool in range(state.pools.shape[0]):
        if world.pools[pool].poll_s == 0 and state.pools[pool].needs_dispatch != 0:
            any_dispatched = True
            if world.pools[pool].workers == 0:
                dispatch(world, state, pool, NO_WORKER)
            else:
                dispatch_to_workers(world, state, pool)
    return any_dispatched


@compiled
def dispatch_to_workers(world: WorldRow, state: StateRow, pool: int) -> None:
    """Let each worker of a pool that does not poll take what it can, in their order."""
    pool_spec, again = world.pools[pool], 0
    for worker in range(pool_spec.first_worker, pool_spec.first_worker + pool_spec.workers):
        if state.workers[worker].dead == 0:
            dispatch(world, state, pool, worker)
            again |= state.pools[pool].needs_dispatch
    state.pools[pool].needs_dispatch = again


@compiled
def dispatch(world: WorldRow, state: StateRow, pool: int, worker: int) -> None:
    """Claim runs: strict priority, first scheduled first within equal priorities, up to the limits.

    A worker that polls right after a change of settings may not yet see the claims of the poll before: limits are
    advisory, and are then exceeded by as many runs at most.

    Args:
        world: What is given.
        state: What changes.
        pool: The pool.
        worker: Who asks: one of its workers, which takes runs of the queues that it polls up to its limit, or
            `NO_WORKER`.
    """
    pool_state, pool_spec = state.pools[pool], world.pools[pool]
    width = state.queues.shape[0] // state.pools.shape[0]
    racing = 0
    if pool_state.plan_changed != 0 and pool_spec.overshoot > 0:
        racing = 1 if uniform(world.settings[0].seed, RACE, pool, pool_state.polls) < pool_spec.overshoot else 0
    pool_state.plan_changed, pool_state.needs_dispatch = 0, 0
    room = pool_state.limit - pool_state.active + racing * pool_state.claimed_last_poll
    if pool_spec.owned != 0 and pool_spec.claims_ahead == 0:
        room = min(room, owned_slots(world, state, pool) - pool_state.placed)
    if worker >= 0:
        room = min(room, world.workers[worker].limit - state.workers[worker].active)
    if pool_spec.overshoot > 0:
        pool_state.claimed_last_poll = 0
        for queue in range(pool * width, (pool + 1) * width):
            queue_state = state.queues[queue]
            queue_state.not_yet_visible, queue_state.claimed_last_poll = racing * queue_state.claimed_last_poll, 0
    taken = 0
    while room >= 1.0 and taken < pool_spec.poll_batch and pool_state.paused == 0:
        queue = next_queue(world, state, pool, worker)
        if queue < 0:
            return
        taken += 1
        state.totals[0].events += 1
        if claim(world, state, queue, worker) or pool_spec.poll_s > 0:
            room -= 1.0
        else:
            pool_state.needs_dispatch = 1
    if pool_spec.poll_s > 0 and taken > 0:
        pool_state.needs_dispatch = 1  # some may have bounced, or the batch was full


@inlined
def next_queue(world: WorldRow, state: StateRow, pool: int, worker: int) -> int:
    """The queue whose first run is served next, or -1 if none may be."""
    width = state.queues.shape[0] // state.pools.shape[0]
    best, best_priority, best_key, best_run = -1, math.inf, math.inf, -1
    for queue in range(pool * width, (pool + 1) * width):
        queue_state = state.queues[queue]
        if queue_state.waiting == 0 or queue_state.priority > best_priority or queue_state.paused != 0:
            continue
        if queue_state.active - queue_state.not_yet_visible >= queue_state.limit:
            continue
        if worker >= 0 and world.polled[worker, queue] == 0:
            continue
        run = state.waiting[world.queues[queue].heap_start]
        key = state.keys[run]
        if queue_state.priority < best_priority or key < best_key or (key == best_key and run < best_run):
            best, best_priority, best_key, best_run = queue, queue_state.priority, key, run
    return best


@inlined
def claim(world: WorldRow, state: StateRow, queue: int, worker: int) -> bool:
    """A worker takes the first run of a queue: it holds a slot from now on. False if its deployment was full."""
    queue_state = state.queues[queue]
    run = pop(state.waiting, world.queues[queue].heap_start, queue_state.waiting, state.keys)
    queue_state.waiting -= 1
    deployment = world.runs[run].deployment
    deployment_spec = world.deployments[deployment]
    if state.deployment_active[deployment_spec.limit_group] >= deployment_spec.limit:
        if deployment_spec.cancels_new != 0:
            finish(world, state, run, CANCELLED)
            return False
        run_state = state.runs[run]
        run_state.phase = DELAYED
        run_state.wake_s = state.totals[0].now_s + world.pools[world.queues[queue].pool].slot_wait_s
        state.totals[0].away += 1
        set_timer(state, run_state.wake_s, REENTER, run)
        event_log.append(state, event_log.BOUNCED, run, queue, run_state.wake_s)
        return False
    take_slot(world, state, run)
    if worker >= 0:
        state.runs[run].worker = worker
        state.workers[worker].active += 1
    queue_state.claimed_last_poll += 1
    pool = world.queues[queue].pool
    state.pools[pool].claimed_last_poll += 1
    state.runs[run].phase = PENDING
    if world.pools[pool].owned == 0 or state.pools[pool].placed < owned_slots(world, state, pool):
        up_s = place_on_node(world, state, pool, run)
        if up_s > state.totals[0].now_s:
            set_timer(state, up_s, START, run)
        else:
            start(world, state, run)
    else:
        enqueue_for_node(state, pool, run)
    if world.pools[pool].follows_demand != 0 or state.pools[pool].surplus > 0:
        scale(world, state, pool)
    return True
