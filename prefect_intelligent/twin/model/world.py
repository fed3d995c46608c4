"""What is given: tables of a batch of worlds that never change while the worlds run.

A world is one or more work pools with their queues, deployments, shared resources, prices and all runs that will ever
come. Each table has a leading axis of worlds and a second axis of what it lists, padded to the largest world of the
batch. Instants are Unix seconds; `inf` means never or unlimited; flags are 0 or 1.

Queues are numbered through the pools: pool p owns the queues `p * width` to `(p + 1) * width - 1`, where `width` is the
number of queues divided by the number of pools. Padding queues have `present` 0.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from prefect_intelligent.twin.engine.records import F8, I1, I2, I8, U8, RecordGrid, Records, dtype_of

Table: TypeAlias = npt.NDArray[Any]

DRAWN, COMPLETES, FAILS, CRASHES = 0, 1, 2, 3
"""Sources of a run's outcome: drawn with the chances of its deployment, or what the record says."""
AFTER_ALL, AFTER_ANY, AFTER_FAILURE, AFTER_END = 0, 1, 2, 3
"""When a run behind upstreams is created: all have completed, one completes, one fails or crashes, all are over."""


class SettingsRow(Protocol):
    """What holds for a whole world.

    Attributes:
        seed: Names all random draws of the world.
        start_s: Its first instant.
        lateness_weight: Weight of lateness against capacity in the objective.
        runs: Number of runs; further rows of `runs` are padding.
        arrivals: Number of runs without upstreams.
    """

    seed: U8
    start_s: F8
    lateness_weight: F8
    runs: I8
    arrivals: I8


class RunRow(Protocol):
    """A run as it is given.

    Attributes:
        scheduled_s: When it is expected to start; ignored if it waits for upstream runs.
        known_s: From when it shows among the upcoming runs; `-inf` for schedules.
        work_s: True seconds of running at full speed, without start-up.
        p50_s: Predicted median seconds from claim to end.
        spread: Predicted standard deviation of the log duration.
        due_s: When it should be finished; `inf` if it cannot be late.
        due_within_s: For a run with upstreams, due so many seconds after its release; `inf` to use `due_s`.
        deployment: Row of `deployments`.
        queue: Row of `queues`.
        upstreams: Number of runs of which it depends whether and when it is created, see `DeploymentRow.after_when`.
        first_edge: Its downstream runs are `edges[first_edge : first_edge + edges]`.
        edges: Number of its downstream runs.
        first_call: The runs that it calls, its children, are `edges[first_call : first_call + calls]`.
        calls: Number of its children.
        parent: The run that calls it; -1 for none.
        outcome_source: `DRAWN`, `COMPLETES`, `FAILS` or `CRASHES`.
    """

    scheduled_s: F8
    known_s: F8
    work_s: F8
    p50_s: F8
    spread: F8
    due_s: F8
    due_within_s: F8
    deployment: I8
    queue: I8
    upstreams: I8
    first_edge: I8
    edges: I8
    first_call: I8
    parent: I8
    calls: I2
    outcome_source: I1


class DeploymentRow(Protocol):
    """How the runs of a deployment behave.

    Attributes:
        late_usd_per_hour: Price of lateness, US dollars per hour.
        failure_usd: Price of a failed or crashed run, US dollars.
        failure_probability: Predicted chance that a run fails, 0 to 1.
        fails: True chance that an attempt fails, 0 to 1.
        crashes: True chance that an attempt is lost with its infrastructure, 0 to 1.
        retries: Retries after a failure.
        crash_retries: Retries after a crash (an automation that reschedules).
        retry_delay_s: Seconds before the first retry.
        retry_backoff: Each further delay is so many times longer.
        retry_in_process: Flag: a retry resumes without asking for a slot, as Prefect's engine does.
        timeout_s: Seconds of running after which an attempt fails; `inf` for none.
        limit: Concurrency limit of the deployment, runs.
        limit_group: Row of `deployments` where the runs are counted that share this limit; its own if it has one alone.
        cancels_new: Flag: a run beyond the limit is cancelled (CANCEL_NEW), at its claim or when it would be marked
            late; else it is enqueued again (ENQUEUE).
        contention_group: Row of `contention_groups`.
        after_when: `AFTER_ALL` to `AFTER_END`; of runs behind upstreams.
        calls_at: Share of its work after which a run calls its children and waits for them, 0 to 1.
    """

    late_usd_per_hour: F8
    failure_usd: F8
    failure_probability: F8
    fails: F8
    crashes: F8
    retries: I8
    crash_retries: I8
    retry_delay_s: F8
    retry_backoff: F8
    retry_in_process: I1
    timeout_s: F8
    limit: F8
    limit_group: I8
    cancels_new: I1
    contention_group: I8
    after_when: I1
    calls_at: F8


