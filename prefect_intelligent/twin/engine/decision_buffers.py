"""What decisions in a batch of worlds are made from, and what they are: arrays between policy, guard and worlds.

Everything that a decision reads or writes is here, so that one call can take a whole interval of every world: actions,
guard, plan, run, census, rule, features (`batch.run_phases`). Queues are numbered through the pools of a world.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q
from prefect_intelligent.policy.encoding import F, G, Observation
from prefect_intelligent.policy.guard_state import LONG_AGO_S, GuardSettings, GuardState
from prefect_intelligent.twin.engine.jit import inlined

Table: TypeAlias = npt.NDArray[Any]


class DecisionBuffers(NamedTuple):
    """Arrays of a batch; n is the number of queues of a world, p that of its pools.

    Compiled functions get those of one world, without the axis of worlds.

    Attributes:
        until_s: Shape (worlds,): to which instant a world is to run, Unix seconds.
        skip: Shape (worlds,): 1 for worlds that are left as they are.
        usd: Shape (worlds, 3): capacity, lateness and failure cost when the census was taken, US dollars.
        queues: Shape (worlds, n, len(Q)): the census of the queues.
        pools: Shape (worlds, p, len(P)): that of the pools.
        actions: Shape (worlds, p, 1 + 2 n / p): levels, see `policy.actions`.
        rule_score: Shape (worlds, n): what the base rule proposes for the census.
        rule_limit: Shape (worlds, n).
        rule_pool_limit: Shape (worlds, p).
        rule_place: Shape (worlds, n): the order that its scores make.
        queue_features: Shape (worlds, n, len(F)): the census and the rule as a network sees them.
        pool_features: Shape (worlds, p, len(G)).
        score: Shape (worlds, n): what is wanted; after the guard, what of it is permitted.
        limit: Shape (worlds, n).
        pool_limit: Shape (worlds, p).
        own_limit: Shape (worlds, n): what the guard keeps between decisions, see `GuardState`.
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
        place: Shape (worlds, n): this and what follows is working memory of the guard, see `guard_steps.Draft`.
        kept: Shape (worlds, n).
        sequence: Shape (worlds, n).
        spare_sequence: Shape (worlds, n).
        starts: Shape (worlds, n).
        unmet: Shape (worlds, n).
    """

    until_s: Table
    skip: Table
    usd: Table
    queues: Table
    pools: Table
    actions: Table
    rule_score: Table
    rule_limit: Table
    rule_pool_limit: Table
    rule_place: Table
    queue_features: Table
    pool_features: Table
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
    spare_sequence: Table
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
    def observation(self) -> Observation:
        """What a network sees, one row per pool; a view except for the mask."""
        return Observation(self.per_queue(self.queue_features), self.per_pool(self.pool_features), self.census.present)

    @property
    def guard_state(self) -> GuardState:
        """What the guard keeps between decisions, one row per pool; a view."""
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

    def set_wanted(self, proposal: Proposal) -> None:
        """Take over what a policy wants."""
        _write(proposal, self.score, self.limit, self.pool_limit)

    def set_fallback(self, fallback: Proposal) -> None:
        """Take over what the guard falls back to, in place of the base rule's proposal."""
        _write(fallback, self.rule_score, self.rule_limit, self.rule_pool_limit)

    def set_bounds(self, settings: GuardSettings) -> None:
        """Take over the bounds and pins of the guard."""
        bounds = settings.bounds(self.per_queue(self.limit).shape)
        for name, values in bounds._asdict().items():
            table: Array = getattr(self, name)
            table.reshape(-1)[:] = np.asarray(values).reshape(-1)

    def reset_guard(self, worlds: Any = slice(None)) -> None:
        """Start the guard afresh in some worlds: limits in force count as people's own, and no change is recent."""
        self.own_limit[worlds] = self.queues[worlds][..., Q.LIMIT]
        for table in (self.limit_changed_s, self.order_changed_s, self.pool_changed_s):
            table[worlds] = LONG_AGO_S

    def take(self, rows: Any) -> DecisionBuffers:
        """A copy of some of the worlds; a row may be asked for more than once."""
        return DecisionBuffers(*(table[rows] for table in self))


def _write(proposal: Proposal, score: Table, limit: Table, pool_limit: Table) -> None:
    """Write a proposal into buffers, whatever their axes."""
    score.reshape(-1)[:] = np.asarray(proposal.score, dtype=float).reshape(-1)
    limit.reshape(-1)[:] = np.asarray(proposal.limit, dtype=float).reshape(-1)
    pool_limit.reshape(-1)[:] = np.asarray(proposal.pool_limit, dtype=float).reshape(-1)


_INTEGERS: Final = ("skip", "actions", "queue_notes", "pool_notes", "sequence", "spare_sequence")
_FEATURES: Final = ("queue_features", "pool_features")
_PER_POOL: Final = (
    "rule_pool_limit", "pool_limit", "order_changed_s", "pool_changed_s", "pool_min", "pool_max", "pool_pinned",
    "pool_notes",
)  # fmt: skip


def blank_buffers(worlds: int, n: int, p: int) -> DecisionBuffers:
    """Buffers before the first census, for so many worlds of n queues and p pools each."""
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("until_s", "skip"), (worlds,)),
        "usd": (worlds, 3),
        "queues": (worlds, n, len(Q)),
        "pools": (worlds, p, len(P)),
        "actions": (worlds, p, 1 + 2 * n // p),
        "queue_features": (worlds, n, len(F)),
        "pool_features": (worlds, p, len(G)),
        **dict.fromkeys(_PER_POOL, (worlds, p)),
    }
    buffers = DecisionBuffers(
        *(np.zeros(shapes.get(name, (worlds, n)), _dtype_of(name)) for name in DecisionBuffers._fields)
    )
    buffers.pool_max[:] = np.inf
    return buffers


def _dtype_of(name: str) -> npt.DTypeLike:
    """The type of the numbers of a buffer."""
    if name in _FEATURES:
        return np.float32
    return np.int64 if name in _INTEGERS else np.float64


@inlined
def buffers_row(buffers: DecisionBuffers, row: int) -> DecisionBuffers:
    """The buffers of one world: to write to them is to write to the batch. Pass them through `by_reference`."""
    return DecisionBuffers(
        buffers.until_s[row : row + 1],
        buffers.skip[row : row + 1],
        buffers.usd[row],
        buffers.queues[row],
        buffers.pools[row],
        buffers.actions[row],
        buffers.rule_score[row],
        buffers.rule_limit[row],
        buffers.rule_pool_limit[row],
        buffers.rule_place[row],
        buffers.queue_features[row],
        buffers.pool_features[row],
        buffers.score[row],
        buffers.limit[row],
        buffers.pool_limit[row],
        buffers.own_limit[row],
        buffers.limit_changed_s[row],
        buffers.order_changed_s[row],
        buffers.pool_changed_s[row],
        buffers.queue_min[row],
        buffers.queue_max[row],
        buffers.order_pinned[row],
        buffers.limit_pinned[row],
        buffers.pool_min[row],
        buffers.pool_max[row],
        buffers.pool_pinned[row],
        buffers.queue_notes[row],
        buffers.pool_notes[row],
        buffers.place[row],
        buffers.kept[row],
        buffers.sequence[row],
        buffers.spare_sequence[row],
        buffers.starts[row],
        buffers.unmet[row],
    )
