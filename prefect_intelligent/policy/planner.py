"""The planner: tries plans in sampled futures of a pool and takes the cheapest.

A candidate is a policy that decides for the first minutes of every future, asked anew at every step; then the policy in
charge goes on. Costs are compared in the same futures (common random numbers). Futures are drawn in rounds, and after
each the dearer half of the candidates is dropped (sequential halving; Karnin, Koren, Somekh, ICML 2013), so that the
time goes to those that are hard to tell apart.

Where futures come from is not its business: from a live snapshot, from the state of a twin, or, for the clairvoyant
planner that serves as a bound, from what will truly happen (`prefect_intelligent.twin.futures`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.actions import CAPACITY_FACTORS, NEUTRAL_CAPACITY, apply_action, neutral
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q
from prefect_intelligent.policy.rule_policy import RulePolicy

Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

INCUMBENT: Final = 0
"""Number of the candidate that is in charge."""
RULE: Final = 1
"""Number of the base rule among the candidates."""
_ORDERS: Final = ("edf", "wspt", "atc", "covert")
"""Priority rules that are tried in place of the base rule's."""
_LEAST_FUTURES: Final = 2


class Futures(Protocol):
    """Pools in some futures, played in the twin; one row each."""

    @property
    def census(self) -> Census:
        """The census of every row."""
        ...

    @property
    def spent_usd(self) -> Array:
        """US dollars spent so far, shape (rows,)."""
        ...

    def fork(self, rows: Integers) -> Self:
        """Copies of some rows, as they are now."""
        ...

    def step(self, wanted: Proposal) -> Any:
        """Decide in every row and let one step pass."""
        ...

    def pace(self, interval_s: float) -> None:
        """Let a step take so many seconds from now on."""
        ...


class FutureSource(Protocol):
    """Draws futures of one or several pools as they are now."""

    @property
    def pools(self) -> int:
        """How many pools."""
        ...

    def draw(self, count: int) -> Futures:
        """`count` further futures of every pool: rows of pool 0 first, then those of pool 1 and so on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerConfig:
    """How a planner looks ahead.

    Attributes:
        every_s: Seconds for which a choice is kept.
        step_s: Seconds between two decisions in a future while a candidate decides.
        rest_step_s: The same afterwards.
        hold_s: Seconds for which a candidate decides.
        horizon_s: Seconds that are simulated in all.
        round_futures: Futures drawn in each round.
        most_futures: No more than so many in all.
        budget_s: Seconds of real time after which no further round begins; inf is none.
        margin: Share of the expected cost by which a candidate has to be cheaper than the one in charge.
        doubt: Standard errors of the saving by which it has to be above 0.
    """

    every_s: float = 120.0
    step_s: float = 120.0
    rest_step_s: float = 300.0
    hold_s: float = 480.0
    horizon_s: float = 6000.0
    round_futures: int = 4
    most_futures: int = 12
    budget_s: float = 1.0
    margin: float = 0.01
    doubt: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCosts:
    """What the candidates are expected to cost.

    Attributes:
        costs_usd: Shape (pools, futures, candidates): cost up to the horizon and for the work left then, US dollars;
            NaN where a candidate had been dropped.
        horizon_s: How far the futures reach, seconds.
        took_s: Seconds that the estimate took.
    """

    costs_usd: Array
    horizon_s: float
    took_s: float

    @property
    def mean_usd(self) -> Array:
        """Expected cost of every candidate in the futures that it was tried in, shape (pools, candidates)."""
        mean: Array = np.nanmean(self.costs_usd, axis=1)
        return mean

    def best(self, margin: float, doubt: float = 0.0) -> Integers:
        """The candidate to follow in every pool: the cheapest of those left, if it is clearly cheaper.

        Args:
            margin: Share of the cost of the one in charge that it has to save in the mean.
            doubt: Standard errors by which that saving has to be above 0; the futures are the sample.
        """
        left = np.isfinite(self.costs_usd[:, -1])
        mean = np.where(left, self.mean_usd, np.inf)
        cheapest = mean.argmin(-1)
        pools = np.arange(len(mean))
        saved = self.costs_usd[:, :, INCUMBENT] - self.costs_usd[pools, :, cheapest]
        error = saved.std(-1, ddof=1) / math.sqrt(saved.shape[1]) if saved.shape[1] > 1 else np.zeros(len(mean))
        worth = saved.mean(-1) > np.maximum(margin * np.abs(mean[:, INCUMBENT]), doubt * error)
        chosen: Integers = np.where(worth, cheapest, INCUMBENT)
        return chosen

    def clearly_worse(self, plan: int, than: int, margin: float, pool: int = 0) -> bool:
        """Whether one candidate costs more than another: by a margin in the mean, and in four of five futures."""
        costs = self.costs_usd[pool]
        both = np.isfinite(costs[:, plan]) & np.isfinite(costs[:, than])
        more = costs[both, plan] - costs[both, than]
        return bool(more.mean() > margin * abs(costs[both, than].mean()) and (more > 0).mean() > 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledCapacity:
    """A rule with a factor on its pool limit.

    Attributes:
        base: The rule.
        level: Which of `CAPACITY_FACTORS`.
    """

    base: RulePolicy
    level: int

    @property
    def name(self) -> str:
        """The rule's name and the factor."""
        return f"{self.base.name} with {CAPACITY_FACTORS[self.level]:g} of its pool limit"

    def propose(self, census: Census) -> Proposal:
        """The rule's proposal with the factor."""
        levels = neutral(census)
        return apply_action(
            self.base.propose(census), census, levels._replace(capacity=np.full_like(levels.capacity, self.level))
        )


