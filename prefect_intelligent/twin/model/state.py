"""What changes while worlds run: tables beside those of `World`, and how they begin.

A state is copied with `copy` and may be put back at any time; together with the world it decides all that follows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from prefect_intelligent.twin.engine.jit import code
from prefect_intelligent.twin.model.world import Table, World

# Phases of a run. UNBORN waits for upstreams or its time; DELAYED and RESUMING wait for a retry or a deployment slot.
UNBORN: Final = code(0)
WAITING: Final = code(1)
PENDING: Final = code(2)
RUNNING: Final = code(3)
DELAYED: Final = code(4)
RESUMING: Final = code(5)
COMPLETED: Final = code(6)
FAILED: Final = code(7)
CRASHED: Final = code(8)
CANCELLED: Final = code(9)

# Kinds of timers, in the order in which they go off when due at the same instant.
LATE: Final = code(0)
STARTED: Final = code(1)
TIMEOUT: Final = code(2)
REENTER: Final = code(3)
RESUME: Final = code(4)
NODE: Final = code(5)
SHRINK: Final = code(6)
BORN: Final = code(7)  # all upstreams have completed
DROPPED: Final = code(8)  # an upstream has not

RUN_STATE: Final = np.dtype(
    [
        ("scheduled_s", "f8"),  # when it is or was expected to start
        ("due_s", "f8"),
        ("claimed_s", "f8"),  # when the present attempt took its slot
        ("first_claimed_s", "f8"),  # nan before
        ("started_s", "f8"),  # when the present attempt began to run
        ("finished_s", "f8"),  # nan while it is not
        ("held_s", "f8"),  # slot seconds of finished attempts
        ("wake_s", "f8"),  # the instant its valid timer goes off
        ("seat", "i8"),  # its place among the active runs
        ("next", "i8"),  # the run behind it in line for a node
        ("unmet", "i8"),  # upstreams that have not completed
        ("failures", "i2"),
        ("crashes", "i2"),
        ("outcome", "i1"),  # how the present attempt will end
        ("phase", "i1"),
        ("late", "i1"),  # accrues lateness now
        ("seated", "i1"),  # has a node's slot
        ("timed", "i1"),  # a timeout timer is out
    ],
    align=True,
)

QUEUE_STATE: Final = np.dtype(
    [
        ("priority", "f8"),
        ("limit", "f8"),
        ("rate_per_s", "f8"),  # arrivals, exponentially weighted, as of rate_s
        ("rate_s", "f8"),
        ("waiting", "i8"),
        ("active", "i8"),
        ("fresh", "i8"),  # claimed by the last poll
        ("unseen", "i8"),  # of those, what the present poll does not see
        ("place", "i8"),  # in the serving order of its pool
        ("served", "i8"),  # the other way round: which queue has the place of this row
        ("met", "i8"),  # resources of the runs that the last census counted, as bits
        ("paused", "i1"),
    ],
    align=True,
)

POOL_STATE: Final = np.dtype(
    [
        ("limit", "f8"),
        ("next_poll_s", "f8"),
        ("usd_per_hour", "f8"),
        ("price", "i8"),  # the next row of `prices`
        ("active", "i8"),
        ("present", "i8"),  # runs in the pool
        ("fresh", "i8"),
        ("seated", "i8"),
        ("nodes", "i8"),
        ("ordered", "i8"),  # nodes that boot
        ("oldest", "i8"),  # place of the oldest node in `node_since`
        ("polls", "i8"),
        ("poll_name", "u8"),  # of the draws that stretch its poll periods, see `random.name`
        ("line_head", "i8"),  # runs that wait for a node
        ("line_tail", "i8"),
        ("paused", "i1"),
        ("changed", "i1"),  # a plan was applied since the last poll
        ("stirred", "i1"),  # something happened that a dispatch could use
        ("shrinking", "i1"),  # a SHRINK timer is out
    ],
    align=True,
)

LOAD_STATE: Final = np.dtype(
    [
        ("speed", "f8"),
        ("anchor_s", "f8"),  # work done per run since the start was `work_s` at the instant `anchor_s`
        ("work_s", "f8"),
        ("next_s", "f8"),  # when the first of its runs ends
        ("runs", "i8"),
    ],
    align=True,
)

CLOCK: Final = np.dtype(
    [
        ("now_s", "f8"),
        ("busy_usd", "f8"),
        ("idle_usd", "f8"),
        ("lateness_usd", "f8"),
        ("failure_usd", "f8"),
        ("late_usd_per_hour", "f8"),  # what the late runs cost per hour now
        ("events", "i8"),
        ("late", "i8"),
        ("arrival", "i8"),  # next in `arrivals`
        ("reclaim", "i8"),
        ("active", "i8"),
        ("away", "i8"),  # runs that a REENTER or RESUME timer will bring back
        ("ended", "i8"),
        ("timers", "i8"),
        ("logged", "i8"),
        ("full", "i1"),  # the log has no room: the world stands still
    ],
    align=True,
)

TIMER: Final = np.dtype([("at_s", "f8"), ("who", "i8"), ("kind", "i8")], align=True)
ENTRY: Final = np.dtype([("at_s", "f8"), ("value", "f8"), ("run", "i8"), ("where", "i8"), ("kind", "i8")], align=True)


class State(NamedTuple):
    """The changing half of a batch of worlds.

    Attributes:
        clock: Shape (worlds,), `CLOCK`: time, money and counters.
        runs: Shape (worlds, runs), `RUN_STATE`.
        keys: Shape (worlds, runs): when a waiting run was due to start, or at which work an executing one ends.
        waiting: Shape (worlds, runs): heaps of waiting runs, one per queue.
        executing: Shape (worlds, runs): heaps of executing runs, one per load.
        active: Shape (worlds, runs): runs that hold a slot, in no order.
        queues: Shape (worlds, queues), `QUEUE_STATE`.
        pools: Shape (worlds, pools), `POOL_STATE`.
        loads: Shape (worlds, loads), `LOAD_STATE`.
        using: Shape (worlds, resources): running runs per resource.
        claimed: Shape (worlds, pools, resources): runs with a slot per resource.
        deployed: Shape (worlds, deployments): runs with a slot per deployment.
        node_since: Shape (worlds, pools, nodes): when each node was ordered, a ring.
        timers: Shape (worlds, timers), `TIMER`: a heap.
        log: Shape (worlds, entries), `ENTRY`; zero entries switch it off.
    """

    clock: Table
    runs: Table
    keys: Table
    waiting: Table
    executing: Table
    active: Table
    queues: Table
    pools: Table
    loads: Table
    using: Table
    claimed: Table
    deployed: Table
    node_since: Table
    timers: Table
    log: Table

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(*(table.copy() for table in self))

    def restore(self, saved: State) -> None:
        """Take over the values of a copy, in place."""
        for mine, theirs in zip(self, saved, strict=True):
            mine[...] = theirs

    def take(self, rows: Any) -> State:
        """A copy of some of the worlds; a row may be asked for more than once."""
        return State(*(table[rows] for table in self))


def blank_state(world: World, log_entries: int = 0) -> State:
    """Room for the state of a batch; `kernel.begin` fills it."""
    n, runs = world.runs.shape
    queues, pools = world.queues.shape[1], world.pools.shape[1]
    nodes = int(np.ceil(np.max(world.pools["max_slots"] / np.maximum(world.pools["node_slots"], 1.0), initial=1.0))) + 1
    return State(
        clock=np.zeros(n, CLOCK),
        runs=np.zeros((n, runs), RUN_STATE),
        keys=np.zeros((n, runs)),
        waiting=np.zeros((n, runs), np.int64),
        executing=np.zeros((n, runs), np.int64),
        active=np.zeros((n, runs), np.int64),
        queues=np.zeros((n, queues), QUEUE_STATE),
        pools=np.zeros((n, pools), POOL_STATE),
        loads=np.zeros((n, world.loads.shape[1]), LOAD_STATE),
        using=np.zeros((n, world.resources.shape[1]), np.int64),
        claimed=np.zeros((n, pools, world.resources.shape[1]), np.int64),
        deployed=np.zeros((n, world.deployments.shape[1]), np.int64),
        node_since=np.zeros((n, pools, nodes)),
        timers=np.zeros((n, 4 * runs + pools * (nodes + 2) + 8), TIMER),
        log=np.zeros((n, log_entries), ENTRY),
    )