class QueueRow(Protocol):
    """A work queue at the beginning.

    Attributes:
        present: Flag: 0 is padding.
        paused: Flag.
        priority: Smaller is served first, equal ones merge.
        limit: Most runs that hold a slot.
        heap_start: Where its part of `State.waiting` begins.
        pool: Row of `pools` that owns it.
    """

    present: I1
    paused: I1
    priority: F8
    limit: F8
    heap_start: I8
    pool: I8


class PoolRow(Protocol):
    """A work pool with its workers and what its slots cost; `spec.PoolSpec` in numbers.

    Attributes:
        limit: Pool limit at the beginning, slots.
        most: Largest limit that its owner permits, slots; inf for no bound.
        paused: Flag.
        idle_fraction: Price of an idle slot as a share of that of a busy one, 0 to 1.
        min_billing_s: Seconds for which an attempt is billed at least; only if slots are not owned.
        owned: Flag: slots are bought ahead as nodes; 0 is serverless, paid per attempt.
        node_slots: Slots of one node.
        max_slots: Most slots that can be bought.
        min_slots: Slots that are bought whatever the limit.
        boot_s: Seconds from ordering a node to its slots.
        cooldown_s: Seconds for which a surplus node is kept at least.
        node_min_billing_s: Seconds for which a node is billed at least.
        follows_demand: Flag: an autoscaler buys for claimed runs; else the pool limit is what is bought.
        claims_ahead: Flag: runs are claimed up to the limit and wait in PENDING for a node.
        poll_s: Mean seconds between polls; 0 hands out runs at once, as theory assumes.
        poll_jitter: Each period is stretched by a factor within 1 +- this.
        poll_batch: Most runs that one poll claims.
        prefetch_s: Seconds before its time at which a scheduled run can be claimed.
        overshoot: Chance that a poll after a change of settings does not yet see the claims of the one before.
        startup_s: Median seconds from having a slot to running; 0 for none.
        startup_spread: Standard deviation of its logarithm.
        room: Runs in the pool beyond which arrivals are cancelled.
        slot_wait_s: Seconds after which a run whose deployment was full comes back, above 0.
        late_after_s: Seconds after its scheduled time from which the server marks a waiting run late.
        late_loop_s: Seconds between two times at which it looks for such runs; 0 marks them at once.
        first_worker: Its workers are `workers[first_worker : first_worker + workers]`.
        workers: Number of its workers; 0 if they are taken as one that polls every queue and has no limit.
    """

    limit: F8
    most: F8
    paused: I1
    idle_fraction: F8
    min_billing_s: F8
    owned: I1
    node_slots: F8
    max_slots: F8
    min_slots: F8
    boot_s: F8
    cooldown_s: F8
    node_min_billing_s: F8
    follows_demand: I1
    claims_ahead: I1
    poll_s: F8
    poll_jitter: F8
    poll_batch: I8
    prefetch_s: F8
    overshoot: F8
    startup_s: F8
    startup_spread: F8
    room: F8
    slot_wait_s: F8
    late_after_s: F8
    late_loop_s: F8
    first_worker: I8
    workers: I8


class WorkerRow(Protocol):
    """A worker of a pool.

    Attributes:
        limit: Most runs that it has at once.
        pool: Row of `pools`.
    """

    limit: F8
    pool: I8


class OutageRow(Protocol):
    """A `worker` dies at `at_s`, with its runs, and polls again from `back_s` on."""

    at_s: F8
    back_s: F8
    worker: I8


class PriceRow(Protocol):
    """The price of a busy slot, US dollars per hour, from the instant `at_s` on."""

    at_s: F8
    usd_per_hour: F8


class ReclaimRow(Protocol):
    """At `at_s` the spot market takes a `share`, 0 to 1, of the nodes of `pool`; of its runs if it has no nodes."""

    at_s: F8
    share: F8
    pool: I8


class ResourceRow(Protocol):
    """Something that runs share while they run, such as a database.

    Attributes:
        capacity: Slots that it serves at full speed.
        slowdown: Beyond that, speed is `(capacity / slots in use) ** slowdown`.
        failure: Added chance that an attempt fails per capacity in excess.
    """

    capacity: F8
    slowdown: F8
    failure: F8


class ContentionGroupRow(Protocol):
    """Runs that use the same slots of the same resources and are therefore slowed down alike. Row 0 uses none.

    Attributes:
        resources: The set as bits: bit r is row r of `resources`.
        heap_start: Where its part of `State.executing` begins.
    """

    resources: I8
    heap_start: I8


SETTINGS_DTYPE: Final = dtype_of(SettingsRow)
RUN_DTYPE: Final = dtype_of(RunRow)
DEPLOYMENT_DTYPE: Final = dtype_of(DeploymentRow)
QUEUE_DTYPE: Final = dtype_of(QueueRow)
POOL_DTYPE: Final = dtype_of(PoolRow)
PRICE_DTYPE: Final = dtype_of(PriceRow)
RECLAIM_DTYPE: Final = dtype_of(ReclaimRow)
RESOURCE_DTYPE: Final = dtype_of(ResourceRow)
CONTENTION_GROUP_DTYPE: Final = dtype_of(ContentionGroupRow)
WORKER_DTYPE: Final = dtype_of(WorkerRow)
OUTAGE_DTYPE: Final = dtype_of(OutageRow)


