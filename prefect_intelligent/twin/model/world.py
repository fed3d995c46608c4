"""What a batch of worlds is made of: tables that never change while the worlds run.

A world is one or more work pools with their queues, deployments, shared resources, prices and all runs that will ever
come. Each table is a structured array with a leading axis of worlds and a second axis of the things it lists, padded to
the largest world of the batch. Instants are Unix seconds; `inf` means never or unlimited.

Queues are numbered through the pools: pool p owns the queues `p * width` to `(p + 1) * width - 1`, where `width` is the
number of queues divided by the number of pools. Padding queues have `present` 0.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]

RUN: Final = np.dtype(
    [
        ("scheduled_s", "f8"),  # when it is expected to start; ignored if it waits for upstream runs
        ("known_s", "f8"),  # from when it shows among the upcoming runs; -inf for schedules
        ("work_s", "f8"),  # true seconds of running at full speed, without start-up
        ("p50_s", "f8"),  # predicted median from claim to end
        ("spread", "f8"),  # predicted standard deviation of the log duration
        ("due_s", "f8"),  # when it should be finished; inf if it cannot be late
        ("due_within_s", "f8"),  # for a run with upstreams: due so long after its release; inf to use due_s
        ("deployment", "i8"),
        ("queue", "i8"),
        ("upstreams", "i8"),  # runs that have to complete before it is created
        ("first_edge", "i8"),  # its downstream runs are edges[first_edge : first_edge + edges]
        ("edges", "i8"),
        ("fate", "i1"),  # DRAWN, or what the record says
    ],
    align=True,
)
DRAWN, COMPLETES, FAILS, CRASHES = 0, 1, 2, 3

DEPLOYMENT: Final = np.dtype(
    [
        ("late_usd_per_hour", "f8"),
        ("failure_usd", "f8"),
        ("failure_probability", "f8"),  # as predicted, per run
        ("fails", "f8"),  # true chance that an attempt fails
        ("crashes", "f8"),  # true chance that an attempt is lost with its infrastructure
        ("retries", "i8"),  # after a failure
        ("crash_retries", "i8"),  # after a crash (an automation that reschedules)
        ("retry_delay_s", "f8"),
        ("retry_backoff", "f8"),  # each further delay is so many times longer
        ("retry_in_process", "i1"),  # as the flow engine does: resumes without asking for a slot
        ("timeout_s", "f8"),
        ("limit", "f8"),  # concurrency limit of the deployment
        ("cancels_new", "i1"),  # collision strategy CANCEL_NEW; else ENQUEUE
        ("load", "i8"),  # row of `loads`: which resources its runs use together
    ],
    align=True,
)

QUEUE: Final = np.dtype(
    [
        ("present", "i1"),
        ("paused", "i1"),
        ("priority", "f8"),  # smaller is served first, equal ones merge
        ("limit", "f8"),
        ("first", "i8"),  # its share of the array of waiting heaps
        ("pool", "i8"),  # the pool that owns it
    ],
    align=True,
)

POOL: Final = np.dtype(
    [
        ("limit", "f8"),
        ("paused", "i1"),
        ("idle_fraction", "f8"),
        ("min_billing_s", "f8"),  # per attempt
        ("owned", "i1"),  # slots are bought ahead (slots, nodes); 0 is serverless: paid per attempt
        ("node_slots", "f8"),  # slots of one node
        ("max_slots", "f8"),  # most that can be bought
        ("min_slots", "f8"),  # bought whatever the limit says
        ("boot_s", "f8"),  # from ordering a node to its slots
        ("cooldown_s", "f8"),  # a surplus node is kept at least so long
        ("node_min_billing_s", "f8"),
        ("follows_demand", "i1"),  # an autoscaler buys for claimed runs; else the pool limit is what is bought
        ("claims_ahead", "i1"),  # runs are claimed up to the limit and wait for a node in PENDING
        ("poll_s", "f8"),  # 0: dispatch at once, for theory
        ("poll_jitter", "f8"),  # each period is stretched by a factor in 1 +- jitter
        ("poll_batch", "i8"),
        ("prefetch_s", "f8"),
        ("overshoot", "f8"),  # chance that a poll after a change does not yet see the claims of the last one
        ("startup_s", "f8"),  # median of PENDING
        ("startup_spread", "f8"),  # standard deviation of its log
        ("room", "f8"),  # runs in the pool beyond which arrivals are cancelled
    ],
    align=True,
)

RESOURCE: Final = np.dtype(
    [
        ("capacity", "f8"),  # runs at full speed
        ("slowdown", "f8"),  # beyond it speed is (capacity / runs) ** slowdown
        ("failure", "f8"),  # added chance of failure per capacity in excess
    ],
    align=True,
)

LOAD: Final = np.dtype([("resources", "i8"), ("first", "i8")], align=True)
"""A set of resources as bits, and its share of the array of executing heaps. Row 0 is the empty set."""

PRICE: Final = np.dtype([("at_s", "f8"), ("usd_per_hour", "f8")], align=True)
RECLAIM: Final = np.dtype([("at_s", "f8"), ("share", "f8"), ("pool", "i8")], align=True)
SETTING: Final = np.dtype(
    [("seed", "u8"), ("start_s", "f8"), ("lateness_weight", "f8"), ("runs", "i8"), ("arrivals", "i8")], align=True
)


class World(NamedTuple):
    """A batch of worlds; see the tables above for the columns.

    Attributes:
        settings: Shape (worlds,), `SETTING`.
        runs: Shape (worlds, runs), `RUN`.
        arrivals: Shape (worlds, runs): runs without upstreams, soonest in their queue first.
        edges: Shape (worlds, edges): downstream runs, grouped by upstream run.
        deployments: Shape (worlds, deployments), `DEPLOYMENT`.
        queues: Shape (worlds, queues), `QUEUE`.
        pools: Shape (worlds, pools), `POOL`.
        prices: Shape (worlds, pools, changes), `PRICE`: price of a slot from each instant on, the first from -inf.
        reclaims: Shape (worlds, reclaims), `RECLAIM`: when a spot market takes which share of a pool, soonest first.
        resources: Shape (worlds, resources), `RESOURCE`.
        loads: Shape (worlds, loads), `LOAD`.
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
    loads: Table

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
    dimensions = {"settings": 1, "prices": 3}
    kinds = {
        "settings": SETTING,
        "runs": RUN,
        "arrivals": np.dtype(np.int64),
        "edges": np.dtype(np.int64),
        "deployments": DEPLOYMENT,
        "queues": QUEUE,
        "pools": POOL,
        "prices": PRICE,
        "reclaims": RECLAIM,
        "resources": RESOURCE,
        "loads": LOAD,
    }
    return World(*(np.zeros((0, 1, 1)[: dimensions.get(name, 2)], kinds[name]) for name in World._fields))


