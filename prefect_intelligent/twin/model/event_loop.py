"""The event loop of one world: find what happens next, let time pass, let it happen.

At one instant things happen in this order: runs end, timers go off (in the order of their kinds in `timers`), runs
arrive, the spot market takes slots, prices change, workers poll. Ties inside a kind go by number. Nothing else decides
an order, so the same world and the same plans give the same log, bit for bit.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from prefect_intelligent.twin.engine.heap import pop_timer
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import POLL, RECLAIM, stream_key, uniform, uniform_at
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.children import call_children, go_on
from prefect_intelligent.twin.model.costs import busy_usd, idle_usd, lateness_usd
from prefect_intelligent.twin.model.dispatch import dispatch_immediately, plan_poll, poll
from prefect_intelligent.twin.model.nodes import bought_slots, drop_nodes, owned_slots, place_waiting, scale
from prefect_intelligent.twin.model.run_lifecycle import (
    call_late,
    end,
    enqueue,
    enter,
    enters_s,
    finish,
    release,
    resume,
    start,
)
from prefect_intelligent.twin.model.state import (
    BEFORE_CALL,
    CANCELLED,
    COMPLETED,
    CRASHED,
    DELAYED,
    FAILED,
    NOT_CREATED,
    PENDING,
    RESUMING,
    RUNNING,
    WAITS_FOR_CHILDREN,
    StateRow,
)
from prefect_intelligent.twin.model.timers import (
    ADD_NODE,
    CALL_LATE,
    COME_BACK,
    DIE,
    DROP,
    GO_ON,
    MARK_LATE,
    REENTER,
    RELEASE,
    RESUME,
    SHRINK,
    START,
    TIME_OUT,
    set_timer,
)
from prefect_intelligent.twin.model.workers import begin_workers, come_back, die, next_worker_poll, poll_as
from prefect_intelligent.twin.model.world import WorldRow

RUN_ENDS, TIMER_GOES_OFF, RUN_ARRIVES, SPOT_RECLAIMS, PRICE_CHANGES, POOL_POLLS, WORKER_POLLS = 0, 1, 2, 3, 4, 5, 6
"""What may happen next, in the order in which it does at the same instant."""

_LOG_ROOM: Final = 64
"""Entries, besides four per run, for which a log must have room before an event: one event may write many."""


@compiled
def begin(world: WorldRow, state: StateRow) -> None:
    """Set the state of one world to its beginning; all tables of the state must be zero."""
    totals = state.totals[0]
    totals.now_s = world.settings[0].start_s
    for run in range(world.settings[0].runs):
        run_state, run_spec = state.runs[run], world.runs[run]
        run_state.scheduled_s, run_state.due_s = run_spec.scheduled_s, run_spec.due_s
        run_state.upstreams_left = run_spec.upstreams
        run_state.first_claimed_s, run_state.finished_s = math.nan, math.nan
    for group in range(state.contention_groups.shape[0]):
        group_state = state.contention_groups[group]
        group_state.speed, group_state.anchor_s, group_state.next_end_s = 1.0, totals.now_s, math.inf
    for queue in range(state.queues.shape[0]):
        queue_state, queue_spec = state.queues[queue], world.queues[queue]
        queue_state.priority, queue_state.limit = queue_spec.priority, queue_spec.limit
        queue_state.paused, queue_state.arrivals_at_s = queue_spec.paused, totals.now_s
    for pool in range(state.pools.shape[0]):
        _begin_pool(world, state, pool)
    begin_workers(world, state)


@inlined
def _begin_pool(world: WorldRow, state: StateRow, pool: int) -> None:
    """Settings, first poll, nodes and price of a pool."""
    now_s = state.totals[0].now_s
    pool_state, pool_spec = state.pools[pool], world.pools[pool]
    pool_state.limit, pool_state.paused = pool_spec.limit, pool_spec.paused
    pool_state.line_head, pool_state.line_tail = -1, -1
    pool_state.next_poll_s = math.inf
    if pool_spec.poll_s > 0:
        pool_state.poll_stream = stream_key(world.settings[0].seed, POLL, pool)
        pool_state.next_poll_s = now_s + pool_spec.poll_s * uniform_at(pool_state.poll_stream, 0)
    if pool_spec.owned != 0:  # what the limit asks for is there from the beginning
        slots = min(pool_state.limit, pool_spec.max_slots)
        if pool_spec.follows_demand != 0:
            slots = 0.0
        pool_state.nodes = math.ceil(max(slots, pool_spec.min_slots) / pool_spec.node_slots)
        for node in range(pool_state.nodes):
            state.node_since[pool, node] = now_s
    while pool_state.next_price < world.prices.shape[1] and world.prices[pool, pool_state.next_price].at_s <= now_s:
        pool_state.usd_per_hour = world.prices[pool, pool_state.next_price].usd_per_hour
        pool_state.next_price += 1
    event_log.append(state, event_log.OWNED, -1, pool, bought_slots(world, state, pool))
    event_log.append(state, event_log.PRICED, -1, pool, pool_state.usd_per_hour)
    order_queues(state, pool)


@compiled
def order_queues(state: StateRow, pool: int) -> None:
    """Number the queues of a pool in their serving order: by priority, ties by number."""
    width = state.queues.shape[0] // state.pools.shape[0]
    for queue in range(pool * width, (pool + 1) * width):
        place = 0
        for other in range(pool * width, (pool + 1) * width):
            if state.queues[other].priority < state.queues[queue].priority or (
                state.queues[other].priority == state.queues[queue].priority and other < queue
            ):
                place += 1
        state.queues[queue].place = place
        state.queues[pool * width + place].queue_at_place = queue


@compiled
def run_until(world: WorldRow, state: StateRow, until_s: float, stop_when_over: bool) -> None:
    """Let one world run to an instant, events at it included; or, if asked, to the end of its last run.

    Stops early, with `totals.log_full` set, if the log has no room.
    """
    totals = state.totals[0]
    totals.log_full = 0
    at_once = False
    for pool in range(state.pools.shape[0]):
        at_once = at_once or world.pools[pool].poll_s == 0
    arriving, arrives_s = next_arrival(world, state)
    while True:
        if state.log.shape[0] > 0 and state.log.shape[0] - totals.logged < 4 * state.runs.shape[0] + _LOG_ROOM:
            totals.log_full = 1
            return
        if stop_when_over and totals.ended >= world.settings[0].runs:
            return
        at_s, what, which = math.inf, -1, -1
        for group in range(state.contention_groups.shape[0]):
            if state.contention_groups[group].next_end_s < at_s:
                at_s, what, which = state.contention_groups[group].next_end_s, RUN_ENDS, group
        if totals.timers > 0 and state.timers[0].at_s < at_s:
            at_s, what = state.timers[0].at_s, TIMER_GOES_OFF
        if arrives_s < at_s:
            at_s, what, which = arrives_s, RUN_ARRIVES, arriving
        if totals.next_reclaim < world.reclaims.shape[0] and world.reclaims[totals.next_reclaim].at_s < at_s:
            at_s, what = world.reclaims[totals.next_reclaim].at_s, SPOT_RECLAIMS
        for pool in range(state.pools.shape[0]):
            next_price = state.pools[pool].next_price
            if next_price < world.prices.shape[1] and world.prices[pool, next_price].at_s < at_s:
                at_s, what, which = world.prices[pool, next_price].at_s, PRICE_CHANGES, pool
        for pool in range(state.pools.shape[0]):
            pool_state = state.pools[pool]
            if pool_state.needs_dispatch == 0 and world.pools[pool].overshoot == 0:
                while pool_state.next_poll_s < at_s and pool_state.next_poll_s <= until_s:
                    plan_poll(world, state, pool)  # this poll would claim nothing
            if pool_state.next_poll_s < at_s:
                at_s, what, which = pool_state.next_poll_s, POOL_POLLS, pool
        if state.workers.shape[0] > 0:
            worker, polls_s = next_worker_poll(world, state, at_s, until_s)
            if worker >= 0:
                at_s, what, which = polls_s, WORKER_POLLS, worker
        if at_once and at_s > totals.now_s and dispatch_immediately(world, state):
            continue  # at once, but not before all that happens at this instant
        if at_s > until_s or what < 0:
            accrue_cost_until(world, state, until_s)
            return
        accrue_cost_until(world, state, max(at_s, totals.now_s))
        if what < POOL_POLLS:
            totals.events += 1
        if what == RUN_ENDS:
            run = state.executing[world.contention_groups[which].heap_start]
            if state.runs[run].calling != BEFORE_CALL or not call_children(world, state, run):
                end(world, state, run, int(np.int64(state.runs[run].outcome)))
        elif what == TIMER_GOES_OFF:
            fire_timer(world, state)
        elif what == RUN_ARRIVES:
            totals.next_arrival += 1
            enter(world, state, which, world.runs[which].scheduled_s, world.runs[which].due_s)
            arriving, arrives_s = next_arrival(world, state)
        elif what == SPOT_RECLAIMS:
            reclaim(world, state)
        elif what == PRICE_CHANGES:
            pool_state = state.pools[which]
            pool_state.usd_per_hour = world.prices[which, pool_state.next_price].usd_per_hour
            pool_state.next_price += 1
            event_log.append(state, event_log.PRICED, -1, which, pool_state.usd_per_hour)
        elif what == POOL_POLLS:
            poll(world, state, which)
        else:
            poll_as(world, state, which)


@inlined
def next_arrival(world: WorldRow, state: StateRow) -> tuple[int, float]:
    """The run without upstreams that comes next, and when; -1 and never after the last."""
    if state.totals[0].next_arrival >= world.settings[0].arrivals:
        return -1, math.inf
    run = world.arrivals[state.totals[0].next_arrival]
    return run, enters_s(world, run)


@inlined
def accrue_cost_until(world: WorldRow, state: StateRow, at_s: float) -> None:
    """Move the world on to an instant, and charge for the time until then, in which nothing has happened."""
    totals = state.totals[0]
    span_s = at_s - totals.now_s
    if span_s > 0:
        totals.lateness_usd += lateness_usd(span_s, totals.late_usd_per_hour, world.settings[0].lateness_weight)
        for pool in range(state.pools.shape[0]):
            pool_state, pool_spec = state.pools[pool], world.pools[pool]
            if pool_state.placed > 0:
                totals.busy_usd += busy_usd(span_s * pool_state.placed, pool_state.usd_per_hour, 0.0)
            if pool_spec.owned != 0:
                idle = max(bought_slots(world, state, pool) - pool_state.placed, 0.0)
                totals.idle_usd += idle_usd(span_s * idle, pool_state.usd_per_hour, pool_spec.idle_fraction)
    totals.now_s = at_s


@compiled
def fire_timer(world: WorldRow, state: StateRow) -> None:
    """Do what the first timer is for; one that no longer fits the state of its target is dropped."""
    kind, target = state.timers[0].kind, state.timers[0].target
    now_s = state.totals[0].now_s
    pop_timer(state.timers, state.totals[0].timers)
    state.totals[0].timers -= 1
    if kind == ADD_NODE:
        state.pools[target].nodes_ordered -= 1
        state.pools[target].nodes += 1
        state.pools[target].needs_dispatch = 1
        place_waiting(world, state, target)
        scale(world, state, target)
        return
    if kind == SHRINK:
        state.pools[target].shrink_set = 0
        scale(world, state, target)
        return
    if kind == DIE:
        die(world, state, target)
        return
    if kind == COME_BACK:
        come_back(world, state, target)
        return
    run_state = state.runs[target]
    if kind == MARK_LATE:
        if run_state.phase < COMPLETED and run_state.late == 0:
            run_state.late = 1
            state.totals[0].late += 1
            late_usd_per_hour = world.deployments[world.runs[target].deployment].late_usd_per_hour
            state.totals[0].late_usd_per_hour += late_usd_per_hour
            event_log.append(state, event_log.LATE, target, world.runs[target].queue, now_s)
    elif kind == START:
        if run_state.phase == PENDING and run_state.wake_s == now_s:
            start(world, state, target)
    elif kind == TIME_OUT:
        run_state.timeout_set = 0
        if run_state.phase == RUNNING:
            ends_s = run_state.started_s + world.deployments[world.runs[target].deployment].timeout_s
            if ends_s > now_s:  # set for an earlier attempt
                run_state.timeout_set = 1
                set_timer(state, ends_s, TIME_OUT, target)
            else:
                end(world, state, target, FAILED)
    elif kind == REENTER:
        if run_state.phase == DELAYED and run_state.wake_s == now_s:
            state.totals[0].away -= 1
            enqueue(world, state, target, now_s)
    elif kind == RESUME:
        if run_state.phase == RESUMING and run_state.wake_s == now_s:
            state.totals[0].away -= 1
            resume(world, state, target)
    elif kind == RELEASE:
        release(world, state, target)
    elif kind == DROP and run_state.phase == NOT_CREATED:
        finish(world, state, target, CANCELLED)
    elif kind == GO_ON:
        waits = run_state.phase == RUNNING and run_state.calling == WAITS_FOR_CHILDREN
        if waits and not go_on(world, state, target):
            end(world, state, target, FAILED)
    elif kind == CALL_LATE:
        call_late(world, state, target)


@compiled
def reclaim(world: WorldRow, state: StateRow) -> None:
    """The spot market takes a share of a pool's nodes; the runs on them crash."""
    number = state.totals[0].next_reclaim
    taken = world.reclaims[number]
    pool = taken.pool
    state.totals[0].next_reclaim += 1
    pool_spec, pool_state = world.pools[pool], state.pools[pool]
    if pool_spec.owned != 0:
        drop_nodes(world, state, pool, math.ceil(taken.share * pool_state.nodes))
    position = state.totals[0].active - 1
    while position >= 0:
        run = state.active[position]
        if world.queues[world.runs[run].queue].pool == pool and state.runs[run].placed != 0:
            if pool_spec.owned != 0:
                crashes = pool_state.placed > owned_slots(world, state, pool)
            else:
                crashes = uniform(world.settings[0].seed, RECLAIM, run, number) < taken.share
            if crashes:
                end(world, state, run, CRASHED)
        position -= 1
    scale(world, state, pool)
