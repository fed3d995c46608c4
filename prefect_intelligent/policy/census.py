"""The census: figures of each queue and of the pool at one instant, as arrays; the input of every policy.

A census is taken from a live `Snapshot` by `take_census`; the twin fills the same columns for a batch of worlds.
Rules, encoder and guard read nothing else, so a policy is served with what it was trained on. A conformance test
compares the two ways of filling a census.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Estimate, QueueState, Run, Snapshot
from prefect_intelligent.domain.followers import Inherited, inherit

LOOK_AHEAD_S: Final = 3600.0
"""Horizon of the `UPCOMING*` columns, seconds."""

Array = npt.NDArray[np.float64]


class Q(IntEnum):
    """Columns of `Census.queues`. Runs counted are those of the queue; `inf` means none or unlimited.

    A run that others wait for is due when they need it, and priced with its part of what their lateness costs
    (`domain.followers`); only what accrues already is its own.
    """

    PRESENT = 0  # 1 if the queue exists, 0 is padding
    PAUSED = 1  # 1 if a person has paused it
    LIMIT = 2  # its limit in force, runs
    RANK = 3  # place in the serving order in force, 0 first
    WAITING = 4  # runs due and unclaimed
    ACTIVE = 5  # runs that hold a slot
    WAITING_WORK_S = 6  # sum of the waiting runs' median durations
    ACTIVE_LEFT_S = 7  # sum of the active runs' remaining medians
    HEAD_WAIT_S = 8  # how long the first waiting run has waited since it was scheduled
    HEAD_ESTIMATE_S = 9  # its median duration; 0 if none waits
    HEAD_SLACK_S = 10  # its slack; inf without deadline or if none waits
    HEAD_USD_PER_HOUR = 11  # its price of lateness
    URGENT_ESTIMATE_S = 12  # the same three of the waiting run with the least slack
    URGENT_SLACK_S = 13
    URGENT_USD_PER_HOUR = 14
    URGENT_AHEAD_S = 15  # median work waiting in front of it in its queue
    DUE_IN_S = 16  # earliest due instant among the waiting runs, from now; inf if none
    LATE = 17  # waiting runs with negative slack
    ACCRUING_USD_PER_HOUR = 18  # sum of lateness prices over waiting and active runs already past due
    VALUE_USD_PER_HOUR = 19  # sum of lateness prices over waiting runs
    ESTIMATE_S = 20  # mean median duration over waiting, active and UPCOMING runs; 0 if none
    SPREAD = 21  # mean log standard deviation of those estimates
    FAILURE_PROBABILITY = 22  # mean over waiting runs
    ARRIVALS_PER_HOUR = 23  # recent arrival rate; 0 if not known
    UPCOMING = 24  # runs scheduled within LOOK_AHEAD_S
    UPCOMING_WORK_S = 25  # sum of their median durations
    NEXT_IN_S = 26  # seconds to the next scheduled run; inf if none within LOOK_AHEAD_S
    NEXT_SLACK_S = 27  # its slack, counted from now; inf if none
    RESOURCE_CAPACITY = 28  # capacity of the tightest shared resource its runs load; inf if none
    RESOURCE_ACTIVE = 29  # active runs of the whole pool on that resource
    RESOURCE = 30  # its number within the pool, from 1; 0 if none. Only equality means anything
    USD_PER_HOUR = 31  # mean price of lateness over the runs that ESTIMATE_S counts; 0 if none


class P(IntEnum):
    """Columns of `Census.pool`."""

    LIMIT = 0  # pool limit in force, slots; inf if unlimited
    ACTIVE = 1  # slots held
    HOUR = 2  # hour of the day, UTC, 0 to 24
    SLOT_USD_PER_HOUR = 3
    IDLE_FRACTION = 4
    LATENESS_WEIGHT = 5
    PAUSED = 6
    MOST = 7  # largest limit that the pool may get; inf for no bound
    FOLLOWING_WORK_S = 8  # sum of the median durations of followers whose line has begun


class Plain(Protocol):
    """Numbers by name."""

    def __getattr__(self, name: str) -> int: ...


def plain(members: type[IntEnum]) -> Plain:
    """The members as plain integers by name; reading an enum's members is slow in the loops over queues."""
    kind: Any = namedtuple(members.__name__, list(members.__members__))  # type: ignore[misc]
    return cast("Plain", kind(*(int(member) for member in members)))


