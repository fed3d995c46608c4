"""The event loop of one world: find what happens next, let time pass, let it happen.

At one instant things happen in this order: runs end, timers go off (in the order of their kinds in `state`), runs
arrive, the spot market takes slots, prices change, workers poll. Ties inside a kind go by number. Nothing else decides
an order, so the same world and the same plans give the same log, bit for bit.

To follow one run: `enter` puts it in its queue when it is due, `dispatch` claims it at a poll, `seat` finds it a slot
to start in, `start` lets it work, `end` frees the slot and `finish` closes it (all in `lifecycle` and `capacity`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefect_intelligent.twin.engine.heap import pop_timer
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import POLL, RACE, RECLAIM, stream_key, uniform, uniform_at
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.nodes import (
    busy_usd,
    drop_nodes,
    idle_usd,
    lateness_usd,
    owned_slots,
    place_waiting,
    scale,
    set_timer,
    shrink,
)
from prefect_intelligent.twin.model.run_lifecycle import (
    claim,
    end,
    enter,
    enters_s,
    finish,
    release,
    resume,
    start,
    wait,
)
from prefect_intelligent.twin.model.state import (
    BORN,
    CANCELLED,
    COMPLETED,
    CRASHED,
    DELAYED,
    DROPPED,
    FAILED,
    LATE,
    NODE,
    PENDING,
    REENTER,
    RESUME,
    RESUMING,
    RUNNING,
    SHRINK,
    STARTED,
    TIMEOUT,
    UNBORN,
)

END, TIMER, ARRIVAL, RECLAIMED, PRICED, POLLED = 0, 1, 2, 3, 4, 5


@compiled
def begin(world: Any, state: Any) -> None:
    """Set the state of one world to its beginning; all tables of the state must be zero."""
    clock = state.clock[0]
    clock.now_s = world.settings[0].start_s
    for run in range(world.settings[0].runs):
        mine, truth = state.runs[run], world.runs[run]
        mine.scheduled_s, mine.due_s, mine.unmet = truth.scheduled_s, truth.due_s, truth.upstreams
        mine.first_claimed_s, mine.finished_s = math.nan, math.nan
    for load in range(state.loads.shape[0]):
        crew = state.loads[load]
        crew.speed, crew.anchor_s, crew.next_s = 1.0, clock.now_s, math.inf
    for queue in range(state.queues.shape[0]):
        lane, given = state.queues[queue], world.queues[queue]
        lane.priority, lane.limit, lane.paused, lane.rate_s = given.priority, given.limit, given.paused, clock.now_s
    for pool in range(state.pools.shape[0]):
        mine, given = state.pools[pool], world.pools[pool]
        mine.limit, mine.paused, mine.line_head, mine.line_tail = given.limit, given.paused, -1, -1
        mine.next_poll_s = math.inf
        if given.poll_s > 0:
            mine.poll_name = stream_key(world.settings[0].seed, POLL, pool)
            mine.next_poll_s = clock.now_s + given.poll_s * uniform_at(mine.poll_name, 0)
        if given.owned != 0:  # what the limit asks for is there from the beginning
            slots = min(mine.limit, given.max_slots)
            if given.follows_demand != 0:
                slots = 0.0
            mine.nodes = math.ceil(max(slots, given.min_slots) / given.node_slots)
            for node in range(mine.nodes):
                state.node_since[pool, node] = clock.now_s
        while mine.price < world.prices.shape[1] and world.prices[pool, mine.price].at_s <= clock.now_s:
            mine.usd_per_hour = world.prices[pool, mine.price].usd_per_hour
            mine.price += 1
        event_log.append(state, event_log.OWNED, -1, pool, mine.nodes * given.node_slots)
        event_log.append(state, event_log.PRICED, -1, pool, mine.usd_per_hour)
        order_queues(state, pool)


@compiled
def order_queues(state: Any, pool: int) -> None:
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
        state.queues[pool * width + place].served = queue


@compiled
def run_until(world: Any, state: Any, until_s: float, stop_when_over: bool) -> None:
    """Let one world run to an instant, events at it included; or, if asked, to the end of its last run.

    Stops early, with `clock.full`, if the log is full.
    """
    clock = state.clock[0]
    clock.full = 0
    at_once = False
    for pool in range(state.pools.shape[0]):
        at_once = at_once or world.pools[pool].poll_s == 0
    coming, reach_s = next_arrival(world, state)
    while True:
        if state.log.shape[0] > 0 and state.log.shape[0] - clock.logged < 4 * state.runs.shape[0] + 64:
            clock.full = 1
            return
        if stop_when_over and clock.ended >= world.settings[0].runs:
            return
        at_s, what, which = math.inf, -1, -1
        for load in range(state.loads.shape[0]):
            if state.loads[load].next_s < at_s:
                at_s, what, which = state.loads[load].next_s, END, load
        if clock.timers > 0 and state.timers[0].at_s < at_s:
            at_s, what = state.timers[0].at_s, TIMER
        if reach_s < at_s:
            at_s, what, which = reach_s, ARRIVAL, coming
        if clock.reclaim < world.reclaims.shape[0] and world.reclaims[clock.reclaim].at_s < at_s:
            at_s, what = world.reclaims[clock.reclaim].at_s, RECLAIMED
        for pool in range(state.pools.shape[0]):
            mine = state.pools[pool]
            if mine.price < world.prices.shape[1] and world.prices[pool, mine.price].at_s < at_s:
                at_s, what, which = world.prices[pool, mine.price].at_s, PRICED, pool
        for pool in range(state.pools.shape[0]):
            mine = state.pools[pool]
            if mine.stirred == 0 and world.pools[pool].overshoot == 0:
                while mine.next_poll_s < at_s and mine.next_poll_s <= until_s:  # finds what the last one left
                    plan_poll(world, state, pool)
            if mine.next_poll_s < at_s:
                at_s, what, which = mine.next_poll_s, POLLED, pool
        if at_once and at_s > clock.now_s and dispatch_immediately(world, state):
            continue  # at once, but not before all that happens at this instant
        if at_s > until_s or what < 0:
            accrue_cost_until(world, state, until_s)
            return
        accrue_cost_until(world, state, max(at_s, clock.now_s))
        if what != POLLED:
            clock.events += 1
        if what == END:
            run = state.executing[world.loads[which].first]
            end(world, state, run, int(np.int64(state.runs[run].outcome)))
        elif what == TIMER:
            fire_timer(world, state)
        elif what == ARRIVAL:
            clock.arrival += 1
            enter(world, state, which, world.runs[which].scheduled_s, world.runs[which].due_s)
            coming, reach_s = next_arrival(world, state)
        elif what == RECLAIMED:
            reclaim(world, state)
        elif what == PRICED:
            mine = state.pools[which]
            mine.usd_per_hour = world.prices[which, mine.price].usd_per_hour
            mine.price += 1
            event_log.append(state, event_log.PRICED, -1, which, mine.usd_per_hour)
        else:
            poll(world, state, which)


@inlined
def next_arrival(world: Any, state: Any) -> tuple[int, float]:
    """The run that comes next, and when; -1 and never after the last."""
    if state.clock[0].arrival >= world.settings[0].arrivals:
        return -1, math.inf
    run = world.arrivals[state.clock[0].arrival]
    return run, enters_s(world, run)


@inlined
def accrue_cost_until(world: Any, state: Any, at_s: float) -> None:
    """Let money accrue up to an instant at which nothing has happened yet."""
    clock = state.clock[0]
    span_s = at_s - clock.now_s
    if span_s > 0:
        clock.lateness_usd += lateness_usd(span_s, clock.late_usd_per_hour, world.settings[0].lateness_weight)
        for pool in range(state.pools.shape[0]):
            mine, terms = state.pools[pool], world.pools[pool]
            if mine.seated > 0:
                clock.busy_usd += busy_usd(span_s * mine.seated, mine.usd_per_hour, 0.0)
            if terms.owned != 0:
                idle = max((mine.nodes + mine.ordered) * terms.node_slots - mine.seated, 0.0)
                clock.idle_usd += idle_usd(span_s * idle, mine.usd_per_hour, terms.idle_fraction)
    clock.now_s = at_s


@compiled
def fire_timer(world: Any, state: Any) -> None:
    """Handle the first timer; one that no longer means anything is dropped."""
    kind, who = state.timers[0].kind, state.timers[0].who
    now_s = state.clock[0].now_s
    pop_timer(state.timers, state.clock[0].timers)
    state.clock[0].timers -= 1
    if kind == NODE:
        state.pools[who].ordered -= 1
        state.pools[who].nodes += 1
        state.pools[who].stirred = 1
        place_waiting(world, state, who)
        scale(world, state, who)
        return
    if kind == SHRINK:
        state.pools[who].shrinking = 0
        shrink(world, state, who)
        return
    mine = state.runs[who]
    if kind == LATE:
        if mine.phase < COMPLETED and mine.late == 0:
            mine.late = 1
            state.clock[0].late += 1
            state.clock[0].late_usd_per_hour += world.deployments[world.runs[who].deployment].late_usd_per_hour
            event_log.append(state, event_log.LATE, who, world.runs[who].queue, now_s)
    elif kind == STARTED:
        if mine.phase == PENDING and mine.wake_s == now_s:
            start(world, state, who)
    elif kind == TIMEOUT:
        mine.timed = 0
        if mine.phase == RUNNING:
            ends_s = mine.started_s + world.deployments[world.runs[who].deployment].timeout_s
            if ends_s > now_s:  # set for an earlier attempt
                mine.timed = 1
                set_timer(state, ends_s, TIMEOUT, who)
            else:
                end(world, state, who, FAILED)
    elif kind == REENTER:
        if mine.phase == DELAYED and mine.wake_s == now_s:
            state.clock[0].away -= 1
            wait(world, state, who, now_s)
    elif kind == RESUME:
        if mine.phase == RESUMING and mine.wake_s == now_s:
            state.clock[0].away -= 1
            resume(world, state, who)
    elif kind == BORN:
        release(world, state, who)
    elif kind == DROPPED and mine.phase == UNBORN:
        finish(world, state, who, CANCELLED)


@compiled
def reclaim(world: Any, state: Any) -> None:
    """The spot market takes a share of a pool's nodes; the runs on them crash."""
    taken = world.reclaims[state.clock[0].reclaim]
    pool, number = taken.pool, state.clock[0].reclaim
    state.clock[0].reclaim += 1
    terms, mine = world.pools[pool], state.pools[pool]
    if terms.owned != 0:
        drop_nodes(world, state, pool, math.ceil(taken.share * mine.nodes))
    position = state.clock[0].active - 1
    while position >= 0:
        run = state.active[position]
        if world.queues[world.runs[run].queue].pool == pool and state.runs[run].seated != 0:
            crowded = terms.owned != 0 and mine.seated > owned_slots(world, state, pool)
            if crowded or (terms.owned == 0 and uniform(world.settings[0].seed, RECLAIM, run, number) < taken.share):
                end(world, state, run, CRASHED)
        position -= 1
    scale(world, state, pool)


