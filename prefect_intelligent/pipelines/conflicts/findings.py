"""What a rule reports, and how to put it right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One change that removes a finding.

    Attributes:
        kind: What to do.
        deployment: On which deployment.
        value: New value: seconds by which schedules shift, a limit, a price, a schedule's index.
        safe: Whether `graph check --fix` may do it by itself.
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
        subjects: Deployments and datasets that are involved, sorted.
        evidence: What was seen, one sentence.
        advice: What to do, one sentence.
        cost_usd: What it costs per occurrence; None where it cannot be priced.
        fix: A change the product can make; None if a person must.
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