def variants(base: RulePolicy) -> tuple[Policy, ...]:
    """The rule, the rule with every other factor on its pool limit, and the rule with other orders."""
    factors = [level for level in range(len(CAPACITY_FACTORS)) if level != NEUTRAL_CAPACITY]
    orders = [order for order in _ORDERS if order != base.priority]
    return (
        base,
        *(ScaledCapacity(base=base, level=level) for level in factors),
        *(replace(base, priority=order, label=f"{base.name} in the order of {order}") for order in orders),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """A policy that compares another policy's plan with variants of a rule, and takes the cheapest.

    Where it is not given futures (`propose`) it does what the policy in charge does.

    Attributes:
        inner: The policy in charge, whose plan the variants have to beat: a learned one, or the rule itself.
        base: The rule whose variants are tried.
        config: How it looks ahead.
    """

    inner: Policy
    base: RulePolicy
    config: PlannerConfig = field(default_factory=PlannerConfig)

    @property
    def name(self) -> str:
        """The name of the policy in charge, marked."""
        return f"planner around {self.inner.name}"

    @property
    def acting(self) -> Policy:
        """The policy in charge."""
        return self.inner

    @property
    def candidates(self) -> tuple[Policy, ...]:
        """What is compared: the policy in charge, the rule, variants of it."""
        return (self.inner, *variants(self.base))

    def propose(self, census: Census) -> Proposal:
        """What the policy in charge proposes."""
        return self.inner.propose(census)

    def propose_chosen(self, census: Census, chosen: Integers) -> Proposal:
        """What the chosen candidates propose; `chosen` has one number per pool of the census."""
        return propose_by(self.candidates, chosen, census)

    def estimate(self, source: FutureSource) -> PlanCosts | None:
        """The expected cost of every candidate, see `estimate_costs`."""
        return estimate_costs(source, self.candidates, self.config)


def estimate_costs(
    source: FutureSource,
    candidates: Sequence[Policy],
    config: PlannerConfig,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> PlanCosts | None:
    """Play the candidates in futures, dropping the dearer half after every round.

    The policy in charge and the base rule (the first two) stay to the end.

    Args:
        source: Where futures come from.
        candidates: Policies; the first one is in charge, and goes on after every candidate.
        config: How far, for how long, in how many futures.
        stopwatch: Seconds on a clock that only moves forward.

    Returns:
        The costs; None if there was no time for two futures.
    """
    begun = stopwatch()
    alive = np.ones((source.pools, len(candidates)), dtype=bool)
    rounds: list[Array] = []
    futures = 0
    while futures < config.most_futures:
        count = min(config.round_futures, config.most_futures - futures)
        rounds.append(_play(source.draw(count), alive, candidates, config))
        futures += count
        spent_s = stopwatch() - begun
        if spent_s * (len(rounds) + 1) / len(rounds) > config.budget_s:
            break
        if futures < config.most_futures:
            alive = _halved(alive, np.concatenate(rounds, axis=1))
    if futures < min(_LEAST_FUTURES, config.most_futures):
        return None
    return PlanCosts(costs_usd=np.concatenate(rounds, axis=1), horizon_s=config.horizon_s, took_s=stopwatch() - begun)


def _halved(alive: Flags, costs: Array) -> Flags:
    """Without the dearer half of the candidates that are left; the first two always stay."""
    mean = np.where(alive, np.nanmean(np.where(alive[:, None], costs, 0.0), axis=1), np.inf)
    kept = np.ceil(alive.sum(-1, keepdims=True) / 2)
    place = mean.argsort(-1, kind="stable").argsort(-1)
    left: Flags = alive & (place < kept)
    left[:, : RULE + 1] = alive[:, : RULE + 1]
    return left


def _play(futures: Futures, alive: Flags, candidates: Sequence[Policy], config: PlannerConfig) -> Array:
    """Cost of every candidate that is left in every future, shape (pools, futures, candidates); NaN for the others."""
    pools, count = alive.shape
    per_pool = len(futures.census.pool) // pools
    costs = np.full((pools, per_pool, count), np.nan)
    owner, pool, future = np.nonzero(np.broadcast_to(alive.T[:, :, None], (count, pools, per_pool)))
    played = futures.fork(pool * per_pool + future)
    before = played.spent_usd
    for _ in range(max(1, round(config.hold_s / config.step_s))):
        played.step(propose_by(candidates, owner, played.census))
    played.pace(config.rest_step_s)
    for _ in range(max(0, round((config.horizon_s - config.hold_s) / config.rest_step_s))):
        played.step(candidates[INCUMBENT].propose(played.census))
    left_usd = remaining_lateness_usd(played.census) + work_left_usd(played.census)
    costs[pool, future, owner] = played.spent_usd - before + left_usd
    return costs


def propose_by(policies: Sequence[Policy], owner: Integers, census: Census) -> Proposal:
    """The proposals of several policies for the pools of a batch; `owner` is the number of the policy of each."""
    if len(policies) == 1 or (owner == owner[0]).all():
        return policies[int(owner[0])].propose(census)
    order = np.argsort(owner, kind="stable")
    cuts = np.searchsorted(owner[order], np.arange(len(policies) + 1))
    score = np.empty(census.queues.shape[:2])
    limit, pool_limit = np.empty_like(score), np.empty(len(census.pool))
    for policy, (first, after) in zip(policies, pairwise(cuts), strict=True):
        if first < after:
            rows = order[first:after]
            part = policy.propose(Census(census.queues[rows], census.pool[rows]))
            score[rows], limit[rows], pool_limit[rows] = part.score, part.limit, part.pool_limit
    return Proposal(score, limit, pool_limit)


def remaining_lateness_usd(census: Census) -> Array:
    """Fluid estimate of what lateness the waiting work will still cost, shape (...,), US dollars.

    Queues are served one after the other in the order in force; a queue's work is done when the slots have served
    what is in front of it, and no sooner than its shared resource has. Its runs end evenly over that span and are due
    when its first one is.
    """
    slots = np.maximum(np.minimum(census[P.LIMIT], 1e6), 1.0)[..., None, None]
    place, work = census[Q.RANK], census[Q.WAITING_WORK_S] * (census[Q.PAUSED] == 0)
    before = place[..., None, :] < place[..., :, None]
    resource = census[Q.RESOURCE]
    same = (resource[..., :, None] == resource[..., None, :]) & (resource[..., :, None] > 0)
    capacity = np.minimum(np.maximum(census[Q.RESOURCE_CAPACITY], 1e-3)[..., None], slots)
    ahead = before * work[..., None, :]
    starts = np.maximum((ahead / slots).sum(-1), (ahead * same / capacity).sum(-1))
    lasts = work / np.where(census[Q.RESOURCE] > 0, capacity[..., 0], slots[..., 0])
    due = np.clip(census[Q.DUE_IN_S], -1e6, 1e8)
    ends = starts + np.maximum(lasts, 1.0)
    overdue = np.maximum(ends - np.maximum(due, 0.0), 0.0) ** 2 - np.maximum(starts - np.maximum(due, 0.0), 0.0) ** 2
    late_s = np.where(work > 0, overdue / (2.0 * (ends - starts)), 0.0)
    weighted: Array = (late_s * census[Q.VALUE_USD_PER_HOUR]).sum(-1)
    return weighted / 3600.0 * census[P.LATENESS_WEIGHT]


def work_left_usd(census: Census) -> Array:
    """What the slots for waiting, active and following work will still cost, shape (...,), US dollars.

    Without it a candidate that serves less before the horizon would look cheaper for what it has put off.
    """
    left_s = (census[Q.WAITING_WORK_S] + census[Q.ACTIVE_LEFT_S]).sum(-1) + census[P.FOLLOWING_WORK_S]
    cost: Array = left_s / 3600.0 * census[P.SLOT_USD_PER_HOUR]
    return cost
