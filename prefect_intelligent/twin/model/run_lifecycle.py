"""One run's way: it enters its queue, takes a slot, starts, ends, and is over or comes back for another attempt."""

from __future__ import annotations

import math
from typing import Final

from prefect_intelligent.twin.engine.heap import push, remove
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import CRASH, FAILURE, FAILURE_TIME, LATE_SERVICE, uniform
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.children import end_family
from prefect_intelligent.twin.model.contention import begin_work, count_claim, overload_failure_probability, stop_work
from prefect_intelligent.twin.model.costs import busy_usd, lateness_usd
from prefect_intelligent.twin.model.nodes import bought_slots, place_waiting, scale
from prefect_intelligent.twin.model.state import (
    BEFORE_CALL,
    CANCELLED,
    COMPLETED,
    CRASHED,
    DELAYED,
    FAILED,
    NOT_CREATED,
    RESUMING,
    RUNNING,
    WAITING,
    WAITS_FOR_CHILDREN,
    StateRow,
)
from prefect_intelligent.twin.model.timers import (
    CALL_LATE,
    DROP,
    MARK_LATE,
    REENTER,
    RELEASE,
    RESUME,
    TIME_OUT,
    set_timer,
)
from prefect_intelligent.twin.model.world import AFTER_ALL, AFTER_ANY, AFTER_END, CRASHES, DRAWN, FAILS, WorldRow

ARRIVAL_MEMORY_S: Final = 1800.0
"""Time constant of the arrival rate of a queue, seconds."""


@inlined
def enters_s(world: WorldRow, run: int) -> float:
    """When a run without upstreams comes within reach of a poll: one that is known before is prefetched."""
    run_spec = world.runs[run]
    pool = world.queues[run_spec.queue].pool
    known_s = min(run_spec.known_s, run_spec.scheduled_s)
    return float(max(run_spec.scheduled_s - world.pools[pool].prefetch_s, known_s))


@compiled
def release(world: WorldRow, state: StateRow, run: int) -> None:
    """All upstreams have completed: the run is created, scheduled for now."""
    run_spec = world.runs[run]
    now_s = state.totals[0].now_s
    due_s = now_s + run_spec.due_within_s if math.isfinite(run_spec.due_within_s) else run_spec.due_s
    event_log.append(state, event_log.RELEASED, run, run_spec.queue, now_s)
    enter(world, state, run, now_s, due_s)


@inlined
def enter(world: WorldRow, state: StateRow, run: int, scheduled_s: float, due_s: float) -> None:
    """A new run comes into its queue; it is cancelled if the pool has no room."""
    run_state, queue = state.runs[run], world.runs[run].queue
    pool = world.queues[queue].pool
    run_state.scheduled_s, run_state.due_s = scheduled_s, due_s
    queue_state = state.queues[queue]
    now_s = state.totals[0].now_s
    remembered = math.exp((queue_state.arrivals_at_s - now_s) / ARRIVAL_MEMORY_S)
    queue_state.arrivals_per_s = queue_state.arrivals_per_s * remembered + 1.0 / ARRIVAL_MEMORY_S
    queue_state.arrivals_at_s = now_s
    state.pools[pool].present += 1
    if state.pools[pool].present > world.pools[pool].room:
        state.pools[pool].present -= 1
        finish(world, state, run, CANCELLED)
        return
    if math.isfinite(due_s):
        if due_s < now_s:  # its upstreams took so long: the lateness before its release is charged at once
            price = world.deployments[world.runs[run].deployment].late_usd_per_hour
            state.totals[0].lateness_usd += lateness_usd(now_s - due_s, price, world.settings[0].lateness_weight)
        set_timer(state, max(due_s, now_s), MARK_LATE, run)
    deployment_spec = world.deployments[world.runs[run].deployment]
    if deployment_spec.cancels_new != 0 and math.isfinite(deployment_spec.limit):
        set_timer(state, max(_called_late_s(world, pool, scheduled_s), now_s), CALL_LATE, run)
    enqueue(world, state, run, scheduled_s)


@inlined
def _called_late_s(world: WorldRow, pool: int, scheduled_s: float) -> float:
    """When the server, which looks every `late_loop_s`, first finds that a run waits for too long."""
    settings, pool_spec = world.settings[0], world.pools[pool]
    late_s = scheduled_s + pool_spec.late_after_s
    if pool_spec.late_loop_s == 0:
        return float(late_s)
    first_s = settings.start_s + pool_spec.late_loop_s * (uniform(settings.seed, LATE_SERVICE, 0, 0) - 1.0)
    return float(first_s + pool_spec.late_loop_s * math.ceil((late_s - first_s) / pool_spec.late_loop_s))


@compiled
def call_late(world: WorldRow, state: StateRow, run: int) -> None:
    """The server would mark a run late that has waited since it came: it is cancelled if its deployment is full."""
    run_state, run_spec = state.runs[run], world.runs[run]
    if run_state.phase != WAITING or not math.isnan(run_state.first_claimed_s):
        return
    deployment_spec = world.deployments[run_spec.deployment]
    if state.deployment_active[deployment_spec.limit_group] >= deployment_spec.limit:
        queue_state = state.queues[run_spec.queue]
        first = world.queues[run_spec.queue].heap_start
        remove(state.waiting, first, queue_state.waiting, state.keys, run)
        queue_state.waiting -= 1
        finish(world, state, run, CANCELLED)


