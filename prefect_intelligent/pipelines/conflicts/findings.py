"""Findings of conflict rules, and their fixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A change that removes a finding.

    Attributes:
        kind: Kind of the change.
        deployment: Deployment to change.
        value: By kind: shift in seconds, new limit, price in US dollars per hour late, index of the schedule.
        safe: Whether `graph check --fix` may apply it.
    """

    kind: Literal["shift-schedule", "set-limit", "inherit-value", "pause-schedule"]
    deployment: str
    value: float
    safe: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A conflict between deployments.

    Attributes:
        rule: Id of the rule, a key of `conflicts.RULES`.
        subjects: Deployments and datasets involved, sorted.
        evidence: What was found, one sentence.
        advice: What to do, one sentence.
        cost_usd: Cost per occurrence, US dollars; None where it cannot be priced.
        fix: A change that the product can make; None if there is none.
    """

    rule: str
    subjects: tuple[str, ...]
    evidence: str
    advice: str
    cost_usd: float | None = None
    fix: Fix | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        fix = self.fix
        return {
            "rule": self.rule,
            "subjects": list(self.subjects),
            "evidence": self.evidence,
            "advice": self.advice,
            "cost_usd": self.cost_usd,
            "fix": None
            if fix is None
            else {"kind": fix.kind, "deployment": fix.deployment, "value": fix.value, "safe": fix.safe},
        }
