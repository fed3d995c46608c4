"""A look ahead before a decision: the twin estimates what each of some plans would cost, within a time budget.

Every plan is put in force in the same sampled futures of the pool as it is now and held for a few minutes; then the
base rule goes on. The estimates tell whether a learned plan is clearly worse than the rule's (then it is not applied),
they are the figures that `explain` shows beside a plan, and with several candidates they make a planner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, NEUTRAL_CAPACITY, apply_action, neutral
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.rule_policy import RulePolicy

if TYPE_CHECKING:
    from prefect_intelligent.twin.spec import PoolSpec

_STEP_S: Final = 120.0
_LEAST_FUTURES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCosts:
    """What the twin expects of plans, over the futures that there was time for.

    Attributes:
        costs_usd: Shape (futures, plans): cost up to the horizon and for the work left then, US dollars.
        horizon_s: How far the futures reach, seconds.
        took_ms: Time that the estimate took, milliseconds.
    """

    costs_usd: Array
    horizon_s: float
    took_ms: float

    @property
    def mean_usd(self) -> Array:
        """Expected cost of every plan."""
        mean: Array = self.costs_usd.mean(0)
        return mean

    def clearly_worse(self, plan: int, than: int, margin: float) -> bool:
        """Whether a plan costs more than another: by the share `margin` in the mean, and in four of five futures."""
        more = self.costs_usd[:, plan] - self.costs_usd[:, than]
        return bool(more.mean() > margin * abs(self.costs_usd[:, than].mean()) and (more > 0).mean() > 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """Estimates the cost of plans in the twin.

    Attributes:
        model: Gives the twin's model of the pool of a snapshot.
        budget_ms: Time for one estimate, milliseconds; as many futures are simulated as fit into it.
        most_futures: No more than so many.
        hold_s: How long a plan is held, seconds.
        horizon_s: How far the futures reach, seconds.
        margin: Share of the rule's expected cost by which a plan must be worse to be refused, or better to be chosen.
        stopwatch: Seconds on a clock that only moves forward.
        ready: Whether the twin can be asked now; on its first use it has to be compiled, which takes a while.
    """

    model: Callable[[Snapshot], PoolSpec]
    budget_ms: float = 200.0
    most_futures: int = 8
    hold_s: float = 480.0
    horizon_s: float = 3600.0
    margin: float = 0.05
    stopwatch: Callable[[], float] = time.perf_counter
    ready: Callable[[], bool] = lambda: True

    def estimate_costs(
        self, snapshot: Snapshot, plans: Sequence[Proposal], rule: Policy, guard: GuardSettings
    ) -> PlanCosts | None:
        """The cost of each plan; None if fewer than two futures fitted into the budget.

        Args:
            snapshot: The pool as it is.
            plans: The plans to compare.
            rule: Decides after a plan was held.
            guard: What is permitted.
        """
        begun = self.stopwatch()
        pool = replace(
            self.model(snapshot),
            queues=tuple(queue.setting for queue in snapshot.queues),
            limit=snapshot.pool.limit,
        )
        rng = np.random.default_rng(int(snapshot.at_s))
        settings = replace(guard, enabled=True, interval_s=min(guard.interval_s, _STEP_S))
        costs: list[Array] = []
        while len(costs) < self.most_futures:
            costs.append(self._future(snapshot, pool, plans, rule, settings, rng))
            spent_ms = (self.stopwatch() - begun) * 1e3
            if spent_ms * (len(costs) + 1) / len(costs) > self.budget_ms:
                break
        if len(costs) < _LEAST_FUTURES:
            return None
        return PlanCosts(costs_usd=np.array(costs), horizon_s=self.horizon_s, took_ms=(self.stopwatch() - begun) * 1e3)

    def _future(
        self,
        snapshot: Snapshot,
        pool: PoolSpec,
        plans: Sequence[Proposal],
        rule: Policy,
        guard: GuardSettings,
        rng: np.random.Generator,
    ) -> Array:
        """Cost of every plan in one future."""
        # Imported here: rules need no twin, and the twin needs an extra that may not be installed.
        from prefect_intelligent.twin.closed_loop import ClosedLoop
        from prefect_intelligent.twin.from_snapshot import sample_futures
        from prefect_intelligent.twin.planner import remaining_lateness_usd

        present = sample_futures(snapshot, pool, rng, futures=1, horizon_s=self.horizon_s)
        loop = ClosedLoop(present.twin, guard, _STEP_S).fork(np.zeros(len(plans), dtype=np.int64))
        held = Proposal(
            np.stack([plan.score for plan in plans]),
            np.stack([plan.limit for plan in plans]),
            np.array([float(plan.pool_limit) for plan in plans]),
        )
        before = loop.twin.money.sum(-1)
        hold = max(1, round(self.hold_s / _STEP_S))
        for step in range(round(self.horizon_s / _STEP_S)):
            loop.step(held if step < hold else rule.propose(loop.census))
        cost: Array = loop.twin.money.sum(-1) - before + remaining_lateness_usd(loop.census)
        return cost


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlinePlanner:
    """A policy that compares another policy's plan with variants of the rule's in the twin, and takes the best.

    Without a look ahead (no snapshot, no time) it does what the inner policy does.

    Attributes:
        inner: The policy whose plan the variants have to beat: a learned one, or the rule itself.
        base: The rule whose variants are tried.
    """

    inner: Policy
    base: RulePolicy

    @property
    def name(self) -> str:
        """The inner policy's name, marked."""
        return f"planner around {self.inner.name}"

    @property
    def acting(self) -> Policy:
        """The inner policy."""
        return self.inner

    def propose(self, census: Census) -> Proposal:
        """What the inner policy proposes."""
        return self.inner.propose(census)

    def candidates(self, census: Census) -> list[Proposal]:
        """The inner policy's plan, the rule's, then the rule's with every other factor on its pool limit."""
        rule = self.base.propose(census)
        unchanged = neutral(census)
        factors = [level for level in range(len(CAPACITY_FACTORS)) if level != NEUTRAL_CAPACITY]
        return [
            self.inner.propose(census),
            rule,
            *(apply_action(rule, census, unchanged._replace(capacity=np.asarray(level))) for level in factors),
        ]
