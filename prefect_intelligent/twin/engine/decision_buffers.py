"""What decisions in a batch of worlds are made from, and what they are: the table between policy, guard and worlds.

Everything that a decision reads or writes lies here in arrays, so that one call can take a whole interval of every
world: levers, guard, plan, run, census, rule, features (`batch.work`). Queues are numbered through the pools of a
world, as in `world`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q
from prefect_intelligent.policy.encoding import F, G, Observation
from prefect_intelligent.policy.guard_state import LONG_AGO_S, GuardSettings, GuardState
from prefect_intelligent.twin.engine.jit import inlined

Table = npt.NDArray[Any]


class DecisionBuffers(NamedTuple):
    """Arrays of a batch; n is the number of queues of a world, p that of its pools.

    Attributes:
        until_s: Shape (worlds,): to when a world is to run.
        passed: Shape (worlds,): 1 for worlds that are passed over.
        usd: Shape (worlds, 3): capacity, lateness and failure cost when the census was taken.
        queues: Shape (worlds, n, len(Q)): the census.
        pools: Shape (worlds, p, len(P)).
        actions: Shape (worlds, p, 1 + 2 n / p): levels, see `policy.actions`.
        rule_score: Shape (worlds, n): what the base rule proposes for the census.
        rule_limit: Shape (worlds, n).
        rule_pool_limit: Shape (worlds, p).
        rule_place: Shape (worlds, n): the order that its scores make.
        seen_queues: Shape (worlds, n, len(F)): the census as a network sees it.
        seen_pools: Shape (worlds, p, len(G)).
        score: Shape (worlds, n): what is wanted, and what of it is permitted after the guard.
        limit: Shape (worlds, n).
        pool_limit: Shape (worlds, p).
        own_limit: Shape (worlds, n): the guard's memory, see `GuardState`.
        limit_changed_s: Shape (worlds, n).
        order_changed_s: Shape (worlds, p).
        pool_changed_s: Shape (worlds, p).
        queue_min: Shape (worlds, n): the guard's bounds and pins, see `GuardSettings`.
        queue_max: Shape (worlds, n).
        order_pinned: Shape (worlds, n).
        limit_pinned: Shape (worlds, n).
        pool_min: Shape (worlds, p).
        pool_max: Shape (worlds, p).
        pool_pinned: Shape (worlds, p).
        queue_notes: Shape (worlds, n): why the guard changed what was wanted.
        pool_notes: Shape (worlds, p).
        place: Shape (worlds, n): the guard's scratch paper, see `guard_pool.Draft`.
        kept: Shape (worlds, n).
        sequence: Shape (worlds, n).
        seat: Shape (worlds, n).
        starts: Shape (worlds, n).
        unmet: Shape (worlds, n).
    """

    until_s: Table
    passed: Table
    usd: Table
    queues: Table
    pools: Table
    actions: Table
    rule_score: Table
    rule_limit: Table
    rule_pool_limit: Table
    rule_place: Table
    seen_queues: Table
    seen_pools: Table
    score: Table
    limit: Table
    pool_limit: Table
    own_limit: Table
    limit_changed_s: Table
    order_changed_s: Table
    pool_changed_s: Table
    queue_min: Table
    queue_max: Table
    order_pinned: Table
    limit_pinned: Table
    pool_min: Table
    pool_max: Table
    pool_pinned: Table
    queue_notes: Table
    pool_notes: Table
    place: Table
    kept: Table
    sequence: Table
    seat: Table
    starts: Table
    unmet: Table

    @property
    def census(self) -> Census:
        """The census, one row per pool; a view."""
        return Census(self.per_queue(self.queues), self.per_pool(self.pools))

    @property
    def rule(self) -> Proposal:
        """The base rule's proposal, one row per pool; a view."""
        limits = self.per_queue(self.rule_limit), self.per_pool(self.rule_pool_limit)
        return Proposal(self.per_queue(self.rule_score), *limits)

    @property
    def wanted(self) -> Proposal:
        """What is wanted, or permitted, one row per pool; a view."""
        return Proposal(self.per_queue(self.score), self.per_queue(self.limit), self.per_pool(self.pool_limit))

    @property
    def seen(self) -> Observation:
        """What a network sees, one row per pool; a view except for the mask."""
        return Observation(self.per_queue(self.seen_queues), self.per_pool(self.seen_pools), self.census.present)

    @property
    def memory(self) -> GuardState:
        """What the guard remembers, one row per pool; a view."""
        return GuardState(
            own_limit=self.per_queue(self.own_limit),
            limit_changed_s=self.per_queue(self.limit_changed_s),
            order_changed_s=self.per_pool(self.order_changed_s),
            pool_changed_s=self.per_pool(self.pool_changed_s),
        )

    def per_queue(self, table: Table) -> Table:
        """A table of queues with one row per pool."""
        worlds, pools = self.pools.shape[:2]
        return table.reshape(worlds * pools, -1, *table.shape[2:])

    def per_pool(self, table: Table) -> Table:
        """A table of pools with one row per pool."""
        return table.reshape(-1, *table.shape[2:])

    def want(self, proposal: Proposal) -> None:
        """Put a proposal on the table."""
        self.score.reshape(-1)[:] = np.asarray(proposal.score, dtype=float).reshape(-1)
        self.limit.reshape(-1)[:] = np.asarray(proposal.limit, dtype=float).reshape(-1)
        self.pool_limit.reshape(-1)[:] = np.asarray(proposal.pool_limit, dtype=float).reshape(-1)

    def back(self, fallback: Proposal) -> None:
        """Put a fallback on the table, in the place of the rule."""
        self.rule_score.reshape(-1)[:] = np.asarray(fallback.score, dtype=float).reshape(-1)
        self.rule_limit.reshape(-1)[:] = np.asarray(fallback.limit, dtype=float).reshape(-1)
        self.rule_pool_limit.reshape(-1)[:] = np.asarray(fallback.pool_limit, dtype=float).reshape(-1)

    def bound(self, settings: GuardSettings) -> None:
        """Take over the bounds and pins of the guard."""
        bounds = settings.bounds(self.per_queue(self.limit).shape)
        for name, values in bounds._asdict().items():
            table: Array = getattr(self, name)
            table.reshape(-1)[:] = np.asarray(values).reshape(-1)

    def forget(self, worlds: Any = slice(None)) -> None:
        """Start the guard afresh in some worlds: what is in force is what people want."""
        self.own_limit[worlds] = self.queues[worlds][..., Q.LIMIT]
        for table in (self.limit_changed_s, self.order_changed_s, self.pool_changed_s):
            table[worlds] = LONG_AGO_S

    def take(self, rows: Any) -> DecisionBuffers:
        """A copy of some of the worlds; a row may be asked for more than once."""
        return DecisionBuffers(*(table[rows] for table in self))


