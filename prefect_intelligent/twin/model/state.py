"""What changes while worlds run: tables beside those of `world`.

A state can be copied at any time and put back later; together with the world it decides all that follows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from prefect_intelligent.twin.engine.heap import TIMER_DTYPE, TimerRow
from prefect_intelligent.twin.engine.jit import code
from prefect_intelligent.twin.engine.records import F8, I1, I2, I8, U8, Records, dtype_of
from prefect_intelligent.twin.model.world import Table, World

# Phases of a run.
NOT_CREATED: Final = code(0)  # its time has not come, or upstreams have not completed
WAITING: Final = code(1)  # in its queue
PENDING: Final = code(2)  # claimed: it holds a slot, and waits for a node or for its infrastructure
RUNNING: Final = code(3)
DELAYED: Final = code(4)  # away until it goes back to its queue: a retry, or its deployment was full
RESUMING: Final = code(5)  # away until its process tries again
COMPLETED: Final = code(6)
FAILED: Final = code(7)
CRASHED: Final = code(8)
CANCELLED: Final = code(9)

# Where a running attempt of a run with children is.
BEFORE_CALL: Final = code(1)
WAITS_FOR_CHILDREN: Final = code(2)  # RUNNING and with a slot, but it does no work
AFTER_CALL: Final = code(3)


class TotalsRow(Protocol):
    """The instant of a world, the money spent until then, counters, and how far its lists have been read.

    Attributes:
        now_s: The instant.
        busy_usd: Cost of slots in use, US dollars.
        idle_usd: Cost of slots that are paid for and not in use, US dollars.
        lateness_usd: US dollars.
        failure_usd: US dollars.
        late_usd_per_hour: What the runs that are late now cost per hour.
        events: Events handled.
        late: Runs that are late now.
        next_arrival: Next entry of `World.arrivals`.
        next_reclaim: Next row of `World.reclaims`.
        active: Runs that hold a slot.
        away: Runs that a timer of kind `REENTER` or `RESUME` will bring back.
        ended: Runs that are over.
        timers: Timers that are set.
        logged: Entries of the log.
        log_full: Flag: the log has no room, and the world stands still.
    """

    now_s: F8
    busy_usd: F8
    idle_usd: F8
    lateness_usd: F8
    failure_usd: F8
    late_usd_per_hour: F8
    events: I8
    late: I8
    next_arrival: I8
    next_reclaim: I8
    active: I8
    away: I8
    ended: I8
    timers: I8
    logged: I8
    log_full: I1


class RunStateRow(Protocol):
    """Where a run is.

    Attributes:
        scheduled_s: When it is or was expected to start.
        due_s: When it should be finished; `inf` if it cannot be late.
        claimed_s: When the present attempt took its slot.
        first_claimed_s: When the first attempt did; nan before.
        started_s: When the present attempt began to run.
        finished_s: When the run was over; nan before.
        held_s: Slot seconds of attempts that have ended.
        wake_s: When its timer of kind `START`, `REENTER` or `RESUME` goes off; one set for another instant is void.
        active_index: Its place in `State.active` while it holds a slot.
        next_in_line: The run behind it in the line for a node; -1 for none.
        upstreams_left: Upstreams that it still waits for; -1 when it is known that it is created, or never will be.
        chain_due_s: For a run that waits for upstreams: when they should have completed at the latest so that neither
            it nor what follows it ends late, as of the last census; `inf` if none can.
        chain_usd_per_hour: For such a run: what lateness costs of it and of what follows it.
        failures: Failed attempts.
        crashes: Crashed attempts.
        outcome: The phase in which the present attempt will end.
        phase: `NOT_CREATED` to `CANCELLED`.
        late: Flag: it accrues lateness now.
        placed: Flag: it holds a slot that is there, and its infrastructure starts or is up.
        timeout_set: Flag: a timer of kind `TIME_OUT` is set.
        calling: Of a run with children: `BEFORE_CALL`, `WAITS_FOR_CHILDREN` or `AFTER_CALL` in the present attempt.
        called: Flag: its children have been created, by this attempt or an earlier one.
        child_failed: Flag: one of them has not completed.
        children_left: Children that are not over.
        worker: Row of `workers` that has it, if its pool has workers.
        ends_share: Share of its work after which the present attempt ends, if it calls children.
    """

    scheduled_s: F8
    due_s: F8
    claimed_s: F8
    first_claimed_s: F8
    started_s: F8
    finished_s: F8
    held_s: F8
    wake_s: F8
    chain_due_s: F8
    chain_usd_per_hour: F8
    active_index: I8
    next_in_line: I8
    upstreams_left: I8
    failures: I2
    crashes: I2
    outcome: I1
    phase: I1
    late: I1
    placed: I1
    timeout_set: I1
    calling: I1
    called: I1
    child_failed: I1
    children_left: I2
    worker: I2
    ends_share: F8


class QueueStateRow(Protocol):
    """A work queue as it is set, and its counts.

    Attributes:
        priority: Smaller is served first, equal ones merge.
        limit: Most runs that hold a slot.
        arrivals_per_s: Arrivals per second as of `arrivals_at_s`, exponentially weighted.
        arrivals_at_s: The last arrival.
        waiting: Runs in its heap.
        active: Runs that hold a slot.
        claimed_last_poll: Runs that the last poll has claimed; only meant where `PoolRow.overshoot` is above 0.
        not_yet_visible: Of those, how many the present poll does not see.
        place: Its place in the serving order of its pool, 0 first.
        queue_at_place: The inverse: the queue whose place is the number of this row, within its pool.
        resources_met: Resources of the runs that the last census counted, as bits.
        paused: Flag.
    """

    priority: F8
    limit: F8
    arrivals_per_s: F8
    arrivals_at_s: F8
    waiting: I8
    active: I8
    claimed_last_poll: I8
    not_yet_visible: I8
    place: I8
    queue_at_place: I8
    resources_met: I8
    paused: I1


class PoolStateRow(Protocol):
    """A work pool as it is set, its counts and its nodes.

    Attributes:
        limit: Pool limit, slots.
        next_poll_s: When a worker polls next; `inf` for a pool that does not poll.
        usd_per_hour: Price of a busy slot now.
        next_price: Next column of `World.prices`.
        active: Runs that hold a slot.
        present: Runs in the pool: created and not over.
        claimed_last_poll: As in `QueueStateRow`, for the pool.
        placed: Active runs that hold a slot that is there; the others wait for a node.
        nodes: Nodes that are there.
        nodes_ordered: Nodes that boot.
        oldest_node: Its place in `State.node_since`.
        surplus: Nodes that are too many now.
        first_surplus: Place in `State.surplus_since` of the one that has been longest.
        polls: Polls so far.
        poll_stream: Key of the random draws that stretch its poll periods, see `rng.stream_key`.
        line_head: First run in the line for a node; -1 for none.
        line_tail: Last run in it; -1 for none.
        paused: Flag.
        plan_changed: Flag: a plan has changed its settings since the last poll.
        needs_dispatch: Flag: something has happened since the last dispatch that a new one could use.
        shrink_set: Flag: a timer of kind `SHRINK` is set.
    """

    limit: F8
    next_poll_s: F8
    usd_per_hour: F8
    next_price: I8
    active: I8
    present: I8
    claimed_last_poll: I8
    placed: I8
    nodes: I8
    nodes_ordered: I8
    oldest_node: I8
    surplus: I8
    first_surplus: I8
    polls: I8
    poll_stream: U8
    line_head: I8
    line_tail: I8
    paused: I1
    plan_changed: I1
    needs_dispatch: I1
    shrink_set: I1


class WorkerStateRow(Protocol):
    """A worker as it is.

    Attributes:
        next_poll_s: When it polls next; `inf` while it is dead, or if its pool does not poll.
        poll_stream: As in `PoolStateRow`.
        polls: Polls so far.
        active: Runs that it has, those included whose process waits for a retry.
        dead: Flag.
        needs_dispatch: Flag: something has happened since its last dispatch that a new one could use.
    """

    next_poll_s: F8
    poll_stream: U8
    polls: I8
    active: I8
    dead: I1
    needs_dispatch: I1


class ContentionGroupStateRow(Protocol):
    """How fast the runs of a contention group work.

    Each of them would have done `work_s + (now_s - anchor_s) * speed` seconds of full-speed work since the world began;
    a run ends when that has grown by its own work.

    Attributes:
        speed: 1 is full speed.
        anchor_s: When the speed last changed.
        work_s: Seconds of work done by then.
        next_end_s: When the first of its runs ends; `inf` without runs.
        runs: Runs that are executing.
    """

    speed: F8
    anchor_s: F8
    work_s: F8
    next_end_s: F8
    runs: I8


class LogRow(Protocol):
    """An entry of the event log; what `value` and `where` mean depends on the kind, see `event_log`.

    Attributes:
        at_s: When it happened.
        value: A number.
        run: Row of `runs`; -1 for none.
        where: A queue, a pool or a phase.
        kind: `event_log.ENTERED` and so on.
    """

    at_s: F8
    value: F8
    run: I8
    where: I8
    kind: I8


TOTALS_DTYPE: Final = dtype_of(TotalsRow)
RUN_STATE_DTYPE: Final = dtype_of(RunStateRow)
QUEUE_STATE_DTYPE: Final = dtype_of(QueueStateRow)
POOL_STATE_DTYPE: Final = dtype_of(PoolStateRow)
WORKER_STATE_DTYPE: Final = dtype_of(WorkerStateRow)
CONTENTION_GROUP_STATE_DTYPE: Final = dtype_of(ContentionGroupStateRow)
LOG_DTYPE: Final = dtype_of(LogRow)


class StateRow(Protocol):
    """The state of one world, as compiled functions get it; see `State`, without the axis of worlds.

    Attributes:
        totals: One row.
        runs: Shape (runs,).
        keys: Shape (runs,), seconds.
        waiting: Shape (runs,).
        executing: Shape (runs,).
        active: Shape (runs,).
        queues: Shape (queues,).
        pools: Shape (pools,).
        contention_groups: Shape (groups,).
        resource_runs: Shape (resources,).
        resource_claims: Shape (pools, resources).
        deployment_active: Shape (deployments,).
        node_since: Shape (pools, nodes), Unix seconds.
        surplus_since: Shape (pools, nodes), Unix seconds.
        workers: Shape (workers,).
        timers: Shape (timers,).
        log: Shape (entries,).
    """

    totals: Records[TotalsRow]
    runs: Records[RunStateRow]
    keys: npt.NDArray[np.float64]
    waiting: npt.NDArray[np.int64]
    executing: npt.NDArray[np.int64]
    active: npt.NDArray[np.int64]
    queues: Records[QueueStateRow]
    pools: Records[PoolStateRow]
    contention_groups: Records[ContentionGroupStateRow]
    resource_runs: npt.NDArray[np.int64]
    resource_claims: npt.NDArray[np.int64]
    deployment_active: npt.NDArray[np.int64]
    node_since: npt.NDArray[np.float64]
    surplus_since: npt.NDArray[np.float64]
    workers: Records[WorkerStateRow]
    timers: Records[TimerRow]
    log: Records[LogRow]


class State(NamedTuple):
    """The changing half of a batch of worlds; that of one world is a `StateRow`.

    Attributes:
        totals: Shape (worlds,), records of `TotalsRow`.
        runs: Shape (worlds, runs), records of `RunStateRow`.
        keys: Shape (worlds, runs): for a waiting run, when it is scheduled next; for an executing one, the seconds of
            work of its contention group at which it ends.
        waiting: Shape (worlds, runs): a heap of waiting runs per queue, smallest key first.
        executing: Shape (worlds, runs): a heap of executing runs per contention group, smallest key first.
        active: Shape (worlds, runs): runs that hold a slot, in no order.
        queues: Shape (worlds, queues), records of `QueueStateRow`.
        pools: Shape (worlds, pools), records of `PoolStateRow`.
        contention_groups: Shape (worlds, groups), records of `ContentionGroupStateRow`.
        resource_runs: Shape (worlds, resources): slots of each resource that running runs use.
        resource_claims: Shape (worlds, pools, resources): those of runs with a slot, per pool and resource.
        deployment_active: Shape (worlds, deployments): runs with a slot per deployment, or group of such.
        node_since: Shape (worlds, pools, nodes): when each node was ordered, a ring.
        surplus_since: Shape (worlds, pools, nodes): since when each node that is too many is so, a ring.
        workers: Shape (worlds, workers), records of `WorkerStateRow`.
        timers: Shape (worlds, timers), records of `TimerRow`: a heap.
        log: Shape (worlds, entries), records of `LogRow`; zero entries switch it off.
    """

    totals: Table
    runs: Table
    keys: Table
    waiting: Table
    executing: Table
    active: Table
    queues: Table
    pools: Table
    contention_groups: Table
    resource_runs: Table
    resource_claims: Table
    deployment_active: Table
    node_since: Table
    surplus_since: Table
    workers: Table
    timers: Table
    log: Table

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(*(table.copy() for table in self))

    def restore(self, saved: State) -> None:
        """Take over the values of a copy, in place."""
        for table, values in zip(self, saved, strict=True):
            table[...] = values

    def take(self, rows: Any) -> State:
        """A copy of some of the worlds; a row may be asked for more than once."""
        return State(*(table[rows] for table in self))


def blank_state(world: World, log_entries: int = 0) -> State:
    """Room for the state of a batch; `event_loop.begin` fills it."""
    n, runs = world.runs.shape
    queues, pools, resources = world.queues.shape[1], world.pools.shape[1], world.resources.shape[1]
    nodes = int(np.ceil(np.max(world.pools["max_slots"] / np.maximum(world.pools["node_slots"], 1.0), initial=1.0))) + 1
    timers_per_run = 4 + int(np.any(world.deployments["cancels_new"] != 0))
    return State(
        totals=np.zeros(n, TOTALS_DTYPE),
        runs=np.zeros((n, runs), RUN_STATE_DTYPE),
        keys=np.zeros((n, runs)),
        waiting=np.zeros((n, runs), np.int64),
        executing=np.zeros((n, runs), np.int64),
        active=np.zeros((n, runs), np.int64),
        queues=np.zeros((n, queues), QUEUE_STATE_DTYPE),
        pools=np.zeros((n, pools), POOL_STATE_DTYPE),
        contention_groups=np.zeros((n, world.contention_groups.shape[1]), CONTENTION_GROUP_STATE_DTYPE),
        resource_runs=np.zeros((n, resources), np.int64),
        resource_claims=np.zeros((n, pools, resources), np.int64),
        deployment_active=np.zeros((n, world.deployments.shape[1]), np.int64),
        node_since=np.zeros((n, pools, nodes)),
        surplus_since=np.zeros((n, pools, nodes)),
        workers=np.zeros((n, world.workers.shape[1]), WORKER_STATE_DTYPE),
        timers=np.zeros((n, timers_per_run * runs + pools * (nodes + 2) + 2 * world.outages.shape[1] + 8), TIMER_DTYPE),
        log=np.zeros((n, log_entries), LOG_DTYPE),
    )
