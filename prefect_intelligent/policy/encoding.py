"""From a census to the numbers a network sees: the one encoder for training and serving.

Features depend on no absolute time and on no name; they are finite for any census, and listing the queues in another
order lists the rows in that order and changes nothing else. What the base rule would do is part of what the network
sees, since the network corrects the rule.

Change `ENCODING_VERSION` whenever a feature changes its meaning: a bundle trained on another version is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import LOOK_AHEAD_S, C, Census, P, plain
from prefect_intelligent.policy.loops import Column, Table, Values, columns, rows, run, within
from prefect_intelligent.policy.rules import rank

ENCODING_VERSION: Final = 1

Array32 = npt.NDArray[np.float32]

_WORK_UNIT_S: Final = 600.0
_MINUTE_S: Final = 60.0
_LIMIT_CAP: Final = 256.0
"""Limits above this, and unlimited ones, look the same."""

_UNBOUNDED: Final = 1e9
_SLACK_CAP_S: Final = 1.2e6
"""Slack is clipped at two weeks either way."""
_LOG_LIMIT_CAP: Final = math.log(1.0 + _LIMIT_CAP)
_LOG_SLACK_CAP: Final = math.log(1.0 + _SLACK_CAP_S / _WORK_UNIT_S)
"""Most limits and much slack are unlimited, and most counts are zero: their logarithms need no calculation."""


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
    RULE_CHANGE = 16  # log of the base rule's pool limit over the one in force


_F: Final = plain(F)


QUEUE_FEATURES: Final[tuple[str, ...]] = tuple(feature.name.lower() for feature in F)
"""Name of each per-queue feature, in order."""
POOL_FEATURES: Final[tuple[str, ...]] = tuple(feature.name.lower() for feature in G)
"""Name of each feature of the pool, in order."""


class Observation(NamedTuple):
    """What a network sees of one pool or a batch of pools.

    Attributes:
        queues: Shape (..., n_queues, len(QUEUE_FEATURES)), float32; zero for absent queues.
        pool: Shape (..., len(POOL_FEATURES)), float32.
        mask: Shape (..., n_queues), which queues exist.
    """

    queues: Array32
    pool: Array32
    mask: npt.NDArray[np.bool_]


def encode(census: Census, base: Proposal) -> Observation:
    """The features of a census together with what the base rule proposes for it."""
    shape = census.queues.shape[:-1]
    queues = np.empty((*shape, len(F)), dtype=np.float32)
    pool = np.empty((*shape[:-1], len(G)), dtype=np.float32)
    run(
        encode_pools,
        rows(census.queues, census.queues.shape, 2),
        rows(census.pool, census.pool.shape, 1),
        rows(rank(base.score, census), shape, 1),
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
        pool: Its own.
        rule_place: Where the base rule puts each queue, see `rules.rank_pool`.
        rule_limit: The base rule's limits.
        rule_pool_limit: The base rule's pool limit.
        seen_queues: Overwritten; for each queue the features of `F`.
        seen_pool: Overwritten; the features of `G`.
    """
    present, ranks = table[C.PRESENT], table[C.RANK]
    count = 0.0
    for queue in range(len(present)):
        if present[queue] > 0:
            count += 1.0
    slot_usd = max(1e-3, pool[P.SLOT_USD_PER_HOUR])
    for queue in range(len(present)):
        seen = seen_queues[queue]
        if present[queue] > 0:
            _write_counts(table, queue, slot_usd, seen)
            _write_states(table, queue, seen)
            seen[_F.PLACE] = ranks[queue] / count
            seen[_F.RULE_PLACE] = rule_place[queue] / count
            seen[_F.RULE_LIMIT] = _limit(rule_limit[queue])
        else:
            for feature in range(len(seen)):
                seen[feature] = 0.0
    _write_pool(table, pool, slot_usd, count, rule_pool_limit, seen_pool)