_WHOLE: Final = ("passed", "actions", "queue_notes", "pool_notes", "sequence", "seat")
_SEEN: Final = ("seen_queues", "seen_pools")
_OF_POOLS: Final = ("rule_pool_limit", "pool_limit", "order_changed_s", "pool_changed_s", "pool_min", "pool_max")


def blank_desk(worlds: int, n: int, p: int) -> DecisionBuffers:
    """The table of a batch before its first census: so many worlds, queues per world and pools per world."""
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("until_s", "passed"), (worlds,)),
        "usd": (worlds, 3),
        "queues": (worlds, n, len(Q)),
        "pools": (worlds, p, len(P)),
        "actions": (worlds, p, 1 + 2 * n // p),
        "seen_queues": (worlds, n, len(F)),
        "seen_pools": (worlds, p, len(G)),
        **dict.fromkeys((*_OF_POOLS, "pool_pinned", "pool_notes"), (worlds, p)),
    }
    return DecisionBuffers(
        *(np.zeros(shapes.get(name, (worlds, n)), dtype_of(name)) for name in DecisionBuffers._fields)
    )


def dtype_of(name: str) -> npt.DTypeLike:
    """The type of the numbers in a table of the desk."""
    if name in _SEEN:
        return np.float32
    return np.int64 if name in _WHOLE else np.float64


@inlined
def desk_row(desk: Any, row: int) -> Any:
    """The table of one world; writing to it writes to the batch."""
    return DecisionBuffers(
        desk.until_s[row : row + 1],
        desk.passed[row : row + 1],
        desk.usd[row],
        desk.queues[row],
        desk.pools[row],
        desk.actions[row],
        desk.rule_score[row],
        desk.rule_limit[row],
        desk.rule_pool_limit[row],
        desk.rule_place[row],
        desk.seen_queues[row],
        desk.seen_pools[row],
        desk.score[row],
        desk.limit[row],
        desk.pool_limit[row],
        desk.own_limit[row],
        desk.limit_changed_s[row],
        desk.order_changed_s[row],
        desk.pool_changed_s[row],
        desk.queue_min[row],
        desk.queue_max[row],
        desk.order_pinned[row],
        desk.limit_pinned[row],
        desk.pool_min[row],
        desk.pool_max[row],
        desk.pool_pinned[row],
        desk.queue_notes[row],
        desk.pool_notes[row],
        desk.place[row],
        desk.kept[row],
        desk.sequence[row],
        desk.seat[row],
        desk.starts[row],
        desk.unmet[row],
    )
