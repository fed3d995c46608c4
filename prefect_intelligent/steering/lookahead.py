"""A look ahead before a decision: what each of some plans would cost, asked of the twin within a time budget.

Every plan is put in force in the same sampled futures of the pool as it is now, held for a few minutes, and then the
base rule goes on. That tells whether a learned plan is clearly worse than the rule's (then it is not applied), it is
the figure that `explain` shows beside a plan, and with several candidates it is a planner.
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
        costs_usd: Shape (futures, plans): cost up to the horizon and for what is left undone, US dollars.
        horizon_s: How far was looked.
        took_ms: How long it took.
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
        """Whether a plan costs more than another: by a share of it in the mean, and in four of five futures."""
        more = self.costs_usd[:, plan] - self.costs_usd[:, than]
        return bool(more.mean() > margin * abs(self.costs_usd[:, than].mean()) and (more > 0).mean() > 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """How far ahead is looked, and for how long.

    Attributes:
        model: How the twin models the pool of a snapshot.
        budget_ms: Time for one look; the futures that fit into it are taken.
        most_futures: No more than so many.
        hold_s: How long a plan is held.
        horizon_s: How far is looked.
        margin: Share of the rule's expected cost by which a plan must be worse to be refused, or better to be chosen.
        stopwatch: Seconds that pass.
        ready: Whether the twin can be asked now; it takes a while to compile when it has never run.
    """

    model: Callable[[Snapshot], PoolSpec]
    budget_ms: float = 200.0
    most_futures: int = 8
    hold_s: float = 480.0
    horizon_s: float = 3600.0
    margin: float = 0.05
    stopwatch: Callable[[], float] = time.perf_counter
    ready: Callable[[], bool] = lambda: True

    def foresee(
        self, snapshot: Snapshot, plans: Sequence[Proposal], rule: Policy, guard: GuardSettings
    ) -> PlanCosts | None:
        """What each plan would cost; None if not even two futures fitted into the budget.

        Args:
            snapshot: The pool as it is.
            plans: What to compare.
            rule: What goes on after a plan was held.
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
        # Not before somebody looks ahead: rules need no twin, and the twin needs an extra that may not be there.
        from prefect_intelligent.twin.closed_loop import ClosedLoop
        from prefect_intelligent.twin.from_snapshot import sample_futures
        from prefect_intelligent.twin.planner import remaining_lateness_usd

        present = sample_futures(snapshot, pool, rng, futures=1, horizon_s=self.horizon_s)
        arena = ClosedLoop(present.twin, guard, _STEP_S).fork(np.zeros(len(plans), dtype=np.int64))
        held = Proposal(
            np.stack([plan.score for plan in plans]),
            np.stack([plan.limit for plan in plans]),
            np.array([float(plan.pool_limit) for plan in plans]),
        )
        before = arena.twin.money.sum(-1)
        hold = max(1, round(self.hold_s / _STEP_S))
        for step in range(round(self.horizon_s / _STEP_S)):
            arena.step(held if step < hold else rule.propose(arena.census))
        cost: Array = arena.twin.money.sum(-1) - before + remaining_lateness_usd(arena.census)
        return cost


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlinePlanner:
    """A policy that tries its pupil's plan and its neighbours in the twin, and takes the best.

    Without a look ahead (no snapshot, no time) it is its pupil.

    Attributes:
        pupil: Whose plan is the one to beat: a learned policy, or the rule itself.
        base: The rule whose neighbours are tried.
    """

    pupil: Policy
    base: RulePolicy

    @property
    def name(self) -> str:
        """The pupil's name, marked."""
        return f"planner around {self.pupil.name}"

    @property
    def acting(self) -> Policy:
        """The pupil."""
        return self.pupil

    def propose(self, census: Census) -> Proposal:
        """What the pupil proposes."""
        return self.pupil.propose(census)

    def candidates(self, census: Census) -> list[Proposal]:
        """The pupil's plan, then the rule with every factor on its pool limit."""
        rule = self.base.propose(census)
        still = neutral(census)
        factors = [level for level in range(len(CAPACITY_FACTORS)) if level != NEUTRAL_CAPACITY]
        return [
            self.pupil.propose(census),
            rule,
            *(apply_action(rule, census, still._replace(capacity=np.asarray(level))) for level in factors),
        ]
