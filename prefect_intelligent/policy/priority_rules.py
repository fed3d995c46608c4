"""Priority rules: which queue is served first.

Each rule is a pure function `(table, queue, mean_s, numbers) -> score`, higher is served earlier: `table` holds the
columns of one pool's census, `mean_s` is `mean_estimate_s` of the pool. Scores are finite for any census and depend on
no queue's name or place. Prefect serves a queue first come, first served; a rule therefore scores a queue by one of its
runs: the head (served next), or the run with the least slack together with the work that waits before it.

A queue without waiting runs is scored by the next run scheduled in it, so that its place is right when that run
comes. `backend` runs the functions over a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from prefect_intelligent.policy.backend import Column, Numbers, Table, Values, columns, rows, run_batch, within
from prefect_intelligent.policy.census import Array, C, Census
from prefect_intelligent.policy.rule_parameters import RuleNumbers

FAR_S: Final = 1e8
"""Stands for "no deadline": three years, seconds."""
_LEAST_USD: Final = 1e-6
_LEAST_S: Final = 1.0


class HeadOfLine(NamedTuple):
    """The run by which a queue is scored.

    Attributes:
        usd_per_hour: Its price of lateness, above 0.
        estimate_s: Its median duration, at least 1 s.
        slack_s: Its slack, within +-`FAR_S`.
    """

    usd_per_hour: float
    estimate_s: float
    slack_s: float


def head(table: Table, queue: int) -> HeadOfLine:
    """The run that Prefect would start next in a queue."""
    if table[C.WAITING][queue] > 0:
        return _head_of_line(
            table[C.HEAD_USD_PER_HOUR][queue], table[C.HEAD_ESTIMATE_S][queue], table[C.HEAD_SLACK_S][queue]
        )
    return _head_of_line(table[C.USD_PER_HOUR][queue], table[C.ESTIMATE_S][queue], next_slack_s(table, queue))


def most_urgent(table: Table, queue: int) -> HeadOfLine:
    """The waiting run with the least slack, together with the work that is served before it in its queue."""
    if table[C.WAITING][queue] > 0:
        ahead_s = table[C.URGENT_AHEAD_S][queue]
        return _head_of_line(
            table[C.URGENT_USD_PER_HOUR][queue],
            table[C.URGENT_ESTIMATE_S][queue] + ahead_s,
            table[C.URGENT_SLACK_S][queue] - ahead_s,
        )
    return _head_of_line(table[C.USD_PER_HOUR][queue], table[C.ESTIMATE_S][queue], next_slack_s(table, queue))


def mean_estimate_s(table: Table) -> float:
    """Mean median duration of the waiting runs of the pool, of all known ones if none waits; at least 1 s."""
    waiting, work_s, known_s = table[C.WAITING], table[C.WAITING_WORK_S], table[C.ESTIMATE_S]
    runs, total_s, queues, sum_s = 0.0, 0.0, 0, 0.0
    for queue in range(len(waiting)):
        runs += waiting[queue]
        total_s += work_s[queue]
        sum_s += known_s[queue]
        if known_s[queue] > 0:
            queues += 1
    return max(_LEAST_S, total_s / max(1.0, runs) if runs > 0 else sum_s / max(1, queues))


def prefect_default(table: Table, queue: int) -> float:
    """The order in force, unchanged: what Prefect does without steering."""
    return -table[C.RANK][queue]


def fifo(table: Table, queue: int) -> float:
    """The queue whose head has waited longest: first come, first served over all queues."""
    return table[C.HEAD_WAIT_S][queue]


def static_by_value(table: Table, queue: int) -> float:
    """The mean price of lateness of a queue's runs in any phase: a static order by value."""
    return table[C.USD_PER_HOUR][queue]


def edf(table: Table, queue: int) -> float:
    """Earliest due date: minus the earliest due instant of the queue. Jackson 1955."""
    if table[C.WAITING][queue] > 0:
        return -within(table[C.DUE_IN_S][queue], -FAR_S, FAR_S)
    return -within(next_slack_s(table, queue) + table[C.ESTIMATE_S][queue], -FAR_S, FAR_S)


