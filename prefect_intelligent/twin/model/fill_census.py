"""Fill the columns of `policy.census` from the tables of a world, as `take_census` does from a snapshot."""

from __future__ import annotations

import math
from typing import Any, Final

from prefect_intelligent.policy.census import LOOK_AHEAD_S, P, Q
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.model.run_lifecycle import ARRIVAL_MEMORY_S, enters_s
from prefect_intelligent.twin.model.state import DELAYED, REENTER, RESUME, RESUMING

PRESENT: Final = int(Q.PRESENT)
"""Marks rows that are filled; the other columns are used as `Q.NAME`."""


@compiled
def fill_census(world: Any, state: Any, queues: Any, pools: Any) -> None:
    """Write the census of one world.

    Args:
        world: Its tables.
        state: Its state.
        queues: Shape (queues, len(Q)), overwritten.
        pools: Shape (pools, len(P)), overwritten.
    """
    queues[:] = 0.0
    now_s = state.clock[0].now_s
    for queue in range(queues.shape[0]):
        if world.queues[queue].present != 0:
            _open_row(world, state, queue, queues[queue])
    for place in range(state.clock[0].active):
        run = state.active[place]
        queue = world.runs[run].queue
        _count_active(world, state, run, queues[queue])
    for queue in range(queues.shape[0]):
        if state.queues[queue].waiting > 0:
            _count_waiting(world, state, queue, queues[queue])
    if state.clock[0].away > 0:
        _count_away(world, state, queues)
    for place in range(state.clock[0].arrival, world.settings[0].arrivals):
        run = world.arrivals[place]
        truth = world.runs[run]
        in_s = truth.scheduled_s - now_s
        if in_s <= LOOK_AHEAD_S:
            if truth.known_s <= now_s:
                _count_upcoming(world, state, run, in_s, truth.due_s, queues[truth.queue])
        elif enters_s(world, run) - now_s > LOOK_AHEAD_S:
            break
    for queue in range(queues.shape[0]):
        if world.queues[queue].present != 0:
            _close_row(world, state, queue, queues[queue])
    for pool in range(pools.shape[0]):
        _count_pool(world, state, pool, pools[pool])


@inlined
def _open_row(world: Any, state: Any, queue: int, row: Any) -> None:
    """Settings, counts, and the values that mean "none"."""
    lane = state.queues[queue]
    row[PRESENT] = 1.0
    row[Q.PAUSED] = lane.paused
    row[Q.LIMIT] = lane.limit
    row[Q.RANK] = lane.place
    row[Q.ACTIVE] = lane.active
    age_s = state.clock[0].now_s - lane.rate_s
    row[Q.ARRIVALS_PER_HOUR] = 3600.0 * lane.rate_per_s * math.exp(-age_s / ARRIVAL_MEMORY_S)
    row[Q.HEAD_SLACK_S] = math.inf
    row[Q.URGENT_SLACK_S] = math.inf
    row[Q.DUE_IN_S] = math.inf
    row[Q.NEXT_IN_S] = math.inf
    row[Q.NEXT_SLACK_S] = math.inf
    lane.met = 0


@inlined
def _meet(world: Any, state: Any, run: int, row: Any) -> None:
    """Add a run to the sums over waiting, active and upcoming ones, and note its resources."""
    truth = world.runs[run]
    terms = world.deployments[truth.deployment]
    row[Q.ESTIMATE_S] += truth.p50_s
    row[Q.SPREAD] += truth.spread
    row[Q.USD_PER_HOUR] += terms.late_usd_per_hour
    state.queues[truth.queue].met |= world.loads[terms.load].resources


@inlined
def _count_active(world: Any, state: Any, run: int, row: Any) -> None:
    now_s, truth = state.clock[0].now_s, world.runs[run]
    used_s = max(0.0, now_s - state.runs[run].claimed_s)
    left_s = truth.p50_s - used_s
    row[Q.ACTIVE_LEFT_S] += left_s if left_s > 0 else max(1.0, -0.5 * left_s)
    if state.runs[run].due_s < now_s:
        row[Q.ACCRUING_USD_PER_HOUR] += world.deployments[truth.deployment].late_usd_per_hour
    _meet(world, state, run, row)


@compiled
def _count_waiting(world: Any, state: Any, queue: int, row: Any) -> None:
    """The runs in a queue's heap: those that are due wait, prefetched ones are still upcoming."""
    first, size = world.queues[queue].first, state.queues[queue].waiting
    now_s = state.clock[0].now_s
    waiting, late = 0, 0
    work_s, due_in_s, accruing, value, failing = 0.0, math.inf, row[Q.ACCRUING_USD_PER_HOUR], 0.0, 0.0
    estimate_s, spread, price, met = row[Q.ESTIMATE_S], row[Q.SPREAD], row[Q.USD_PER_HOUR], 0
    urgent, least_s = -1, math.inf
    for place in range(first, first + size):
        run = state.waiting[place]
        if state.keys[run] > now_s:
            continue
        truth, due_s = world.runs[run], state.runs[run].due_s
        terms = world.deployments[truth.deployment]
        slack_s = due_s - now_s - truth.p50_s
        if urgent < 0 or slack_s < least_s or (slack_s == least_s and _before(state, run, urgent)):
            urgent, least_s = run, slack_s
        waiting += 1
        late += slack_s < 0
        work_s += truth.p50_s
        due_in_s = min(due_in_s, due_s - now_s)
        if due_s < now_s:
            accruing += terms.late_usd_per_hour
        value += terms.late_usd_per_hour
        failing += terms.failure_probability
        estimate_s += truth.p50_s
        spread += truth.spread
        price += terms.late_usd_per_hour
        met |= world.loads[terms.load].resources
    row[Q.ESTIMATE_S], row[Q.SPREAD], row[Q.USD_PER_HOUR] = estimate_s, spread, price
    row[Q.WAITING], row[Q.WAITING_WORK_S], row[Q.LATE], row[Q.DUE_IN_S] = waiting, work_s, late, due_in_s
    row[Q.ACCRUING_USD_PER_HOUR], row[Q.VALUE_USD_PER_HOUR], row[Q.FAILURE_PROBABILITY] = accruing, value, failing
    state.queues[queue].met |= met
    if urgent >= 0:
        _describe_front(world, state, state.waiting[first], urgent, row)
        if urgent != state.waiting[first]:
            for place in range(first, first + size):
                if _before(state, state.waiting[place], urgent):
                    row[Q.URGENT_AHEAD_S] += world.runs[state.waiting[place]].p50_s
    if waiting < size:
        for place in range(first, first + size):
            run = state.waiting[place]
            if state.keys[run] > now_s:
                _count_upcoming(world, state, run, state.runs[run].scheduled_s - now_s, state.runs[run].due_s, row)