@inlined
def enqueue(world: WorldRow, state: StateRow, run: int, scheduled_s: float) -> None:
    """Put a run in its queue, by the instant for which it is scheduled next."""
    queue = world.runs[run].queue
    queue_state = state.queues[queue]
    state.runs[run].phase = WAITING
    state.keys[run] = scheduled_s
    push(state.waiting, world.queues[queue].heap_start, queue_state.waiting, state.keys, run)
    queue_state.waiting += 1
    state.pools[world.queues[queue].pool].needs_dispatch = 1
    event_log.append(state, event_log.ENTERED, run, queue, scheduled_s)


@inlined
def take_slot(world: WorldRow, state: StateRow, run: int) -> None:
    """A run takes a slot of its queue, pool and deployment."""
    queue, deployment = world.runs[run].queue, world.runs[run].deployment
    pool = world.queues[queue].pool
    run_state = state.runs[run]
    run_state.claimed_s = state.totals[0].now_s
    if math.isnan(run_state.first_claimed_s):
        run_state.first_claimed_s = run_state.claimed_s
    run_state.active_index = state.totals[0].active
    state.active[run_state.active_index] = run
    state.totals[0].active += 1
    state.queues[queue].active += 1
    state.pools[pool].active += 1
    state.deployment_active[world.deployments[deployment].limit_group] += 1
    count_claim(world, state, pool, world.deployments[deployment].contention_group, 1)
    event_log.append(state, event_log.CLAIMED, run, queue, state.pools[pool].active)


@inlined
def start(world: WorldRow, state: StateRow, run: int) -> None:
    """The infrastructure is up: the run begins to work, and it is decided how and after how much work it will end."""
    run_state, run_spec = state.runs[run], world.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    group = deployment_spec.contention_group
    run_state.phase = RUNNING
    run_state.started_s = state.totals[0].now_s
    attempt = run_state.failures + run_state.crashes
    seed = world.settings[0].seed
    fails = deployment_spec.fails
    if world.contention_groups[group].resources != 0:
        fails += (1.0 - fails) * min(1.0, overload_failure_probability(world, state, group))
    run_state.outcome, share = COMPLETED, 1.0
    if run_spec.outcome_source == DRAWN:
        if deployment_spec.crashes > 0 and uniform(seed, CRASH, run, attempt) < deployment_spec.crashes:
            run_state.outcome = CRASHED
        elif fails > 0 and uniform(seed, FAILURE, run, attempt) < fails:
            run_state.outcome = FAILED
        if run_state.outcome != COMPLETED:
            share = uniform(seed, FAILURE_TIME, run, attempt)
    elif run_spec.outcome_source == FAILS:
        run_state.outcome = FAILED
    elif run_spec.outcome_source == CRASHES:
        run_state.outcome = CRASHED
    if run_spec.calls == 0:
        begin_work(world, state, group, run, run_spec.work_s * share)
    else:
        run_state.calling, run_state.ends_share = BEFORE_CALL, share
        begin_work(world, state, group, run, run_spec.work_s * min(share, deployment_spec.calls_at))
    if math.isfinite(deployment_spec.timeout_s) and run_state.timeout_set == 0:
        run_state.timeout_set = 1
        set_timer(state, state.totals[0].now_s + deployment_spec.timeout_s, TIME_OUT, run)
    event_log.append(state, event_log.STARTED, run, run_spec.queue, state.totals[0].now_s - run_state.claimed_s)


@compiled
def end(world: WorldRow, state: StateRow, run: int, outcome: int) -> None:
    """An attempt is over: its slot is freed, then the run is tried again or over."""
    run_state, run_spec = state.runs[run], world.runs[run]
    deployment, queue = run_spec.deployment, run_spec.queue
    group, pool = world.deployments[deployment].contention_group, world.queues[queue].pool
    now_s = state.totals[0].now_s
    if run_state.phase == RUNNING and run_state.calling != WAITS_FOR_CHILDREN:
        stop_work(world, state, group, run)
    run_state.calling = 0
    count_claim(world, state, pool, group, -1)
    last = state.active[state.totals[0].active - 1]
    state.active[run_state.active_index] = last
    state.runs[last].active_index = run_state.active_index
    state.totals[0].active -= 1
    state.queues[queue].active -= 1
    state.deployment_active[world.deployments[deployment].limit_group] -= 1
    pool_state, pool_spec = state.pools[pool], world.pools[pool]
    pool_state.active -= 1
    if pool_spec.workers != 0:
        state.workers[run_state.worker].active -= 1
    if run_state.placed != 0:
        run_state.placed = 0
        pool_state.placed -= 1
    held_s = now_s - run_state.claimed_s
    run_state.held_s += held_s
    if pool_spec.owned == 0 and held_s < pool_spec.min_billing_s:
        billed_usd = busy_usd(held_s, pool_state.usd_per_hour, pool_spec.min_billing_s)
        state.totals[0].busy_usd += billed_usd - busy_usd(held_s, pool_state.usd_per_hour, 0.0)
    event_log.append(state, event_log.ENDED, run, outcome, held_s)
    pool_state.needs_dispatch = 1
    if pool_state.line_head >= 0:
        place_waiting(world, state, pool)
    if pool_spec.owned != 0:
        wanted = min(pool_state.limit, pool_spec.max_slots)
        if pool_spec.follows_demand != 0 or bought_slots(world, state, pool) > wanted:
            scale(world, state, pool)
    retry_or_finish(world, state, run, outcome)