def llf(table: Table, queue: int) -> float:
    """Least laxity: minus the least slack. Dertouzos & Mok 1989. Collapses in overload."""
    return -most_urgent(table, queue).slack_s


def sjf(table: Table, queue: int) -> float:
    """Shortest job first: minus the head's median duration. Smith 1956 (equal weights)."""
    return -head(table, queue).estimate_s


def srpt(table: Table, queue: int) -> float:
    """Least work left: minus the work waiting and running in the queue. Schrage 1968, per queue."""
    return -min(table[C.WAITING_WORK_S][queue] + table[C.ACTIVE_LEFT_S][queue], FAR_S)


def wspt(table: Table, queue: int) -> float:
    """Weighted shortest job first (the c-mu rule): w / p of the head. Smith 1956; Cox & Smith 1961."""
    first = head(table, queue)
    return first.usd_per_hour / first.estimate_s


def max_weight(table: Table, queue: int) -> float:
    """MaxWeight: w * mu * Q, with mu = 1 / p of the head and Q the runs waiting. Tassiulas & Ephremides 1992."""
    return wspt(table, queue) * table[C.WAITING][queue]


def atc(table: Table, queue: int, mean_s: float, numbers: RuleNumbers) -> float:
    """Apparent tardiness cost: (w / p) exp(-max(0, slack) / (k * mean p)). Vepsalainen & Morton 1987.

    The logarithm, so that nothing underflows; the larger of the head's and of the most urgent run's.
    """
    scale_s = numbers.atc_k * mean_s
    first = head(table, queue)
    one = math.log(first.usd_per_hour / first.estimate_s) - max(0.0, first.slack_s) / scale_s
    if not table[C.WAITING][queue] > 0:
        return one  # both are the next run
    urgent = most_urgent(table, queue)
    other = math.log(urgent.usd_per_hour / urgent.estimate_s) - max(0.0, urgent.slack_s) / scale_s
    return max(one, other)


def covert(table: Table, queue: int, numbers: RuleNumbers) -> float:
    """Cost over time: (w / p) max(0, 1 - max(0, slack) / (k p)). Carroll 1965."""
    best = 0.0
    for run in (head(table, queue), most_urgent(table, queue)):
        left = 1.0 - max(0.0, run.slack_s) / (numbers.atc_k * run.estimate_s)
        best = max(best, run.usd_per_hour / run.estimate_s * max(0.0, left))
    return best


def fair_share(table: Table, queue: int) -> float:
    """Weighted fair share: the fewest slots for its weight (its price) goes first. Demers, Keshav & Shenker 1989."""
    weight = max(_LEAST_USD, table[C.USD_PER_HOUR][queue])
    return -math.log((table[C.ACTIVE][queue] + 1.0) / weight)


def blend(table: Table, queue: int, mean_s: float, numbers: RuleNumbers) -> float:
    """ATC with free exponents, for tuning: w^a p^-b (1 + Q)^c exp(-max(0, slack) / (k * mean p)), as a logarithm.

    a = b = 1 and c = 0 is ATC; k to infinity with c = 1 is MaxWeight; a = 0 and small b is close to EDF.
    """
    scale_s = numbers.atc_k * mean_s
    best = _blend(head(table, queue), scale_s, numbers)
    if table[C.WAITING][queue] > 0:  # else both are the next run
        best = max(best, _blend(most_urgent(table, queue), scale_s, numbers))
    return best + numbers.backlog_exponent * math.log(1.0 + table[C.WAITING][queue])


def _blend(run: HeadOfLine, scale_s: float, numbers: RuleNumbers) -> float:
    """The logarithm of all but the backlog in `blend`."""
    index = numbers.value_exponent * math.log(run.usd_per_hour)
    index -= numbers.duration_exponent * math.log(run.estimate_s)
    return index - max(0.0, run.slack_s) / scale_s


class Priority(IntEnum):
    """The priority rules by number."""

    PREFECT_DEFAULT = 0
    FIFO = 1
    STATIC = 2
    EDF = 3
    LLF = 4
    SJF = 5
    SRPT = 6
    WSPT = 7
    MAX_WEIGHT = 8
    ATC = 9
    COVERT = 10
    FAIR = 11
    BLEND = 12