@inlined
def _describe_front(world: Any, state: Any, head: int, urgent: int, row: Any) -> None:
    """The run that is served next, and the one with the least slack."""
    now_s, first, other = state.clock[0].now_s, world.runs[head], world.runs[urgent]
    row[Q.HEAD_WAIT_S] = max(0.0, now_s - state.runs[head].scheduled_s)
    row[Q.HEAD_ESTIMATE_S] = first.p50_s
    row[Q.HEAD_SLACK_S] = state.runs[head].due_s - now_s - first.p50_s
    row[Q.HEAD_USD_PER_HOUR] = world.deployments[first.deployment].late_usd_per_hour
    row[Q.URGENT_ESTIMATE_S] = other.p50_s
    row[Q.URGENT_SLACK_S] = state.runs[urgent].due_s - now_s - other.p50_s
    row[Q.URGENT_USD_PER_HOUR] = world.deployments[other.deployment].late_usd_per_hour


@inlined
def _before(state: Any, run: int, other: int) -> bool:
    """Whether a waiting run is served before another of its queue."""
    return state.keys[run] < state.keys[other] or (state.keys[run] == state.keys[other] and run < other)


@compiled
def _count_away(world: Any, state: Any, queues: Any) -> None:
    """Runs that wait for a retry or for their deployment are upcoming."""
    for index in range(state.clock[0].timers):
        kind = state.timers[index].kind
        if kind in (REENTER, RESUME):
            run = state.timers[index].who
            mine, queue = state.runs[run], world.runs[run].queue
            if (mine.phase in (DELAYED, RESUMING)) and state.timers[index].at_s == mine.wake_s:
                in_s = mine.scheduled_s - state.clock[0].now_s  # below 0: it is to be tried again
                _count_upcoming(world, state, run, in_s, mine.due_s, queues[queue])


@inlined
def _count_upcoming(world: Any, state: Any, run: int, in_s: float, due_s: float, row: Any) -> None:
    truth = world.runs[run]
    row[Q.UPCOMING] += 1.0
    row[Q.UPCOMING_WORK_S] += truth.p50_s
    slack_s = due_s - state.clock[0].now_s - truth.p50_s
    if in_s < row[Q.NEXT_IN_S] or (in_s == row[Q.NEXT_IN_S] and slack_s < row[Q.NEXT_SLACK_S]):
        row[Q.NEXT_IN_S], row[Q.NEXT_SLACK_S] = in_s, slack_s
    _meet(world, state, run, row)


@inlined
def _close_row(world: Any, state: Any, queue: int, row: Any) -> None:
    """Sums become means; the resources met become the tightest of them."""
    row[Q.NEXT_IN_S] = max(0.0, row[Q.NEXT_IN_S])
    known = row[Q.WAITING] + row[Q.ACTIVE] + row[Q.UPCOMING]
    if known > 0:
        row[Q.ESTIMATE_S] /= known
        row[Q.SPREAD] /= known
        row[Q.USD_PER_HOUR] /= known
    if row[Q.WAITING] > 0:
        row[Q.FAILURE_PROBABILITY] /= row[Q.WAITING]
    met = state.queues[queue].met
    row[Q.RESOURCE_CAPACITY] = math.inf
    for resource in range(state.using.shape[0]):
        capacity = world.resources[resource].capacity
        if (met >> resource) & 1 and capacity < row[Q.RESOURCE_CAPACITY]:
            row[Q.RESOURCE] = resource + 1.0
            row[Q.RESOURCE_CAPACITY] = capacity
            row[Q.RESOURCE_ACTIVE] = state.claimed[world.queues[queue].pool, resource]


@inlined
def _count_pool(world: Any, state: Any, pool: int, row: Any) -> None:
    mine = state.pools[pool]
    row[P.LIMIT] = mine.limit
    row[P.ACTIVE] = mine.active
    row[P.HOUR] = state.clock[0].now_s % 86400.0 / 3600.0
    row[P.SLOT_USD_PER_HOUR] = mine.usd_per_hour
    row[P.IDLE_FRACTION] = world.pools[pool].idle_fraction
    row[P.LATENESS_WEIGHT] = world.settings[0].lateness_weight
    row[P.PAUSED] = mine.paused
