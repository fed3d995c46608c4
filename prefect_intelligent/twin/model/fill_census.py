"""The census of a world: the columns of `policy.census` from its tables, as `take_census` makes them of a snapshot."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.census import LOOK_AHEAD_S, P, Q
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.model.run_lifecycle import ARRIVAL_MEMORY_S, enters_s
from prefect_intelligent.twin.model.state import DELAYED, NOT_CREATED, RESUMING, StateRow
from prefect_intelligent.twin.model.timers import REENTER, RESUME
from prefect_intelligent.twin.model.world import AFTER_FAILURE, WorldRow

Values: TypeAlias = npt.NDArray[np.float64]

PRESENT: Final = int(Q.PRESENT)
"""Marks rows that are filled; the other columns are used as `Q.NAME`."""


@compiled
def fill_census(world: WorldRow, state: StateRow, queues: Values, pools: Values) -> None:
    """Write the census of one world.

    Args:
        world: What is given of it.
        state: Its state; `resources_met` of its queues is overwritten.
        queues: Shape (queues, len(Q)), overwritten.
        pools: Shape (pools, len(P)), overwritten.
    """
    queues[:] = 0.0
    pools[:, P.FOLLOWING_WORK_S] = 0.0
    now_s = state.totals[0].now_s
    if world.settings[0].arrivals < world.settings[0].runs:
        _follow(world, state, pools)
    for queue in range(queues.shape[0]):
        if world.queues[queue].present != 0:
            _open_row(world, state, queue, queues[queue])
    for place in range(state.totals[0].active):
        run = state.active[place]
        queue = world.runs[run].queue
        _count_active(world, state, run, queues[queue])
    for queue in range(queues.shape[0]):
        if state.queues[queue].waiting > 0:
            _count_waiting(world, state, queue, queues[queue])
    if state.totals[0].away > 0:
        _count_away(world, state, queues)
    for place in range(state.totals[0].next_arrival, world.settings[0].arrivals):
        run = world.arrivals[place]
        run_spec = world.runs[run]
        in_s = run_spec.scheduled_s - now_s
        if in_s <= LOOK_AHEAD_S:
            if run_spec.known_s <= now_s:
                _count_upcoming(world, state, run, in_s, run_spec.due_s, queues[run_spec.queue])
        elif enters_s(world, run) - now_s > LOOK_AHEAD_S:
            break
    for queue in range(queues.shape[0]):
        if world.queues[queue].present != 0:
            _close_row(world, state, queue, queues[queue])
    for pool in range(pools.shape[0]):
        _count_pool(world, state, pool, pools[pool])


@inlined
def _open_row(world: WorldRow, state: StateRow, queue: int, row: Values) -> None:
    """Settings, counts, and the values that mean "none"."""
    queue_state = state.queues[queue]
    row[PRESENT] = 1.0
    row[Q.PAUSED] = queue_state.paused
    row[Q.LIMIT] = queue_state.limit
    row[Q.RANK] = queue_state.place
    row[Q.ACTIVE] = queue_state.active
    age_s = state.totals[0].now_s - queue_state.arrivals_at_s
    row[Q.ARRIVALS_PER_HOUR] = 3600.0 * queue_state.arrivals_per_s * math.exp(-age_s / ARRIVAL_MEMORY_S)
    row[Q.HEAD_SLACK_S] = math.inf
    row[Q.URGENT_SLACK_S] = math.inf
    row[Q.DUE_IN_S] = math.inf
    row[Q.NEXT_IN_S] = math.inf
    row[Q.NEXT_SLACK_S] = math.inf
    queue_state.resources_met = 0


@compiled
def _follow(world: WorldRow, state: StateRow, pools: Values) -> None:
    """What lateness costs of runs that wait for upstreams and of what follows them, last ones first; and their work."""
    now_s = state.totals[0].now_s
    for place in range(world.settings[0].arrivals, world.settings[0].runs):
        run = world.arrivals[place]
        run_spec, run_state = world.runs[run], state.runs[run]
        if not _follows(world, state, run):
            run_state.chain_due_s, run_state.chain_usd_per_hour = math.inf, 0.0
            continue
        due_s, price = _inherited(world, state, run)
        own_s = math.inf if math.isfinite(run_spec.due_within_s) else run_spec.due_s
        if math.isfinite(own_s):
            price += world.deployments[run_spec.deployment].late_usd_per_hour
        run_state.chain_due_s, run_state.chain_usd_per_hour = min(own_s, due_s) - run_spec.p50_s, price
        if run_spec.scheduled_s <= now_s:
            pools[world.queues[run_spec.queue].pool, P.FOLLOWING_WORK_S] += run_spec.p50_s


@inlined
def _follows(world: WorldRow, state: StateRow, run: int) -> bool:
    """Whether a run waits for upstreams to complete, which they still can, and its time has come or soon will."""
    run_spec, run_state = world.runs[run], state.runs[run]
    if run_spec.parent >= 0 or world.deployments[run_spec.deployment].after_when == AFTER_FAILURE:
        return False
    soon = run_spec.scheduled_s - state.totals[0].now_s <= LOOK_AHEAD_S
    return bool(run_state.phase == NOT_CREATED and run_state.upstreams_left > 0 and soon)


@inlined
def _inherited(world: WorldRow, state: StateRow, run: int) -> tuple[float, float]:
    """When a run should be finished for what follows it, and its part of their prices; see `domain.followers`."""
    due_s, price = math.inf, 0.0
    run_spec = world.runs[run]
    for edge in range(run_spec.first_edge, run_spec.first_edge + run_spec.edges):
        follower = state.runs[world.edges[edge]]
        if follower.phase == NOT_CREATED and follower.upstreams_left > 0:
            due_s = min(due_s, follower.chain_due_s)
            price += follower.chain_usd_per_hour / follower.upstreams_left
    return due_s, price


@inlined
def _add_to_means(world: WorldRow, state: StateRow, run: int, row: Values) -> None:
    """Add a run to the sums over waiting, active and upcoming ones, and note its resources."""
    run_spec = world.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    row[Q.ESTIMATE_S] += run_spec.p50_s
    row[Q.SPREAD] += run_spec.spread
    row[Q.USD_PER_HOUR] += deployment_spec.late_usd_per_hour
    if run_spec.edges > 0:
        row[Q.USD_PER_HOUR] += _inherited(world, state, run)[1]
    state.queues[run_spec.queue].resources_met |= world.contention_groups[deployment_spec.contention_group].resources


@inlined
def _count_active(world: WorldRow, state: StateRow, run: int, row: Values) -> None:
    now_s, run_spec = state.totals[0].now_s, world.runs[run]
    used_s = max(0.0, now_s - state.runs[run].claimed_s)
    left_s = run_spec.p50_s - used_s
    row[Q.ACTIVE_LEFT_S] += left_s if left_s > 0 else max(1.0, -0.5 * left_s)
    if state.runs[run].due_s < now_s:
        row[Q.ACCRUING_USD_PER_HOUR] += world.deployments[run_spec.deployment].late_usd_per_hour
    _add_to_means(world, state, run, row)


@compiled
def _count_waiting(world: WorldRow, state: StateRow, queue: int, row: Values) -> None:
    """The runs in a queue's heap: those that are due wait, prefetched ones are still upcoming."""
    first, size = world.queues[queue].heap_start, state.queues[queue].waiting
    now_s = state.totals[0].now_s
    waiting, late = 0, 0
    work_s, due_in_s, accruing, value, failing = 0.0, math.inf, row[Q.ACCRUING_USD_PER_HOUR], 0.0, 0.0
    estimate_s, spread, price, met = row[Q.ESTIMATE_S], row[Q.SPREAD], row[Q.USD_PER_HOUR], 0
    urgent, least_s = -1, math.inf
    for place in range(first, first + size):
        run = state.waiting[place]
        if state.keys[run] > now_s:
            continue
        run_spec, due_s = world.runs[run], state.runs[run].due_s
        deployment_spec = world.deployments[run_spec.deployment]
        if due_s < now_s:
            accruing += deployment_spec.late_usd_per_hour
        late_usd_per_hour = deployment_spec.late_usd_per_hour
        if run_spec.edges > 0:
            needed_s, more = _inherited(world, state, run)
            due_s, late_usd_per_hour = min(due_s, needed_s), late_usd_per_hour + more
        slack_s = due_s - now_s - run_spec.p50_s
        if urgent < 0 or slack_s < least_s or (slack_s == least_s and _before(state, run, urgent)):
            urgent, least_s = run, slack_s
        waiting += 1
        late += slack_s < 0
        work_s += run_spec.p50_s
        due_in_s = min(due_in_s, due_s - now_s)
        value += late_usd_per_hour
        failing += deployment_spec.failure_probability
        estimate_s += run_spec.p50_s
        spread += run_spec.spread
        price += late_usd_per_hour
        met |= world.contention_groups[deployment_spec.contention_group].resources
    row[Q.ESTIMATE_S], row[Q.SPREAD], row[Q.USD_PER_HOUR] = estimate_s, spread, price
    row[Q.WAITING], row[Q.WAITING_WORK_S], row[Q.LATE], row[Q.DUE_IN_S] = waiting, work_s, late, due_in_s
    row[Q.ACCRUING_USD_PER_HOUR], row[Q.VALUE_USD_PER_HOUR], row[Q.FAILURE_PROBABILITY] = accruing, value, failing
    state.queues[queue].resources_met |= met
    if urgent >= 0:
        _describe_head_and_urgent(world, state, state.waiting[first], urgent, row)
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
def _describe_head_and_urgent(world: WorldRow, state: StateRow, head: int, urgent: int, row: Values) -> None:
    """The run that is served next, and the one with the least slack."""
    now_s, first, other = state.totals[0].now_s, world.runs[head], world.runs[urgent]
    head_due_s, head_price = _inherited(world, state, head)
    urgent_due_s, urgent_price = _inherited(world, state, urgent)
    row[Q.HEAD_WAIT_S] = max(0.0, now_s - state.runs[head].scheduled_s)
    row[Q.HEAD_ESTIMATE_S] = first.p50_s
    row[Q.HEAD_SLACK_S] = min(state.runs[head].due_s, head_due_s) - now_s - first.p50_s
    row[Q.HEAD_USD_PER_HOUR] = world.deployments[first.deployment].late_usd_per_hour + head_price
    row[Q.URGENT_ESTIMATE_S] = other.p50_s
    row[Q.URGENT_SLACK_S] = min(state.runs[urgent].due_s, urgent_due_s) - now_s - other.p50_s
    row[Q.URGENT_USD_PER_HOUR] = world.deployments[other.deployment].late_usd_per_hour + urgent_price