C: Final[Plain] = plain(Q)
"""The columns of `Q` as plain numbers: `table[C.WAITING][queue]`."""


@dataclass(frozen=True, slots=True)
class Census:
    """Figures of each queue and of the pool, for one pool or a batch of them.

    Attributes:
        queues: Shape (..., n_queues, len(Q)). Rows of absent queues are all zero.
        pool: Shape (..., len(P)).
    """

    queues: Array
    pool: Array

    def __getitem__(self, column: Q | P) -> Array:
        """One column: shape (..., n_queues) for `Q`, (...,) for `P`."""
        table = self.queues if isinstance(column, Q) else self.pool
        found: Array = table[..., int(column)]
        return found

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which queues exist, shape (..., n_queues)."""
        mask: npt.NDArray[np.bool_] = self[Q.PRESENT] > 0
        return mask


def stack(censuses: Sequence[Census]) -> Census:
    """One batch from several single censuses; pools with fewer queues get absent ones at the end."""
    most = max(census.queues.shape[0] for census in censuses)
    queues = np.zeros((len(censuses), most, len(Q)))
    for row, census in zip(queues, censuses, strict=True):
        row[: census.queues.shape[0]] = census.queues
    return Census(queues, np.stack([census.pool for census in censuses]))


def take_census(snapshot: Snapshot, most_slots: float = math.inf) -> Census:
    """The census of a live snapshot; queues in the snapshot's order, no batch dimension.

    Args:
        snapshot: The pool as it is.
        most_slots: Largest limit that the pool may get.
    """
    queues = np.zeros((len(snapshot.queues), len(Q)))
    inherited = inherit(snapshot.followers) if snapshot.followers else {}
    ranks = {name: rank for rank, name in enumerate(snapshot.order)}
    load: dict[str, int] = {}
    for queue in snapshot.queues:
        for run in queue.active:
            for resource in run.resources:
                load[resource] = load.get(resource, 0) + 1
    capacity = {resource.name: resource.capacity for resource in snapshot.resources}
    number = {resource.name: place for place, resource in enumerate(snapshot.resources, start=1)}
    for row, queue in zip(queues, snapshot.queues, strict=True):
        row[:] = _count(queue, snapshot.at_s, inherited)
        row[Q.RANK] = ranks[queue.name]
        loads = {run.resources for run in (*queue.waiting, *queue.active, *queue.upcoming)}
        shared = {name for resources in loads for name in resources}
        tightest = min((n for n in shared if n in capacity), key=lambda n: (capacity[n], n), default=None)
        row[Q.RESOURCE_CAPACITY] = math.inf if tightest is None else capacity[tightest]
        row[Q.RESOURCE_ACTIVE] = 0 if tightest is None else load.get(tightest, 0)
        row[Q.RESOURCE] = 0 if tightest is None else number[tightest]
    pool = np.zeros(len(P))
    pool[P.LIMIT] = math.inf if snapshot.pool.limit is None else snapshot.pool.limit
    pool[P.ACTIVE] = snapshot.active
    pool[P.HOUR] = snapshot.at_s % 86400.0 / 3600.0
    pool[P.SLOT_USD_PER_HOUR] = snapshot.prices.slot_usd_per_hour
    pool[P.IDLE_FRACTION] = snapshot.prices.idle_fraction
    pool[P.LATENESS_WEIGHT] = snapshot.prices.lateness_weight
    pool[P.PAUSED] = snapshot.pool.paused
    pool[P.MOST] = most_slots
    pool[P.FOLLOWING_WORK_S] = sum(
        follower.run.estimate.p50_s
        for follower in snapshot.followers
        if follower.run.queue in ranks and follower.run.scheduled_s <= snapshot.at_s
    )
    return Census(queues, pool)


def _terms(run: Run, inherited: Mapping[str, Inherited]) -> tuple[float, float]:
    """When a run should be finished, inf without deadline, and its price of lateness; with what it inherits."""
    own_s = math.inf if run.due_s is None else run.due_s
    if run.id not in inherited:
        return own_s, run.late_usd_per_hour
    more = inherited[run.id]
    return min(own_s, more.due_s), run.late_usd_per_hour + more.usd_per_hour


def _count(queue: QueueState, at_s: float, inherited: Mapping[str, Inherited]) -> list[float]:
    """One row of `Census.queues` from the runs of one queue.

    Uses a list and plain variables: each decision counts up to a thousand runs here, and reading or writing single
    elements of arrays is slow.
    """
    row = [0.0] * len(Q)
    row[Q.PRESENT] = 1
    row[Q.PAUSED] = queue.setting.paused
    row[Q.LIMIT] = math.inf if queue.setting.limit is None else queue.setting.limit
    row[Q.WAITING] = len(queue.waiting)
    row[Q.ACTIVE] = len(queue.active)
    row[Q.ACTIVE_LEFT_S] = sum(run.remaining_s(at_s) for run in queue.active)
    row[Q.ARRIVALS_PER_HOUR] = queue.arrivals_per_hour or 0.0
    urgent, urgent_slack, urgent_price, urgent_ahead = None, math.inf, 0.0, 0.0
    due_in = math.inf
    ahead = value = failing = 0.0
    late = 0
    for run in queue.waiting:
        due, price = _terms(run, inherited)
        slack = due - at_s - run.estimate.p50_s
        if urgent is None or slack < urgent_slack:
            urgent, urgent_slack, urgent_price, urgent_ahead = run, slack, price, ahead
        due_in = min(due_in, due - at_s)
        late += slack < 0
        value += price
        failing += run.failure_probability
        ahead += run.estimate.p50_s
    row[Q.HEAD_SLACK_S] = math.inf
    if urgent is not None:
        head = queue.waiting[0]
        due, price = _terms(head, inherited)
        row[Q.HEAD_WAIT_S] = max(0.0, at_s - head.scheduled_s)
        row[Q.HEAD_ESTIMATE_S] = head.estimate.p50_s
        row[Q.HEAD_SLACK_S] = due - at_s - head.estimate.p50_s
        row[Q.HEAD_USD_PER_HOUR] = price
        row[Q.URGENT_ESTIMATE_S] = urgent.estimate.p50_s
        row[Q.URGENT_USD_PER_HOUR] = urgent_price
        row[Q.FAILURE_PROBABILITY] = failing / len(queue.waiting)
    row[Q.URGENT_SLACK_S], row[Q.URGENT_AHEAD_S] = urgent_slack, urgent_ahead
    row[Q.DUE_IN_S], row[Q.LATE] = due_in, late
    # runs that are only counted are assumed to be like those that are listed
    whole = 1 + queue.beyond / len(queue.waiting) if queue.waiting else 1
    row[Q.WAITING] *= whole
    row[Q.WAITING_WORK_S], row[Q.VALUE_USD_PER_HOUR] = ahead * whole, value * whole
    soon = [run for run in queue.upcoming if run.scheduled_s - at_s <= LOOK_AHEAD_S]
    row[Q.UPCOMING] = len(soon)
    row[Q.UPCOMING_WORK_S] = sum(run.estimate.p50_s for run in soon)
    row[Q.NEXT_IN_S] = row[Q.NEXT_SLACK_S] = math.inf
    if soon:
        next_s, slack = min((run.scheduled_s, _terms(run, inherited)[0] - at_s - run.estimate.p50_s) for run in soon)
        row[Q.NEXT_IN_S], row[Q.NEXT_SLACK_S] = max(0.0, next_s - at_s), slack
    _average(row, queue, soon, at_s, inherited)
    return row


def _average(
    row: list[float], queue: QueueState, soon: Sequence[Run], at_s: float, inherited: Mapping[str, Inherited]
) -> None:
    """The means over all runs of a queue, and the lateness accruing on those that wait or hold a slot."""
    known = (*queue.waiting, *queue.active, *soon)
    if not known:
        return
    work = spread = value = accruing = sigma = 0.0
    estimate: Estimate | None = None
    for place, run in enumerate(known):
        if run.estimate is not estimate:  # runs of a deployment share their estimate
            estimate = run.estimate
            sigma = estimate.sigma
        work += estimate.p50_s
        spread += sigma
        value += _terms(run, inherited)[1]
        if run.due_s is not None and run.due_s < at_s and place < len(known) - len(soon):
            accruing += run.late_usd_per_hour
    row[Q.ACCRUING_USD_PER_HOUR] = accruing
    row[Q.ESTIMATE_S] = work / len(known)
    row[Q.SPREAD] = spread / len(known)
    row[Q.USD_PER_HOUR] = value / len(known)