_PADDING: Final = {"at_s": np.inf, "limit": np.inf, "priority": np.inf}


def stack(worlds: list[World]) -> World:
    """Join batches into one, padding each table to the largest.

    Raises:
        ValueError: The worlds have different numbers of pools (queues are numbered by pool).
    """
    if len({world.pools.shape[1] for world in worlds}) > 1:
        raise ValueError("worlds of one batch need the same number of pools")
    pools = worlds[0].pools.shape[1]
    width = max(world.width for world in worlds)
    widened = [world if world.width == width else _widen(world, width, pools) for world in worlds]
    return World(*(_join([getattr(world, name) for world in widened]) for name in World._fields))


def put(batch: World, row: int, world: World) -> bool:
    """Overwrite row `row` of a batch in place by the first world of another; False if it does not fit."""
    if world.width != batch.width:
        if world.width > batch.width:
            return False
        world = _widen(world, batch.width, batch.pools.shape[1])
    for mine, other in zip(batch, world, strict=True):
        if any(have < need for have, need in zip(mine.shape[1:], other.shape[1:], strict=True)):
            return False
    for mine, other in zip(batch, world, strict=True):
        mine[row] = _blank(mine.shape[1:], mine.dtype)
        place: tuple[int | slice, ...] = (row, *(slice(0, size) for size in other.shape[1:]))
        mine[place] = other[0]
    return True


def _widen(world: World, width: int, pools: int) -> World:
    """The same worlds with more padding queues per pool."""
    old = world.width
    queues = _blank((world.n_worlds, pools * width), QUEUE)
    queues["pool"] = np.repeat(np.arange(pools), width)
    runs = world.runs.copy()
    runs["queue"] = runs["queue"] // old * width + runs["queue"] % old
    for pool in range(pools):
        queues[:, pool * width : pool * width + old] = world.queues[:, pool * old : (pool + 1) * old]
    return world._replace(queues=queues, runs=runs)


def _join(tables: list[Table]) -> Table:
    shape = tuple(max(sizes) for sizes in zip(*(table.shape[1:] for table in tables), strict=True))
    out = _blank((sum(table.shape[0] for table in tables), *shape), tables[0].dtype)
    row = 0
    for table in tables:
        place = (slice(row, row + table.shape[0]), *(slice(0, size) for size in table.shape[1:]))
        out[place] = table
        row += table.shape[0]
    return out


def _blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Table:
    """Rows that nothing refers to: never due, never coming, without queues."""
    out = np.zeros(shape, dtype)
    for name in dtype.names or ():
        if name in _PADDING:
            out[name] = _PADDING[name]
    return out