@inlined
def _before(state: StateRow, run: int, other: int) -> bool:
    """Whether a waiting run is served before another of its queue."""
    return state.keys[run] < state.keys[other] or (state.keys[run] == state.keys[other] and run < other)


@compiled
def _count_away(world: WorldRow, state: StateRow, queues: Values) -> None:
    """Runs that wait for a retry or for their deployment are upcoming."""
    for index in range(state.totals[0].timers):
        kind = state.timers[index].kind
        if kind in (REENTER, RESUME):
            run = state.timers[index].target
            run_state, queue = state.runs[run], world.runs[run].queue
            if (run_state.phase in (DELAYED, RESUMING)) and state.timers[index].at_s == run_state.wake_s:
                in_s = run_state.scheduled_s - state.totals[0].now_s  # below 0: it is to be tried again
                _count_upcoming(world, state, run, in_s, run_state.due_s, queues[queue])


@inlined
def _count_upcoming(world: WorldRow, state: StateRow, run: int, in_s: float, due_s: float, row: Values) -> None:
    run_spec = world.runs[run]
    row[Q.UPCOMING] += 1.0
    row[Q.UPCOMING_WORK_S] += run_spec.p50_s
    if run_spec.edges > 0:
        due_s = min(due_s, _inherited(world, state, run)[0])
    slack_s = due_s - state.totals[0].now_s - run_spec.p50_s
    if in_s < row[Q.NEXT_IN_S] or (in_s == row[Q.NEXT_IN_S] and slack_s < row[Q.NEXT_SLACK_S]):
        row[Q.NEXT_IN_S], row[Q.NEXT_SLACK_S] = in_s, slack_s
    _add_to_means(world, state, run, row)