PRIORITY_RULES: Final[Mapping[str, Priority]] = MappingProxyType(
    {
        "prefect-default": Priority.PREFECT_DEFAULT,
        "fifo": Priority.FIFO,
        "static": Priority.STATIC,
        "edf": Priority.EDF,
        "llf": Priority.LLF,
        "sjf": Priority.SJF,
        "srpt": Priority.SRPT,
        "wspt": Priority.WSPT,
        "maxweight": Priority.MAX_WEIGHT,
        "atc": Priority.ATC,
        "covert": Priority.COVERT,
        "fair": Priority.FAIR,
        "blend": Priority.BLEND,
    }
)
"""Every priority rule by the name it has on the command line."""


def score_queue(table: Table, queue: int, mean_s: float, numbers: RuleNumbers) -> float:
    """The score of a queue by the rule that `numbers.priority` names."""
    rule = numbers.priority
    if rule == Priority.BLEND:
        return blend(table, queue, mean_s, numbers)
    if rule == Priority.ATC:
        return atc(table, queue, mean_s, numbers)
    if rule == Priority.EDF:
        return edf(table, queue)
    if rule == Priority.FIFO:
        return fifo(table, queue)
    if rule == Priority.STATIC:
        return static_by_value(table, queue)
    if rule == Priority.LLF:
        return llf(table, queue)
    if rule == Priority.SJF:
        return sjf(table, queue)
    if rule == Priority.SRPT:
        return srpt(table, queue)
    if rule == Priority.WSPT:
        return wspt(table, queue)
    if rule == Priority.MAX_WEIGHT:
        return max_weight(table, queue)
    if rule == Priority.COVERT:
        return covert(table, queue, numbers)
    if rule == Priority.FAIR:
        return fair_share(table, queue)
    return prefect_default(table, queue)


def rank_pool(score: Column, table: Table, place: Values, sequence: Numbers) -> None:
    """Put the queues of a pool in the order of their scores.

    Equal scores keep the order in force; absent queues come last.

    Args:
        score: Of each queue; those of absent queues are not read.
        table: The pool's census.
        place: Overwritten with the place of each queue, 0 first.
        sequence: Overwritten with the queues in their order.
    """
    present, in_force = table[C.PRESENT], table[C.RANK]
    count = 0
    for queue in range(len(present)):
        if present[queue] > 0:
            at = count
            while at > 0:  # insertion: few queues, most of them in order already
                other = sequence[at - 1]
                if score[queue] > score[other] or (score[queue] == score[other] and in_force[queue] < in_force[other]):
                    sequence[at] = other
                    at -= 1
                else:
                    break
            sequence[at] = queue
            count += 1
    for queue in range(len(present)):
        if not present[queue] > 0:
            sequence[count] = queue
            count += 1
    for at in range(count):
        place[sequence[at]] = float(at)


def rank_pools(
    scores: Sequence[Column],
    queues: Sequence[Sequence[Column]],
    places: Sequence[Values],
    sequences: Sequence[Numbers],
) -> None:
    """`rank_pool` for every pool of a batch."""
    for row in range(len(queues)):
        rank_pool(scores[row], columns(queues[row]), places[row], sequences[row])


def rank(score: Array, census: Census) -> Array:
    """Place of each queue when served by `score`, 0 first, shape (..., n_queues); see `rank_pool`."""
    shape = census.queues.shape[:-1]
    places = np.empty(shape)
    sequences = np.empty(rows(places, shape, 1).shape, dtype=np.int64)
    run_batch(
        rank_pools,
        rows(score, shape, 1),
        rows(census.queues, census.queues.shape, 2),
        into=(rows(places, shape, 1), sequences),
    )
    return places


def next_slack_s(table: Table, queue: int) -> float:
    """Slack of the next scheduled run; infinite if there is none."""
    return table[C.NEXT_SLACK_S][queue] if table[C.UPCOMING][queue] > 0 else math.inf


def _head_of_line(usd_per_hour: float, estimate_s: float, slack_s: float) -> HeadOfLine:
    """A `HeadOfLine` clipped to its bounds."""
    return HeadOfLine(max(_LEAST_USD, usd_per_hour), max(_LEAST_S, estimate_s), within(slack_s, -FAR_S, FAR_S))
