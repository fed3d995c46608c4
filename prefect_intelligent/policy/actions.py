"""The actions of a learned policy: corrections of the base rule's proposal, each from a short list of levels.

One level for the pool (a factor on the rule's pool limit) and two per queue (served earlier or later than the rule has
it; at most a share of the pool). The neutral level of each changes nothing: a policy that chooses it everywhere is the
rule. Levels are relative, so one network serves pools of any size and any number of queues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.backend import Column, Values, ceiling, rounded, rows, run_batch
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census, P
from prefect_intelligent.policy.priority_rules import rank

CAPACITY_FACTORS: Final[tuple[float, ...]] = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
"""Pool level: what the rule's pool limit is multiplied by."""
PLACES: Final[tuple[int, ...]] = (-1, 0, 1)
"""First queue level: after all others, where the rule has it, before all others."""
SHARES: Final[tuple[float, ...]] = (0.25, 0.5, float("inf"))
"""Second queue level: the most of the pool's slots that the queue may hold, besides the rule's limit."""

NEUTRAL_CAPACITY: Final = CAPACITY_FACTORS.index(1.0)
NEUTRAL_PLACE: Final = PLACES.index(0)
NEUTRAL_SHARE: Final = SHARES.index(float("inf"))
_IN_FRONT: Final = 1e6
"""More than the number of queues of any pool."""


class Levels(NamedTuple):
    """A choice of levels, as indexes into the lists above.

    Attributes:
        capacity: Shape (...,).
        place: Shape (..., n_queues).
        share: Shape (..., n_queues).
    """

    capacity: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    share: npt.NDArray[np.int64]


def neutral(census: Census) -> Levels:
    """The levels that leave the rule's proposal as it is."""
    shape = census.queues.shape[:-1]
    return Levels(np.full(shape[:-1], NEUTRAL_CAPACITY), np.full(shape, NEUTRAL_PLACE), np.full(shape, NEUTRAL_SHARE))


def flatten(levels: Levels) -> npt.NDArray[np.int64]:
    """Levels as one array of shape (..., 1 + 2 * n_queues), the form of a MultiDiscrete action."""
    return np.concatenate([levels.capacity[..., None], levels.place, levels.share], axis=-1)


def unflatten(action: npt.NDArray[np.int64]) -> Levels:
    """Inverse of `flatten`."""
    n = (action.shape[-1] - 1) // 2
    return Levels(action[..., 0], action[..., 1 : 1 + n], action[..., 1 + n :])


def apply_action(base: Proposal, census: Census, levels: Levels, place: Array | None = None) -> Proposal:
    """The rule's proposal with the corrections of `levels`; the rule's own where all are neutral.

    Args:
        base: The rule's proposal.
        census: The census that it was made for.
        levels: The corrections.
        place: `rank(base.score, census)`, if it is known already.
    """
    shape = base.score.shape
    score, limit, pool_limit = np.empty(shape), np.empty(shape), np.empty(shape[:-1])
    action = flatten(levels)
    run_batch(
        adjust_pools,
        np.ascontiguousarray(action.reshape(-1, action.shape[-1]), dtype=np.int64),
        rows(rank(base.score, census) if place is None else place, shape, 1),
        rows(base.limit, shape, 1),
        rows(base.pool_limit, shape[:-1], 0),
        rows(census[P.ACTIVE], shape[:-1], 0),
        rows(census[P.MOST], shape[:-1], 0),
        into=(rows(score, shape, 1), rows(limit, shape, 1), rows(pool_limit, shape[:-1], 0)),
    )
    return Proposal(score, limit, pool_limit)


def adjust_pool(
    action: Sequence[int],
    rule_place: Column,
    rule_limit: Column,
    rule_pool_limit: float,
    active: float,
    most: float,
    score: Values,
    limit: Values,
) -> float:
    """Write a corrected score and limit for each queue of a pool and return the corrected pool limit.

    Factors apply to what the pool may get of the rule's limit. Where the rule wants at least as much as the pool may
    get, the limit is not lowered: slots that are given away before a rush cannot be caught up with.

    Args:
        action: Levels of the pool, of the place of each queue and of the share of each queue, as from `flatten`.
        rule_place: Place of each queue in the rule's order, see `priority_rules.rank_pool`.
        rule_limit: The rule's limits.
        rule_pool_limit: The rule's pool limit.
        active: Slots held in the pool.
        most: Largest limit that the pool may get.
        score: Overwritten.
        limit: Overwritten.
    """
    pool_limit, attainable = rule_pool_limit, min(rule_pool_limit, most)
    if action[0] != NEUTRAL_CAPACITY and not math.isinf(attainable):
        factor = CAPACITY_FACTORS[action[0]]
        if factor > 1.0 or rule_pool_limit < most:
            pool_limit = attainable = max(1.0, rounded(attainable * factor))
    slots = max(active, 1.0) if math.isinf(attainable) else attainable
    count = len(score)
    for queue in range(count):
        score[queue] = PLACES[action[1 + queue]] * _IN_FRONT - rule_place[queue]
        limit[queue] = rule_limit[queue]
        share = action[1 + count + queue]
        if share != NEUTRAL_SHARE:
            limit[queue] = min(rule_limit[queue], max(1.0, ceiling(slots * SHARES[share])))
    return pool_limit


def adjust_pools(
    actions: Sequence[Sequence[int]],
    rule_places: Sequence[Column],
    rule_limits: Sequence[Column],
    rule_pool_limits: Column,
    active: Column,
    most: Column,
    scores: Sequence[Values],
    limits: Sequence[Values],
    pool_limits: Values,
) -> None:
    """`adjust_pool` for every pool of a batch."""
    for row in range(len(actions)):
        pool_limits[row] = adjust_pool(
            actions[row],
            rule_places[row],
            rule_limits[row],
            rule_pool_limits[row],
            active[row],
            most[row],
            scores[row],
            limits[row],
        )