@inlined
def _close_row(world: WorldRow, state: StateRow, queue: int, row: Values) -> None:
    """Sums become means; the resources met become the tightest of them."""
    row[Q.NEXT_IN_S] = max(0.0, row[Q.NEXT_IN_S])
    known = row[Q.WAITING] + row[Q.ACTIVE] + row[Q.UPCOMING]
    if known > 0:
        row[Q.ESTIMATE_S] /= known
        row[Q.SPREAD] /= known
        row[Q.USD_PER_HOUR] /= known
    if row[Q.WAITING] > 0:
        row[Q.FAILURE_PROBABILITY] /= row[Q.WAITING]
    met = state.queues[queue].resources_met
    row[Q.RESOURCE_CAPACITY] = math.inf
    for resource in range(state.resource_runs.shape[0]):
        capacity = world.resources[resource].capacity
        if (met >> resource) & 1 and capacity < row[Q.RESOURCE_CAPACITY]:
            row[Q.RESOURCE] = resource + 1.0
            row[Q.RESOURCE_CAPACITY] = capacity
            row[Q.RESOURCE_ACTIVE] = state.resource_claims[world.queues[queue].pool, resource]


@inlined
def _count_pool(world: WorldRow, state: StateRow, pool: int, row: Values) -> None:
    pool_state = state.pools[pool]
    row[P.LIMIT] = pool_state.limit
    row[P.ACTIVE] = pool_state.active
    row[P.HOUR] = state.totals[0].now_s % 86400.0 / 3600.0
    row[P.SLOT_USD_PER_HOUR] = pool_state.usd_per_hour
    row[P.IDLE_FRACTION] = world.pools[pool].idle_fraction
    row[P.LATENESS_WEIGHT] = world.settings[0].lateness_weight
    row[P.PAUSED] = pool_state.paused