@compiled
def poll(world: Any, state: Any, pool: int) -> None:
    """A worker asks for runs and submits them."""
    plan_poll(world, state, pool)
    dispatch(world, state, pool)


@inlined
def plan_poll(world: Any, state: Any, pool: int) -> None:
    """Set the instant of the poll after the next."""
    mine, terms = state.pools[pool], world.pools[pool]
    mine.polls += 1
    stretch = 1.0 + terms.poll_jitter * (2.0 * uniform_at(mine.poll_name, mine.polls) - 1.0)
    mine.next_poll_s += terms.poll_s * stretch


@inlined
def dispatch_immediately(world: Any, state: Any) -> bool:
    """For pools that do not poll: hand out runs as soon as anything has changed. Whether anything had."""
    any_stirred = False
    for pool in range(state.pools.shape[0]):
        if world.pools[pool].poll_s == 0 and state.pools[pool].stirred != 0:
            any_stirred = True
            dispatch(world, state, pool)
    return any_stirred


@compiled
def dispatch(world: Any, state: Any, pool: int) -> None:
    """Claim runs: strict priority, first scheduled first within equal priorities, up to the limits.

    A worker that polls right after a change may not yet see the claims of the poll before: limits are advisory.
    """
    mine, terms = state.pools[pool], world.pools[pool]
    width = state.queues.shape[0] // state.pools.shape[0]
    racing = 0
    if mine.changed != 0 and terms.overshoot > 0:
        racing = 1 if uniform(world.settings[0].seed, RACE, pool, mine.polls) < terms.overshoot else 0
    mine.changed, mine.stirred = 0, 0
    room = mine.limit - mine.active + racing * mine.fresh
    if terms.owned != 0 and terms.claims_ahead == 0:
        room = min(room, owned_slots(world, state, pool) - mine.seated)
    if terms.overshoot > 0:
        mine.fresh = 0
        for queue in range(pool * width, (pool + 1) * width):
            lane = state.queues[queue]
            lane.unseen, lane.fresh = racing * lane.fresh, 0
    taken = 0
    while room >= 1.0 and taken < terms.poll_batch and mine.paused == 0:
        queue = first_in_line(world, state, pool)
        if queue < 0:
            return
        taken += 1
        state.clock[0].events += 1
        if claim(world, state, queue) or terms.poll_s > 0:
            room -= 1.0
        else:
            mine.stirred = 1
    if terms.poll_s > 0 and taken > 0:
        mine.stirred = 1  # some may have bounced, or the batch was full


@inlined
def first_in_line(world: Any, state: Any, pool: int) -> int:
    """The queue whose first run is served next, or -1 if none may be."""
    width = state.queues.shape[0] // state.pools.shape[0]
    best, best_priority, best_key, best_run = -1, math.inf, math.inf, -1
    for queue in range(pool * width, (pool + 1) * width):
        lane = state.queues[queue]
        if lane.waiting == 0 or lane.priority > best_priority or lane.paused != 0:
            continue
        if lane.active - lane.unseen >= lane.limit:
            continue
        run = state.waiting[world.queues[queue].first]
        key = state.keys[run]
        if lane.priority < best_priority or key < best_key or (key == best_key and run < best_run):
            best, best_priority, best_key, best_run = queue, lane.priority, key, run
    return best
