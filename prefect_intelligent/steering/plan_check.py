"""A learned plan before it is followed: why it departs from the rule, and what the twin expects of it.

A plan that the twin expects to be clearly worse than the rule's is replaced by the rule's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Census
from prefect_intelligent.policy.explain import explain
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.planner import INCUMBENT, RULE, PlanCosts, Planner, PlannerConfig
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.steering.controller_state import ChosenPlan
from prefect_intelligent.steering.lookahead import LookAhead

_MOST_FEATURES = 3
CLEARLY: Final = 0.05
"""Share of the rule's expected cost by which a plan must be dearer to be refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAssessment:
    """What is known of a plan.

    Attributes:
        replacement: What is to be proposed instead; None if the plan may be followed as it is.
        reasons: Sentences about the plan as a whole.
        by_queue: Sentences about single queues, by name, and about the pool's limit (None).
        foreseen: Figures of the look ahead, for the record.
        chosen: The planner's choice, which is kept for a while.
    """

    replacement: Proposal | None = None
    reasons: tuple[str, ...] = ()
    by_queue: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    foreseen: Mapping[str, float] | None = None
    chosen: ChosenPlan | None = None


def assess_plan(
    policy: Policy,
    rule: Policy,
    look_ahead: LookAhead | None,
    snapshot: Snapshot,
    census: Census,
    guard: GuardSettings,
    before: ChosenPlan | None = None,
) -> PlanAssessment:
    """Explain a policy's plan and ask the twin about it; nothing for a rule.

    Args:
        policy: The policy in charge.
        rule: The base rule.
        look_ahead: How the twin is asked; None does not ask.
        snapshot: The pool as it is.
        census: Its figures.
        guard: What is permitted.
        before: The planner's last choice.
    """
    deciding = innermost_policy(policy)
    planner = _planner_of(policy)
    if isinstance(deciding, RulePolicy) and planner is None:
        return PlanAssessment()
    why = _explain_by_queue(deciding, snapshot, census)
    if look_ahead is None:
        return PlanAssessment(by_queue=why)
    if not look_ahead.ready():
        return PlanAssessment(reasons=("the twin was not asked: it is being compiled",), by_queue=why)
    tried: tuple[Policy, ...] = (deciding, rule)
    looks = look_ahead.config
    if planner is not None:
        tried, looks = planner.candidates, replace(planner.config, budget_s=looks.budget_s)
    if before is not None and before.holds(snapshot.at_s, looks.every_s):
        kept = [number for number, candidate in enumerate(tried) if candidate.name == before.name]
        if kept:
            return _follow(tried, kept[0], census, before, why)
    try:
        found = look_ahead.estimate(snapshot, tried, guard, looks)
    except Exception as error:  # the pass goes on without the twin's estimate; the guard holds all the same
        return PlanAssessment(reasons=(f"the look ahead failed: {type(error).__name__}: {error}",), by_queue=why)
    if found is None:
        budget_ms = 1e3 * looks.budget_s
        return PlanAssessment(reasons=(f"no time to look ahead within {budget_ms:g} ms",), by_queue=why)
    return _choose_plan(found, tried, census, looks, snapshot.at_s, why)


def _planner_of(policy: Policy | None) -> Planner | None:
    """The planner among a policy and those inside it."""
    while policy is not None and not isinstance(policy, Planner):
        policy = getattr(policy, "acting", None)
    return policy


def innermost_policy(policy: Policy) -> Policy:
    """The policy inside those that follow an alias or plan around another one."""
    while (inner := getattr(policy, "acting", None)) is not None:
        policy = inner
    return policy


def _follow(
    tried: Sequence[Policy],
    number: int,
    census: Census,
    chosen: ChosenPlan,
    explanations: Mapping[str | None, tuple[str, ...]],
) -> PlanAssessment:
    """Follow the choice of an earlier pass; its policy is asked anew."""
    if number == INCUMBENT:
        return PlanAssessment(by_queue=explanations, chosen=chosen)
    return PlanAssessment(
        replacement=tried[number].propose(census),
        reasons=(f"{chosen.name}, as chosen a moment ago",),
        chosen=chosen,
    )


def _choose_plan(
    found: PlanCosts,
    tried: Sequence[Policy],
    census: Census,
    looks: PlannerConfig,
    at_s: float,
    explanations: Mapping[str | None, tuple[str, ...]],
) -> PlanAssessment:
    """Choose among the plans that were tried."""
    mean, plans = found.mean_usd[0], len(tried) > RULE + 1
    chosen = int(found.best(looks.margin, looks.doubt)[0]) if plans else INCUMBENT
    futures = found.costs_usd.shape[1]
    span = f"over {found.horizon_s / 60:.0f} min in {futures} futures"
    summary = f"the twin expects ${mean[chosen]:.2f} with this plan and ${mean[RULE]:.2f} with the rule's {span}"
    figures = {
        "plan_usd": float(mean[chosen]),
        "rule_usd": float(mean[RULE]),
        "futures": float(futures),
        "horizon_s": found.horizon_s,
        "took_ms": 1e3 * found.took_s,
        "plans": float(len(tried)),
    }
    if found.clearly_worse(chosen, RULE, CLEARLY):
        return PlanAssessment(
            replacement=tried[RULE].propose(census),
            reasons=(f"{summary}: the rule's plan was followed instead",),
            by_queue=explanations,
            foreseen=figures | {"followed_rule": 1.0},
        )
    if chosen:
        summary = f"{summary}; it is the best of {len(tried)} plans that were tried: {tried[chosen].name}"
    return PlanAssessment(
        replacement=tried[chosen].propose(census) if chosen else None,
        reasons=(summary,),
        by_queue={} if chosen else explanations,
        foreseen=figures | {"followed_rule": 0.0},
        chosen=ChosenPlan(name=tried[chosen].name, at_s=at_s) if plans else None,
    )


def _explain_by_queue(deciding: Policy, snapshot: Snapshot, census: Census) -> dict[str | None, tuple[str, ...]]:
    """The learned policy's corrections of its rule, with the features that moved them."""
    if not isinstance(deciding, LearnedPolicy):
        return {}
    names = [queue.name for queue in snapshot.queues]
    found: dict[str | None, tuple[str, ...]] = {}
    for correction in explain(deciding, census, most=_MOST_FEATURES):
        place = None if correction.queue is None else names[correction.queue]
        found[place] = (*found.get(place, ()), correction.sentence())
    return found
