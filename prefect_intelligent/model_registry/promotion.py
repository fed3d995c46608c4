"""Promotion: a challenger becomes champion only if it passes the gate; `rollback` returns to the champion before.

The gate requires evidence about exactly this bundle: paired episodes on a replay of the pool's own history or on the
validation suite, with the upper end of the confidence interval of the cost ratio below 1, no case worse than 1.05, and
no violation of the guard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.model_registry.ports import PolicyStore

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
WORST_PERMITTED: Final = 1.05
LEAST_EPISODES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """Figures of a challenger against the policy in charge or the tuned rule.

    Attributes:
        weights_sha256: Which weights were evaluated.
        source: Origin of the episodes, e.g. "suite validation" or "replay of pool etl, 14 days".
        ratio: Paired cost ratio; below 1 the challenger is cheaper.
        ratio_high: Upper end of its 95 % confidence interval.
        worst_ratio: The ratio of the worst case.
        guard_violations: Decisions that broke a rule of the guard.
        episodes: Paired episodes per case.
    """

    weights_sha256: str
    source: str
    ratio: float
    ratio_high: float
    worst_ratio: float
    guard_violations: float
    episodes: int

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> GateEvidence:
        """The evidence in a report of `rl.evaluate` or of a replay.

        Raises:
            InvalidInputError: A figure is missing or not a number.
        """
        figures, context = report.get("figures"), report.get("context")
        if not isinstance(figures, Mapping) or not isinstance(context, Mapping):
            raise InvalidInputError("evidence", sorted(report), "needs 'figures' and 'context' (rl.evaluate --json)")
        numbers: dict[str, float] = {}
        for name in ("ratio_vs_tuned", "ratio_vs_tuned_hi", "worst_scenario_ratio", "guard_violations"):
            value = figures.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InvalidInputError(f"evidence {name}", value, "must be a number; evaluate against 'tuned'")
            numbers[name] = float(value)
        return cls(
            weights_sha256=str(context.get("weights_sha256")),
            source=f"suite {context.get('suite')}",
            ratio=numbers["ratio_vs_tuned"],
            ratio_high=numbers["ratio_vs_tuned_hi"],
            worst_ratio=numbers["worst_scenario_ratio"],
            guard_violations=numbers["guard_violations"],
            episodes=int(context.get("episodes_per_case") or 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """The gate's answer.

    Attributes:
        passed: Whether the challenger may become champion.
        reasons: One sentence per condition.
    """

    passed: bool
    reasons: tuple[str, ...]


def check_gate(evidence: GateEvidence, weights_sha256: str) -> GateDecision:
    """Check the evidence against the conditions of the gate."""
    conditions = (
        (
            evidence.weights_sha256 == weights_sha256,
            f"the evidence is about weights {evidence.weights_sha256[:12]}, the bundle has {weights_sha256[:12]}",
        ),
        (
            evidence.episodes >= LEAST_EPISODES,
            f"{evidence.episodes} paired episodes per case, at least {LEAST_EPISODES} are needed",
        ),
        (
            evidence.ratio_high < 1.0,
            f"cost ratio {evidence.ratio:.4f}; its 95 % interval ends at {evidence.ratio_high:.4f}, must be below 1",
        ),
        (
            evidence.worst_ratio <= WORST_PERMITTED,
            f"worst case {evidence.worst_ratio:.3f}, at most {WORST_PERMITTED} is permitted",
        ),
        (
            evidence.guard_violations == 0,
            f"{evidence.guard_violations:.0f} guard violations, none is permitted",
        ),
    )
    return GateDecision(
        passed=all(held for held, _ in conditions),
        reasons=tuple(f"{'ok' if held else 'refused'}: {text}" for held, text in conditions),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionChange:
    """A change of the champion.

    Attributes:
        before: Version that was champion; None if there was none.
        after: Version that is, or would be, champion.
        gate: The gate's answer; None for a rollback, which needs no evidence.
        done: Whether the alias was moved.
    """

    before: str | None
    after: str | None
    gate: GateDecision | None
    done: bool


def promote(store: PolicyStore, version: str, evidence: GateEvidence, *, at_s: float, dry_run: bool) -> ChampionChange:
    """Make a stored version the champion if it passes the gate."""
    before = store.alias(CHAMPION)
    gate = check_gate(evidence, store.weights_sha256(version))
    done = gate.passed and not dry_run
    if done:
        store.set_alias(CHAMPION, version, why="; ".join((evidence.source, *gate.reasons)), at_s=at_s)
    return ChampionChange(before=before, after=version, gate=gate, done=done)


def rollback(store: PolicyStore, *, why: str, at_s: float, dry_run: bool) -> ChampionChange:
    """Go back to the champion before this one.

    Raises:
        InvalidInputError: There was no other champion before.
    """
    before = store.alias(CHAMPION)
    past = [version for version in store.past(CHAMPION) if version != before]
    if not past:
        raise InvalidInputError("rollback", before, "there was no other champion to go back to")
    if not dry_run:
        store.set_alias(CHAMPION, past[-1], why=f"rollback: {why}", at_s=at_s)
    return ChampionChange(before=before, after=past[-1], gate=None, done=not dry_run)