@inlined
def retry_or_finish(world: WorldRow, state: StateRow, run: int, outcome: int) -> None:
    """Decide what follows the end of an attempt."""
    run_state, run_spec = state.runs[run], world.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    if outcome == FAILED and run_state.failures < deployment_spec.retries:
        delay_s = deployment_spec.retry_delay_s * deployment_spec.retry_backoff**run_state.failures
        run_state.failures += 1
        state.totals[0].away += 1
        run_state.wake_s = state.totals[0].now_s + delay_s
        if deployment_spec.retry_in_process != 0:
            run_state.phase = RESUMING
            if world.pools[world.queues[run_spec.queue].pool].workers != 0:
                state.workers[run_state.worker].active += 1  # its process is still there
            set_timer(state, run_state.wake_s, RESUME, run)
        else:
            run_state.phase = DELAYED
            set_timer(state, run_state.wake_s, REENTER, run)
        event_log.append(state, event_log.RETRY, run, run_spec.queue, run_state.wake_s)
    elif outcome == CRASHED and run_state.crashes < deployment_spec.crash_retries:
        run_state.crashes += 1
        run_state.phase = DELAYED
        run_state.wake_s = state.totals[0].now_s
        event_log.append(state, event_log.RETRY, run, run_spec.queue, run_state.wake_s)
        enqueue(world, state, run, run_state.wake_s)
    else:
        finish(world, state, run, outcome)


@compiled
def resume(world: WorldRow, state: StateRow, run: int) -> None:
    """A retry in its process: the process is still there, and starts over without asking for a slot."""
    take_slot(world, state, run)
    pool = world.queues[world.runs[run].queue].pool
    state.runs[run].placed = 1
    state.pools[pool].placed += 1
    scale(world, state, pool)
    start(world, state, run)


@inlined
def finish(world: WorldRow, state: StateRow, run: int, phase: int) -> None:
    """The run is over for good; its downstream runs are released, or cancelled with it."""
    run_state, run_spec = state.runs[run], world.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    totals = state.totals[0]
    late_s = -math.inf
    if run_state.phase != NOT_CREATED:
        state.pools[world.queues[run_spec.queue].pool].present -= 1
        late_s = totals.now_s - run_state.due_s
    run_state.phase = phase
    run_state.finished_s = totals.now_s
    totals.ended += 1
    if run_state.late != 0:
        run_state.late = 0
        totals.late -= 1
        rest_usd_per_hour = totals.late_usd_per_hour - deployment_spec.late_usd_per_hour
        totals.late_usd_per_hour = rest_usd_per_hour if totals.late > 0 else 0.0  # no rounding error is left behind
    if phase in (FAILED, CRASHED):
        totals.failure_usd += deployment_spec.failure_usd
    event_log.append(state, event_log.DONE, run, phase, late_s)
    if run_spec.parent >= 0 or run_spec.calls > 0:
        end_family(world, state, run, phase)
    for edge in range(run_spec.first_edge, run_spec.first_edge + run_spec.edges):
        downstream = world.edges[edge]
        downstream_state = state.runs[downstream]
        after_when = world.deployments[world.runs[downstream].deployment].after_when
        if after_when != AFTER_ALL:
            tell_downstream(state, downstream, after_when, phase)
        elif phase == COMPLETED:
            downstream_state.upstreams_left -= 1
            if downstream_state.upstreams_left == 0:
                set_timer(state, totals.now_s, RELEASE, downstream)
        elif downstream_state.phase == NOT_CREATED and downstream_state.upstreams_left > 0:
            downstream_state.upstreams_left = -1  # it is never released, and dropped only once
            set_timer(state, totals.now_s, DROP, downstream)


@compiled
def tell_downstream(state: StateRow, downstream: int, after_when: int, phase: int) -> None:
    """One upstream of a run that does not wait for all to complete is over: create the run, drop it, or neither yet."""
    downstream_state, now_s = state.runs[downstream], state.totals[0].now_s
    if downstream_state.upstreams_left <= 0:
        return
    downstream_state.upstreams_left -= 1
    if after_when == AFTER_END:
        met = downstream_state.upstreams_left == 0
    elif after_when == AFTER_ANY:
        met = phase == COMPLETED
    else:
        met = phase in (FAILED, CRASHED)
    if met:
        downstream_state.upstreams_left = -1
        set_timer(state, now_s, RELEASE, downstream)
    elif downstream_state.upstreams_left == 0:
        downstream_state.upstreams_left = -1
        set_timer(state, now_s, DROP, downstream)