class WorldRow(Protocol):
    """One world of a batch, as compiled functions get it; see `World`, without the axis of worlds.

    Attributes:
        settings: One row.
        runs: Shape (runs,).
        arrivals: Shape (runs,): rows of `runs` without upstreams, soonest within reach of a poll first; after them
            those with upstreams, each behind all that follow it.
        edges: Shape (edges,): rows of `runs`.
        deployments: Shape (deployments,).
        queues: Shape (queues,).
        pools: Shape (pools,).
        prices: Shape (pools, changes).
        reclaims: Shape (reclaims,).
        resources: Shape (resources,).
        contention_groups: Shape (groups,).
        loads: Shape (groups, resources), see `World`.
        workers: Shape (workers,).
        polled: Shape (workers, queues), see `World`.
        outages: Shape (outages,).
    """

    settings: Records[SettingsRow]
    runs: Records[RunRow]
    arrivals: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]
    deployments: Records[DeploymentRow]
    queues: Records[QueueRow]
    pools: Records[PoolRow]
    prices: RecordGrid[PriceRow]
    reclaims: Records[ReclaimRow]
    resources: Records[ResourceRow]
    contention_groups: Records[ContentionGroupRow]
    loads: npt.NDArray[np.int64]
    workers: Records[WorkerRow]
    polled: npt.NDArray[np.int8]
    outages: Records[OutageRow]


class World(NamedTuple):
    """A batch of worlds; one of them is a `WorldRow`.

    Attributes:
        settings: Shape (worlds,), records of `SettingsRow`.
        runs: Shape (worlds, runs), records of `RunRow`.
        arrivals: Shape (worlds, runs): runs without upstreams, soonest within reach of a poll first; then the others,
            each behind all that follow it.
        edges: Shape (worlds, edges): downstream runs, grouped by upstream run, then children, grouped by parent.
        deployments: Shape (worlds, deployments), records of `DeploymentRow`.
        queues: Shape (worlds, queues), records of `QueueRow`.
        pools: Shape (worlds, pools), records of `PoolRow`.
        prices: Shape (worlds, pools, changes), records of `PriceRow`, the first from -inf on.
        reclaims: Shape (worlds, reclaims), records of `ReclaimRow`, soonest first.
        resources: Shape (worlds, resources), records of `ResourceRow`.
        contention_groups: Shape (worlds, groups), records of `ContentionGroupRow`.
        loads: Shape (worlds, groups, resources): slots of each resource that a run of each group holds.
        workers: Shape (worlds, workers), records of `WorkerRow`.
        polled: Shape (worlds, workers, queues): flag: the worker polls the queue.
        outages: Shape (worlds, outages), records of `OutageRow`.
    """

    settings: Table
    runs: Table
    arrivals: Table
    edges: Table
    deployments: Table
    queues: Table
    pools: Table
    prices: Table
    reclaims: Table
    resources: Table
    contention_groups: Table
    loads: Table
    workers: Table
    polled: Table
    outages: Table

    @property
    def n_worlds(self) -> int:
        """Number of worlds in the batch."""
        return int(self.settings.shape[0])

    @property
    def width(self) -> int:
        """Queues per pool, padding included."""
        return int(self.queues.shape[1] // self.pools.shape[1])


def as_bytes(table: Table) -> npt.NDArray[np.uint8]:
    """The bytes of each world's part of a table, shape (worlds, bytes). NumPy would copy structs field by field."""
    return table.view(np.uint8).reshape(table.shape[0], -1) if table.size else np.zeros((table.shape[0], 0), np.uint8)


def blank_world() -> World:
    """A batch without worlds: its tables have their types and dimensions, and no rows."""
    return World(
        settings=np.zeros(0, SETTINGS_DTYPE),
        runs=np.zeros((0, 1), RUN_DTYPE),
        arrivals=np.zeros((0, 1), np.int64),
        edges=np.zeros((0, 1), np.int64),
        deployments=np.zeros((0, 1), DEPLOYMENT_DTYPE),
        queues=np.zeros((0, 1), QUEUE_DTYPE),
        pools=np.zeros((0, 1), POOL_DTYPE),
        prices=np.zeros((0, 1, 1), PRICE_DTYPE),
        reclaims=np.zeros((0, 1), RECLAIM_DTYPE),
        resources=np.zeros((0, 1), RESOURCE_DTYPE),
        contention_groups=np.zeros((0, 1), CONTENTION_GROUP_DTYPE),
        loads=np.zeros((0, 1, 1), np.int64),
        workers=np.zeros((0, 1), WORKER_DTYPE),
        polled=np.zeros((0, 1, 1), np.int8),
        outages=np.zeros((0, 1), OUTAGE_DTYPE),
    )
