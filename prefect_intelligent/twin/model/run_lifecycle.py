"""One run's way: released, waiting, claimed, running, ended; and back again after a failure."""

from __future__ import annotations

import math
from typing import Any, Final

from prefect_intelligent.twin.engine.heap import pop, push, remove
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import CRASH, CUT, FAILURE, uniform
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.nodes import (
    busy_usd,
    enqueue_for_node,
    lateness_usd,
    owned_slots,
    place_on_node,
    place_waiting,
    scale,
    set_timer,
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
    PENDING,
    REENTER,
    RESUME,
    RESUMING,
    RUNNING,
    STARTED,
    TIMEOUT,
    UNBORN,
    WAITING,
)
from prefect_intelligent.twin.model.world import CRASHES, DRAWN, FAILS

BOUNCE_S: Final = 30.0
"""A run whose deployment is full comes back so much later (Prefect's concurrency_slot_wait_seconds)."""

ARRIVAL_MEMORY_S: Final = 1800.0
"""Time constant of the arrival rate of a queue."""


@inlined
def enters_s(world: Any, run: int) -> float:
    """When a run comes within reach of a poll: a known one is prefetched."""
    truth = world.runs[run]
    pool = world.queues[truth.queue].pool
    return float(max(truth.scheduled_s - world.pools[pool].prefetch_s, min(truth.known_s, truth.scheduled_s)))


@inlined
def enter(world: Any, state: Any, run: int, scheduled_s: float, due_s: float) -> None:
    """A new run comes into its queue; it is cancelled if the pool has no room."""
    mine, queue = state.runs[run], world.runs[run].queue
    pool = world.queues[queue].pool
    mine.scheduled_s, mine.due_s = scheduled_s, due_s
    lane = state.queues[queue]
    now_s = state.clock[0].now_s
    lane.rate_per_s = lane.rate_per_s * math.exp((lane.rate_s - now_s) / ARRIVAL_MEMORY_S) + 1.0 / ARRIVAL_MEMORY_S
    lane.rate_s = now_s
    state.pools[pool].present += 1
    if state.pools[pool].present > world.pools[pool].room:
        state.pools[pool].present -= 1
        finish(world, state, run, CANCELLED)
        return
    if math.isfinite(due_s):
        if due_s < now_s:  # its upstreams took so long: it is late before it exists
            price = world.deployments[world.runs[run].deployment].late_usd_per_hour
            state.clock[0].lateness_usd += lateness_usd(now_s - due_s, price, world.settings[0].lateness_weight)
        set_timer(state, max(due_s, now_s), LATE, run)
    wait(world, state, run, scheduled_s)


@inlined
def wait(world: Any, state: Any, run: int, key_s: float) -> None:
    """Put a run in the line of its queue, by the time it is next scheduled for."""
    queue = world.runs[run].queue
    lane = state.queues[queue]
    state.runs[run].phase = WAITING
    state.keys[run] = key_s
    push(state.waiting, world.queues[queue].first, lane.waiting, state.keys, run)
    lane.waiting += 1
    state.pools[world.queues[queue].pool].stirred = 1
    event_log.append(state, event_log.ENTERED, run, queue, key_s)


@inlined
def claim(world: Any, state: Any, queue: int) -> bool:
    """A worker takes the first run of a queue: it holds a slot from now on. False if its deployment was full."""
    lane = state.queues[queue]
    run = pop(state.waiting, world.queues[queue].first, lane.waiting, state.keys)
    lane.waiting -= 1
    deployment = world.runs[run].deployment
    terms = world.deployments[deployment]
    if state.deployed[deployment] >= terms.limit:
        if terms.cancels_new != 0:
            finish(world, state, run, CANCELLED)
            return False
        mine = state.runs[run]
        mine.phase = DELAYED
        mine.wake_s = state.clock[0].now_s + BOUNCE_S
        state.clock[0].away += 1
        set_timer(state, mine.wake_s, REENTER, run)
        event_log.append(state, event_log.BOUNCED, run, queue, mine.wake_s)
        return False
    take_slot(world, state, run)
    lane.fresh += 1
    pool = world.queues[queue].pool
    state.pools[pool].fresh += 1
    state.runs[run].phase = PENDING
    if world.pools[pool].owned == 0 or state.pools[pool].seated < owned_slots(world, state, pool):
        up_s = place_on_node(world, state, pool, run)
        if up_s > state.clock[0].now_s:
            set_timer(state, up_s, STARTED, run)
        else:
            start(world, state, run)
    else:
        enqueue_for_node(state, pool, run)
    if world.pools[pool].follows_demand != 0:
        scale(world, state, pool)
    return True


