"""A learned plan before it is followed: why it departs from the rule, and what the twin expects of it.

A plan that the twin expects to be clearly worse than the rule's is replaced by the rule's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Census
from prefect_intelligent.policy.explain import explain
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.steering.lookahead import LookAhead, OnlinePlanner, PlanCosts

_MOST_FEATURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAssessment:
    """What is known of a plan.

    Attributes:
        replacement: What is to be proposed instead; None if the plan may be followed as it is.
        reasons: Sentences about the plan as a whole.
        by_queue: Sentences about single queues, by name, and about the pool's limit (None).
        foreseen: Figures of the look ahead, for the record.
    """

    replacement: Proposal | None = None
    reasons: tuple[str, ...] = ()
    by_queue: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    foreseen: Mapping[str, float] | None = None


def assess_plan(
    policy: Policy,
    rule: Policy,
    look_ahead: LookAhead | None,
    snapshot: Snapshot,
    census: Census,
    plans: tuple[Proposal, Proposal],
    guard: GuardSettings,
) -> PlanAssessment:
    """Explain a policy's plan and ask the twin about it; nothing for a rule.

    Args:
        policy: The policy in charge.
        rule: The base rule.
        look_ahead: How the twin is asked; None does not ask.
        snapshot: The pool as it is.
        census: Its figures.
        plans: What the policy and what the rule propose.
        guard: What is permitted.
    """
    deciding = innermost_policy(policy)
    if isinstance(deciding, RulePolicy) and not isinstance(policy, OnlinePlanner):
        return PlanAssessment()
    why = _explain_by_queue(deciding, snapshot, census)
    if look_ahead is None:
        return PlanAssessment(by_queue=why)
    if not look_ahead.ready():
        return PlanAssessment(reasons=("the twin was not asked: it is being compiled",), by_queue=why)
    tried = policy.candidates(census) if isinstance(policy, OnlinePlanner) else [plans[0]]
    try:
        found = look_ahead.estimate_costs(snapshot, [*tried, plans[1]], rule, guard)
    except Exception as error:  # the pass goes on without the twin's estimate; the guard holds all the same
        return PlanAssessment(reasons=(f"the look ahead failed: {type(error).__name__}: {error}",), by_queue=why)
    if found is None:
        return PlanAssessment(reasons=(f"no time to look ahead within {look_ahead.budget_ms:g} ms",), by_queue=why)
    return _choose_plan(found, tried, plans[1], look_ahead, why)


def innermost_policy(policy: Policy) -> Policy:
    """The policy inside those that follow an alias or plan around another one."""
    while (inner := getattr(policy, "acting", None)) is not None:
        policy = inner
    return policy


def _choose_plan(
    found: PlanCosts,
    tried: list[Proposal],
    rule_plan: Proposal,
    look_ahead: LookAhead,
    explanations: Mapping[str | None, tuple[str, ...]],
) -> PlanAssessment:
    """Choose among the plans that were tried; column `len(tried)` of the costs is the rule's plan."""
    mean, last = found.mean_usd, len(tried)
    best = int(mean[:last].argmin())
    chosen = best if mean[0] - mean[best] > look_ahead.margin * abs(mean[0]) else 0
    span = f"over {found.horizon_s / 60:.0f} min in {len(found.costs_usd)} futures"
    summary = f"the twin expects ${mean[chosen]:.2f} with this plan and ${mean[last]:.2f} with the rule's {span}"
    figures = {
        "plan_usd": float(mean[chosen]),
        "rule_usd": float(mean[last]),
        "futures": float(len(found.costs_usd)),
        "horizon_s": found.horizon_s,
        "took_ms": found.took_ms,
        "plans": float(last),
    }
    if found.clearly_worse(chosen, last, look_ahead.margin):
        return PlanAssessment(
            replacement=rule_plan,
            reasons=(f"{summary}: the rule's plan was followed instead",),
            by_queue=explanations,
            foreseen=figures | {"followed_rule": 1.0},
        )
    if chosen:
        summary = f"{summary}; it is the best of {last} plans that were tried"
    return PlanAssessment(
        replacement=tried[chosen] if chosen else None,
        reasons=(summary,),
        by_queue={} if chosen else explanations,
        foreseen=figures | {"followed_rule": 0.0},
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