def _write_counts(table: Table, queue: int, slot_usd: float, seen: Values) -> None:
    """Logarithms of counts, work, waiting, money and slack of one queue."""
    seen[_F.WAITING] = _log(table[C.WAITING][queue], 1.0)
    seen[_F.ACTIVE] = _log(table[C.ACTIVE][queue], 1.0)
    seen[_F.WAITING_WORK] = _log(table[C.WAITING_WORK_S][queue], _WORK_UNIT_S)
    seen[_F.ACTIVE_LEFT] = _log(table[C.ACTIVE_LEFT_S][queue], _WORK_UNIT_S)
    seen[_F.HEAD_WAIT] = _log(table[C.HEAD_WAIT_S][queue], _MINUTE_S)
    seen[_F.URGENT_AHEAD] = _log(table[C.URGENT_AHEAD_S][queue], _WORK_UNIT_S)
    seen[_F.LATE] = _log(table[C.LATE][queue], 1.0)
    seen[_F.ARRIVALS] = _log(table[C.ARRIVALS_PER_HOUR][queue], 1.0)
    seen[_F.UPCOMING] = _log(table[C.UPCOMING][queue], 1.0)
    seen[_F.UPCOMING_WORK] = _log(table[C.UPCOMING_WORK_S][queue], _WORK_UNIT_S)
    seen[_F.ESTIMATE] = _log(table[C.ESTIMATE_S][queue], _MINUTE_S)
    seen[_F.LIMIT] = _limit(table[C.LIMIT][queue])
    seen[_F.RESOURCE_CAPACITY] = _limit(table[C.RESOURCE_CAPACITY][queue])
    seen[_F.ACCRUING] = _log(table[C.ACCRUING_USD_PER_HOUR][queue], slot_usd)
    seen[_F.VALUE] = _log(table[C.VALUE_USD_PER_HOUR][queue], slot_usd)
    seen[_F.PRICE] = _log(table[C.USD_PER_HOUR][queue], slot_usd)
    seen[_F.HEAD_SLACK] = _slack(table[C.HEAD_SLACK_S][queue])
    seen[_F.URGENT_SLACK] = _slack(table[C.URGENT_SLACK_S][queue])
    seen[_F.DUE_IN] = _slack(table[C.DUE_IN_S][queue])
    seen[_F.NEXT_SLACK] = _slack(table[C.NEXT_SLACK_S][queue])


def _write_states(table: Table, queue: int, seen: Values) -> None:
    """Means, shares and flags of one queue."""
    active, limit = table[C.ACTIVE][queue], min(table[C.LIMIT][queue], _LIMIT_CAP)
    seen[_F.SPREAD] = table[C.SPREAD][queue]
    seen[_F.FAILURE_PROBABILITY] = table[C.FAILURE_PROBABILITY][queue]
    seen[_F.HAS_WAITING] = 1.0 if table[C.WAITING][queue] > 0 else 0.0
    seen[_F.NEXT_IN] = min(table[C.NEXT_IN_S][queue] / LOOK_AHEAD_S, 1.0)
    seen[_F.LIMIT_USE] = min(active / max(limit, 1.0), 2.0)
    seen[_F.CLOSED] = 1.0 if table[C.PAUSED][queue] > 0 or limit <= 0 else 0.0
    if table[C.RESOURCE][queue] > 0:
        seen[_F.RESOURCE] = 1.0
        capacity = max(table[C.RESOURCE_CAPACITY][queue], 0.1)
        seen[_F.RESOURCE_LOAD] = min(table[C.RESOURCE_ACTIVE][queue] / capacity, 4.0)
    else:
        seen[_F.RESOURCE] = seen[_F.RESOURCE_LOAD] = 0.0


def _write_pool(
    table: Table, pool: Column, slot_usd: float, count: float, rule_pool_limit: float, seen: Values
) -> None:
    """The features of the pool."""
    limit, active = min(pool[P.LIMIT], _LIMIT_CAP), pool[P.ACTIVE]
    wanted, work_s = min(rule_pool_limit, _LIMIT_CAP), _sum(table[C.WAITING_WORK_S])
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
    seen[G.RULE_CHANGE] = math.log((1.0 + wanted) / (1.0 + limit))


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


def _log(value: float, unit: float) -> float:
    """log1p of a figure of 0 or more, in a unit."""
    return 0.0 if value <= 0 else math.log(1.0 + within(value, 0.0, _UNBOUNDED) / unit)


def _limit(limit: float) -> float:
    """log1p of a limit of 0 or more."""
    return _LOG_LIMIT_CAP if limit >= _LIMIT_CAP else math.log(1.0 + within(limit, 0.0, _LIMIT_CAP))


def _slack(slack_s: float) -> float:
    """Slack in units of 10 minutes, logarithmic on either side of zero."""
    if slack_s >= _SLACK_CAP_S:
        return _LOG_SLACK_CAP
    clipped_s = within(slack_s, -_SLACK_CAP_S, _SLACK_CAP_S)
    if clipped_s < 0:
        return -math.log(1.0 - clipped_s / _WORK_UNIT_S)
    return math.log(1.0 + clipped_s / _WORK_UNIT_S)


def _sum(column: Column) -> float:
    """The sum over the queues."""
    total = 0.0
    for queue in range(len(column)):
        total += column[queue]
    return total