@inlined
def take_slot(world: Any, state: Any, run: int) -> None:
    """A run takes a slot of its queue, pool and deployment."""
    queue, deployment = world.runs[run].queue, world.runs[run].deployment
    pool = world.queues[queue].pool
    mine = state.runs[run]
    mine.claimed_s = state.clock[0].now_s
    if math.isnan(mine.first_claimed_s):
        mine.first_claimed_s = mine.claimed_s
    mine.seat = state.clock[0].active
    state.active[mine.seat] = run
    state.clock[0].active += 1
    state.queues[queue].active += 1
    state.pools[pool].active += 1
    state.deployed[deployment] += 1
    resources = world.loads[world.deployments[deployment].load].resources
    if resources != 0:
        for resource in range(state.using.shape[0]):
            state.claimed[pool, resource] += (resources >> resource) & 1
    event_log.append(state, event_log.CLAIMED, run, queue, state.pools[pool].active)


@inlined
def start(world: Any, state: Any, run: int) -> None:
    """The infrastructure is up: the run begins to work and to load its resources."""
    mine, truth = state.runs[run], world.runs[run]
    terms = world.deployments[truth.deployment]
    load = terms.load
    mine.phase = RUNNING
    mine.started_s = state.clock[0].now_s
    attempt = mine.failures + mine.crashes
    seed = world.settings[0].seed
    fails = terms.fails
    if world.loads[load].resources != 0:
        fails += (1.0 - fails) * min(1.0, overload_failure_probability(world, state, load))
        _use(world, state, load, 1)
    mine.outcome, share = COMPLETED, 1.0
    if truth.fate == DRAWN:
        if terms.crashes > 0 and uniform(seed, CRASH, run, attempt) < terms.crashes:
            mine.outcome = CRASHED
        elif fails > 0 and uniform(seed, FAILURE, run, attempt) < fails:
            mine.outcome = FAILED
        if mine.outcome != COMPLETED:
            share = uniform(seed, CUT, run, attempt)
    elif truth.fate == FAILS:
        mine.outcome = FAILED
    elif truth.fate == CRASHES:
        mine.outcome = CRASHED
    crew = state.loads[load]
    state.keys[run] = _work_done(state, load) + truth.work_s * share
    push(state.executing, world.loads[load].first, crew.runs, state.keys, run)
    crew.runs += 1
    schedule_next_completion(world, state, load)
    if math.isfinite(terms.timeout_s) and mine.timed == 0:
        mine.timed = 1
        set_timer(state, state.clock[0].now_s + terms.timeout_s, TIMEOUT, run)
    event_log.append(state, event_log.STARTED, run, truth.queue, state.clock[0].now_s - mine.claimed_s)


@compiled
def end(world: Any, state: Any, run: int, outcome: int) -> None:
    """An attempt is over: free the slot, then retry or finish."""
    mine, truth = state.runs[run], world.runs[run]
    deployment, queue = truth.deployment, truth.queue
    terms, pool = world.deployments[deployment], world.queues[queue].pool
    now_s = state.clock[0].now_s
    load = terms.load
    if mine.phase == RUNNING:
        crew = state.loads[load]
        first = world.loads[load].first
        if state.executing[first] == run:
            pop(state.executing, first, crew.runs, state.keys)
        else:
            remove(state.executing, first, crew.runs, state.keys, run)
        crew.runs -= 1
        resources = world.loads[load].resources
        if resources != 0:
            _use(world, state, load, -1)
        schedule_next_completion(world, state, load)
    resources = world.loads[load].resources
    if resources != 0:
        for resource in range(state.using.shape[0]):
            state.claimed[pool, resource] -= (resources >> resource) & 1
    last = state.active[state.clock[0].active - 1]
    state.active[mine.seat] = last
    state.runs[last].seat = mine.seat
    state.clock[0].active -= 1
    state.queues[queue].active -= 1
    state.deployed[deployment] -= 1
    shop, price = state.pools[pool], world.pools[pool]
    shop.active -= 1
    if mine.seated != 0:
        mine.seated = 0
        shop.seated -= 1
    held_s = now_s - mine.claimed_s
    mine.held_s += held_s
    if price.owned == 0 and held_s < price.min_billing_s:
        owed = busy_usd(held_s, shop.usd_per_hour, price.min_billing_s) - busy_usd(held_s, shop.usd_per_hour, 0.0)
        state.clock[0].busy_usd += owed
    event_log.append(state, event_log.ENDED, run, outcome, held_s)
    shop.stirred = 1
    if shop.line_head >= 0:
        place_waiting(world, state, pool)
    owned = (shop.nodes + shop.ordered) * price.node_slots
    if price.owned != 0 and (price.follows_demand != 0 or owned > min(shop.limit, price.max_slots)):
        scale(world, state, pool)
    retry_or_finish(world, state, run, outcome)


