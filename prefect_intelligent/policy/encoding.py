"""The encoder: from a census to the features of the network, the same for training and serving.

Features depend on no absolute time and on no name; they are finite for any census, and permuting the queues permutes
the rows and changes nothing else. The base rule's proposal is among the features, since the network corrects the rule.

Change `ENCODING_VERSION` whenever a feature changes its meaning: a bundle trained on another version is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.backend import Column, Table, Values, columns, rows, run_batch, within
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import LOOK_AHEAD_S, Array, C, Census, P, plain
from prefect_intelligent.policy.priority_rules import rank

ENCODING_VERSION: Final = 2

Array32 = npt.NDArray[np.float32]

_WORK_UNIT_S: Final = 600.0
_MINUTE_S: Final = 60.0
_LIMIT_CAP: Final = 256.0
"""Limits above this, and unlimited ones, are encoded alike."""

_UNBOUNDED: Final = 1e9
_SLACK_CAP_S: Final = 1.2e6
"""Slack is clipped at two weeks, early or late."""
_LOG_LIMIT_CAP: Final = math.log(1.0 + _LIMIT_CAP)
_LOG_SLACK_CAP: Final = math.log(1.0 + _SLACK_CAP_S / _WORK_UNIT_S)
"""Computed once: most limits and much slack are unlimited."""


class F(IntEnum):
    """Features of a queue. Counts, work, time and money are log1p of the figure in the unit given."""

    WAITING = 0  # runs
    ACTIVE = 1
    WAITING_WORK = 2  # 10 minutes, as all work
    ACTIVE_LEFT = 3
    HEAD_WAIT = 4  # minutes
    URGENT_AHEAD = 5
    LATE = 6
    ARRIVALS = 7  # per hour
    UPCOMING = 8
    UPCOMING_WORK = 9
    ESTIMATE = 10  # minutes
    LIMIT = 11
    RESOURCE_CAPACITY = 12
    ACCRUING = 13  # in slot prices, as all money: what an hour of lateness costs against an hour of a slot
    VALUE = 14
    PRICE = 15
    HEAD_SLACK = 16  # symlog of 10 minutes, no deadline as far ahead; as all slack
    URGENT_SLACK = 17
    DUE_IN = 18
    NEXT_SLACK = 19
    SPREAD = 20  # mean log standard deviation of durations
    FAILURE_PROBABILITY = 21
    HAS_WAITING = 22  # 0 or 1
    NEXT_IN = 23  # hours, 1 if nothing is scheduled within the look-ahead
    LIMIT_USE = 24  # active share of the limit in force
    CLOSED = 25  # 1 if a person has paused it or set its limit to 0
    RESOURCE = 26  # 1 if it loads a shared resource
    RESOURCE_LOAD = 27  # active runs on that resource over its capacity
    PLACE = 28  # place in the order in force, 0 first, towards 1 last
    RULE_PLACE = 29  # the same in the base rule's order
    RULE_LIMIT = 30  # log1p of the base rule's limit


class G(IntEnum):
    """Features of the pool, log1p up to QUEUES."""

    LIMIT = 0  # pool limit in force
    ACTIVE = 1
    ROOM = 2  # free slots
    RULE_POOL_LIMIT = 3
    WAITING = 4
    WAITING_WORK = 5  # in units of 10 minutes
    WANTED = 6  # slots that would clear the waiting work within an hour
    UPCOMING_WORK = 7
    ACCRUING = 8  # US dollars per hour, in slot prices
    VALUE = 9
    QUEUES = 10
    USE = 11  # active share of the limit
    HOUR_SIN = 12
    HOUR_COS = 13
    DIAL = 14  # log of the lateness weight
    IDLE_FRACTION = 15
    RULE_CHANGE = 16  # log of what the pool may get of the base rule's pool limit over the limit in force
    MOST = 17  # log1p of the largest limit that the pool may get
    SHORTFALL = 18  # log of the base rule's pool limit over what the pool may get of it


_F: Final = plain(F)


QUEUE_FEATURES: Final[tuple[str, ...]] = tuple(feature.name.lower() for feature in F)
"""Name of each per-queue feature, in order."""
POOL_FEATURES: Final[tuple[str, ...]] = tuple(feature.name.lower() for feature in G)
"""Name of each feature of the pool, in order."""


class Observation(NamedTuple):
    """The features of one pool or of a batch of pools.

    Attributes:
        queues: Shape (..., n_queues, len(QUEUE_FEATURES)), float32; zero for absent queues.
        pool: Shape (..., len(POOL_FEATURES)), float32.
        mask: Shape (..., n_queues), which queues exist.
    """

    queues: Array32
    pool: Array32
    mask: npt.NDArray[np.bool_]


def encode(census: Census, base: Proposal, place: Array | None = None) -> Observation:
    """The features of a census and of the base rule's proposal for it.

    Args:
        census: Of one pool or a batch.
        base: The base rule's proposal for it.
        place: `rank(base.score, census)`, if it is known already.
    """
    shape = census.queues.shape[:-1]
    queues = np.empty((*shape, len(F)), dtype=np.float32)
    pool = np.empty((*shape[:-1], len(G)), dtype=np.float32)
    run_batch(
        encode_pools,
        rows(census.queues, census.queues.shape, 2),
        rows(census.pool, census.pool.shape, 1),
        rows(rank(base.score, census) if place is None else place, shape, 1),
        rows(base.limit, shape, 1),
        rows(base.pool_limit, shape[:-1], 0),
        into=(queues.reshape(-1, *queues.shape[-2:]), pool.reshape(-1, pool.shape[-1])),
    )
    return Observation(queues, pool, census.present)


def encode_pool(
    table: Table,
    pool: Column,
    rule_place: Column,
    rule_limit: Column,
    rule_pool_limit: float,
    seen_queues: Sequence[Values],
    seen_pool: Values,
) -> None:
    """Write the features of one pool.

    Args:
        table: The census of its queues.
        pool: The census of the pool.
        rule_place: Place of each queue in the base rule's order, see `priority_rules.rank_pool`.
        rule_limit: The base rule's limits.
        rule_pool_limit: The base rule's pool limit.
        seen_queues: Overwritten; for each queue the features of `F`.
        seen_pool: Overwritten; the features of `G`.
    """
    present = table[C.PRESENT]
    count = 0.0
    for queue in range(len(present)):
        if present[queue] > 0:
            count += 1.0
    slot_usd = max(1e-3, pool[P.SLOT_USD_PER_HOUR])
    _write_logs(table, slot_usd, seen_queues)
    _write_states(table, seen_queues)
    _write_places(table[C.RANK], rule_place, rule_limit, count, seen_queues)
    for queue in range(len(present)):
        if not present[queue] > 0:
            for feature in range(len(seen_queues[queue])):
                seen_queues[queue][feature] = 0.0
    _write_pool(table, pool, slot_usd, count, rule_pool_limit, seen_pool)


def _write_logs(table: Table, slot_usd: float, seen: Sequence[Values]) -> None:
    """Logarithms of counts, work, waiting, money, limits and slack; feature by feature, which is fastest."""
    _log(table[C.WAITING], 1.0, seen, _F.WAITING)
    _log(table[C.ACTIVE], 1.0, seen, _F.ACTIVE)
    _log(table[C.WAITING_WORK_S], _WORK_UNIT_S, seen, _F.WAITING_WORK)
    _log(table[C.ACTIVE_LEFT_S], _WORK_UNIT_S, seen, _F.ACTIVE_LEFT)
    _log(table[C.HEAD_WAIT_S], _MINUTE_S, seen, _F.HEAD_WAIT)
    _log(table[C.URGENT_AHEAD_S], _WORK_UNIT_S, seen, _F.URGENT_AHEAD)
    _log(table[C.LATE], 1.0, seen, _F.LATE)
    _log(table[C.ARRIVALS_PER_HOUR], 1.0, seen, _F.ARRIVALS)
    _log(table[C.UPCOMING], 1.0, seen, _F.UPCOMING)
    _log(table[C.UPCOMING_WORK_S], _WORK_UNIT_S, seen, _F.UPCOMING_WORK)
    _log(table[C.ESTIMATE_S], _MINUTE_S, seen, _F.ESTIMATE)
    _log(table[C.ACCRUING_USD_PER_HOUR], slot_usd, seen, _F.ACCRUING)
    _log(table[C.VALUE_USD_PER_HOUR], slot_usd, seen, _F.VALUE)
    _log(table[C.USD_PER_HOUR], slot_usd, seen, _F.PRICE)
    _limit(table[C.LIMIT], seen, _F.LIMIT)
    _limit(table[C.RESOURCE_CAPACITY], seen, _F.RESOURCE_CAPACITY)
    _slack(table[C.HEAD_SLACK_S], seen, _F.HEAD_SLACK)
    _slack(table[C.URGENT_SLACK_S], seen, _F.URGENT_SLACK)
    _slack(table[C.DUE_IN_S], seen, _F.DUE_IN)
    _slack(table[C.NEXT_SLACK_S], seen, _F.NEXT_SLACK)


def _write_states(table: Table, seen: Sequence[Values]) -> None:
    """Means, shares and flags."""
    actives, limits, resources = table[C.ACTIVE], table[C.LIMIT], table[C.RESOURCE]
    waiting, paused, next_in_s = table[C.WAITING], table[C.PAUSED], table[C.NEXT_IN_S]
    spread, failure_probability = table[C.SPREAD], table[C.FAILURE_PROBABILITY]
    capacities, loads = table[C.RESOURCE_CAPACITY], table[C.RESOURCE_ACTIVE]
    for queue in range(len(seen)):
        features, limit = seen[queue], min(limits[queue], _LIMIT_CAP)
        features[_F.SPREAD] = spread[queue]
        features[_F.FAILURE_PROBABILITY] = failure_probability[queue]
        features[_F.HAS_WAITING] = 1.0 if waiting[queue] > 0 else 0.0
        features[_F.NEXT_IN] = min(next_in_s[queue] / LOOK_AHEAD_S, 1.0)
        features[_F.LIMIT_USE] = min(actives[queue] / max(limit, 1.0), 2.0)
        features[_F.CLOSED] = 1.0 if paused[queue] > 0 or limit <= 0 else 0.0
        if resources[queue] > 0:
            features[_F.RESOURCE] = 1.0
            features[_F.RESOURCE_LOAD] = min(loads[queue] / max(capacities[queue], 0.1), 4.0)
        else:
            features[_F.RESOURCE] = features[_F.RESOURCE_LOAD] = 0.0


def _write_places(ranks: Column, rule_place: Column, rule_limit: Column, count: float, seen: Sequence[Values]) -> None:
    """Places in the order in force and in the base rule's order, and the base rule's limits."""
    for queue in range(len(seen)):
        seen[queue][_F.PLACE] = ranks[queue] / max(count, 1.0)
        seen[queue][_F.RULE_PLACE] = rule_place[queue] / max(count, 1.0)
    _limit(rule_limit, seen, _F.RULE_LIMIT)


def _write_pool(
    table: Table, pool: Column, slot_usd: float, count: float, rule_pool_limit: float, seen: Values
) -> None:
    """The features of the pool."""
    limit, active = min(pool[P.LIMIT], _LIMIT_CAP), pool[P.ACTIVE]
    wanted, most = min(rule_pool_limit, _LIMIT_CAP), min(pool[P.MOST], _LIMIT_CAP)
    attainable, work_s = min(wanted, most), _sum(table[C.WAITING_WORK_S])
    angle = pool[P.HOUR] * (2.0 * math.pi / 24.0)
    seen[G.LIMIT] = math.log(1.0 + limit)
    seen[G.ACTIVE] = math.log(1.0 + active)
    seen[G.ROOM] = math.log(1.0 + max(limit - active, 0.0))
    seen[G.RULE_POOL_LIMIT] = math.log(1.0 + wanted)
    seen[G.WAITING] = math.log(1.0 + _sum(table[C.WAITING]))
    seen[G.WAITING_WORK] = math.log(1.0 + work_s / _WORK_UNIT_S)
    seen[G.WANTED] = math.log(1.0 + work_s / 3600.0)
    seen[G.UPCOMING_WORK] = math.log(1.0 + _sum(table[C.UPCOMING_WORK_S]) / _WORK_UNIT_S)
    seen[G.ACCRUING] = math.log(1.0 + _sum(table[C.ACCRUING_USD_PER_HOUR]) / slot_usd)
    seen[G.VALUE] = math.log(1.0 + _sum(table[C.VALUE_USD_PER_HOUR]) / slot_usd)
    seen[G.QUEUES] = math.log(1.0 + count)
    seen[G.USE] = min(active / max(limit, 1.0), 2.0)
    seen[G.HOUR_SIN] = math.sin(angle)
    seen[G.HOUR_COS] = math.cos(angle)
    seen[G.DIAL] = math.log(within(pool[P.LATENESS_WEIGHT], 1e-3, 1e3))
    seen[G.IDLE_FRACTION] = pool[P.IDLE_FRACTION]
    seen[G.RULE_CHANGE] = math.log((1.0 + attainable) / (1.0 + limit))
    seen[G.MOST] = math.log(1.0 + most)
    seen[G.SHORTFALL] = math.log((1.0 + wanted) / (1.0 + attainable))


def encode_pools(
    queues: Sequence[Sequence[Column]],
    figures: Sequence[Column],
    rule_places: Sequence[Column],
    rule_limits: Sequence[Column],
    rule_pool_limits: Column,
    seen_queues: Sequence[Sequence[Values]],
    seen_pools: Sequence[Values],
) -> None:
    """`encode_pool` for every pool of a batch."""
    for row in range(len(queues)):
        encode_pool(
            columns(queues[row]),
            figures[row],
            rule_places[row],
            rule_limits[row],
            rule_pool_limits[row],
            seen_queues[row],
            seen_pools[row],
        )


def _log(figures: Column, unit: float, seen: Sequence[Values], feature: int) -> None:
    """Write log1p of figures of 0 or more, in a unit."""
    for queue in range(len(figures)):
        figure = figures[queue]
        capped = _UNBOUNDED if figure > _UNBOUNDED else figure
        seen[queue][feature] = 0.0 if figure <= 0 else math.log(1.0 + capped / unit)


def _limit(limits: Column, seen: Sequence[Values], feature: int) -> None:
    """Write log1p of limits of 0 or more."""
    for queue in range(len(limits)):
        limit = limits[queue]
        seen[queue][feature] = _LOG_LIMIT_CAP if limit >= _LIMIT_CAP else math.log(1.0 + within(limit, 0.0, _LIMIT_CAP))


def _slack(slacks_s: Column, seen: Sequence[Values], feature: int) -> None:
    """Write slack in units of 10 minutes, logarithmic on either side of zero."""
    for queue in range(len(slacks_s)):
        slack_s = slacks_s[queue]
        if slack_s >= _SLACK_CAP_S:
            seen[queue][feature] = _LOG_SLACK_CAP
        elif slack_s < 0:
            seen[queue][feature] = -math.log(1.0 - within(slack_s, -_SLACK_CAP_S, 0.0) / _WORK_UNIT_S)
        else:
            seen[queue][feature] = math.log(1.0 + slack_s / _WORK_UNIT_S)


def _sum(column: Column) -> float:
    """The sum over the queues."""
    total = 0.0
    for queue in range(len(column)):
        total += column[queue]
    return total