@inlined
def retry_or_finish(world: Any, state: Any, run: int, outcome: int) -> None:
    """Decide what follows the end of an attempt."""
    mine, truth = state.runs[run], world.runs[run]
    terms = world.deployments[truth.deployment]
    if outcome == FAILED and mine.failures < terms.retries:
        delay_s = terms.retry_delay_s * terms.retry_backoff**mine.failures
        mine.failures += 1
        state.clock[0].away += 1
        mine.wake_s = state.clock[0].now_s + delay_s
        if terms.retry_in_process != 0:
            mine.phase = RESUMING
            set_timer(state, mine.wake_s, RESUME, run)
        else:
            mine.phase = DELAYED
            set_timer(state, mine.wake_s, REENTER, run)
        event_log.append(state, event_log.RETRY, run, truth.queue, mine.wake_s)
    elif outcome == CRASHED and mine.crashes < terms.crash_retries:
        mine.crashes += 1
        mine.phase = DELAYED
        mine.wake_s = state.clock[0].now_s
        event_log.append(state, event_log.RETRY, run, truth.queue, mine.wake_s)
        wait(world, state, run, mine.wake_s)
    else:
        finish(world, state, run, outcome)


@inlined
def finish(world: Any, state: Any, run: int, phase: int) -> None:
    """The run is over for good; runs behind it are released, or cancelled with it."""
    mine, truth = state.runs[run], world.runs[run]
    terms = world.deployments[truth.deployment]
    clock = state.clock[0]
    late_s = -math.inf
    if mine.phase != UNBORN:
        state.pools[world.queues[truth.queue].pool].present -= 1
        late_s = clock.now_s - mine.due_s
    mine.phase = phase
    mine.finished_s = clock.now_s
    clock.ended += 1
    if mine.late != 0:
        mine.late = 0
        clock.late -= 1
        clock.late_usd_per_hour = clock.late_usd_per_hour - terms.late_usd_per_hour if clock.late > 0 else 0.0
    if phase in (FAILED, CRASHED):
        clock.failure_usd += terms.failure_usd
    event_log.append(state, event_log.DONE, run, phase, late_s)
    for edge in range(truth.first_edge, truth.first_edge + truth.edges):
        behind = world.edges[edge]
        if phase == COMPLETED:
            state.runs[behind].unmet -= 1
            if state.runs[behind].unmet == 0:
                set_timer(state, clock.now_s, BORN, behind)
        elif state.runs[behind].phase == UNBORN and state.runs[behind].unmet > 0:
            state.runs[behind].unmet = -1  # never to be released, and told only once
            set_timer(state, clock.now_s, DROPPED, behind)


@compiled
def release(world: Any, state: Any, run: int) -> None:
    """All upstreams have completed: the run is created, scheduled for now."""
    truth = world.runs[run]
    now_s = state.clock[0].now_s
    due_s = now_s + truth.due_within_s if math.isfinite(truth.due_within_s) else truth.due_s
    event_log.append(state, event_log.RELEASED, run, truth.queue, now_s)
    enter(world, state, run, now_s, due_s)


@compiled
def resume(world: Any, state: Any, run: int) -> None:
    """An in-process retry: the process is still there and starts over without asking for a slot."""
    take_slot(world, state, run)
    mine = state.runs[run]
    pool = world.queues[world.runs[run].queue].pool
    mine.seated = 1
    state.pools[pool].seated += 1
    start(world, state, run)


@inlined
def _work_done(state: Any, load: int) -> float:
    """Seconds of full-speed work that a run of this load would have done since the world began."""
    crew = state.loads[load]
    done: float = crew.work_s + (state.clock[0].now_s - crew.anchor_s) * crew.speed
    return done


@inlined
def schedule_next_completion(world: Any, state: Any, load: int) -> None:
    """Work out when the first run of a load will end."""
    crew = state.loads[load]
    if crew.runs == 0:
        crew.next_s = math.inf
    else:
        first = state.executing[world.loads[load].first]
        crew.next_s = max(crew.anchor_s + (state.keys[first] - crew.work_s) / crew.speed, state.clock[0].now_s)


@compiled
def overload_failure_probability(world: Any, state: Any, load: int) -> float:
    """Added chance of failure for one more run on the resources of a load."""
    most = 0.0
    for resource in range(state.using.shape[0]):
        if (world.loads[load].resources >> resource) & 1:
            terms = world.resources[resource]
            excess = (state.using[resource] + 1) / terms.capacity - 1.0
            most = max(most, terms.failure * excess)
    return most


@compiled
def _use(world: Any, state: Any, load: int, count: int) -> None:
    """One run more or less on the resources of a load: all loads that share one of them change speed."""
    touched = world.loads[load].resources
    for resource in range(state.using.shape[0]):
        if (touched >> resource) & 1:
            state.using[resource] += count
    for other in range(1, state.loads.shape[0]):
        if world.loads[other].resources & touched:
            speed = 1.0
            for resource in range(state.using.shape[0]):
                terms = world.resources[resource]
                if (world.loads[other].resources >> resource) & 1 and state.using[resource] > terms.capacity:
                    speed = min(speed, (terms.capacity / state.using[resource]) ** terms.slowdown)
            crew = state.loads[other]
            if speed != crew.speed:
                crew.work_s = _work_done(state, other)
                crew.anchor_s = state.clock[0].now_s
                crew.speed = speed
                schedule_next_completion(world, state, other)
