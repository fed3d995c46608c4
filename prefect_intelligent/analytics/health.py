"""Health of deployments, queues and pools: a status (the worst of its gates) and a score (from 0 to 100).

The score is a weighted geometric mean of terms, each with the number of observations it is based on. Alerts follow
from the burn rate of the error budget, not from the score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.analytics.cost_budget import CostBudget
from prefect_intelligent.analytics.error_budget import DEFAULT_TARGET, ErrorBudget, bad_intervals, error_budget
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.history.runs_frame import settled


class HealthStatus(StrEnum):
    """Status of a deployment, queue or pool, worst last."""

    UNKNOWN = "unknown"  # not enough data
    HEALTHY = "healthy"
    WARNING = "warning"
    DEGRADED = "degraded"


_ORDER: Final = {status: place for place, status in enumerate(HealthStatus)}

WEIGHTS: Final[Mapping[str, float]] = {
    "reliability": 0.30,
    "timeliness": 0.25,
    "quality": 0.20,
    "freshness": 0.15,
    "duration": 0.05,
    "cost": 0.05,
}
MIN_RUNS: Final = 5
_HALF_LIFE_S: Final = 7 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTerm:
    """One part of a score.

    Attributes:
        name: A key of `WEIGHTS`.
        value: 0 (bad) to 1 (good); None if it is unknown.
        n: Number of observations.
        detail: The figures, as text.
    """

    name: str
    value: float | None
    n: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Health of a deployment, queue or pool.

    Attributes:
        name: Name of the deployment, queue or pool.
        status: Worst status of the gates.
        score: 0 to 100; None if no term is known.
        terms: All terms, including unknown ones.
        gates: Why the status is not better, one sentence each.
        budget: The error budget of a deployment; None for a group.
    """

    name: str
    status: HealthStatus
    score: float | None
    terms: tuple[HealthTerm, ...]
    gates: tuple[str, ...] = ()
    budget: ErrorBudget | None = None

    def contribution(self, term: HealthTerm) -> float:
        """Points of 100 that the term alone takes from the score; 0 if it is unknown."""
        known = sum(WEIGHTS[t.name] for t in self.terms if t.value is not None)
        if term.value is None or not known:
            return 0.0
        return 100.0 * (1.0 - float(max(term.value, _FLOOR) ** (WEIGHTS[term.name] / known)))


_FLOOR: Final = 0.01  # least value of a term in the score: a zero would make the score zero whatever the other terms


def health_score(terms: Sequence[HealthTerm]) -> float | None:
    """100 times the weighted geometric mean of the known terms, weights scaled to sum to 1; None if none is known."""
    known = [(WEIGHTS[term.name], max(term.value, _FLOOR)) for term in terms if term.value is not None]
    if not known:
        return None
    total = sum(weight for weight, _ in known)
    return 100.0 * math.exp(sum(weight * math.log(value) for weight, value in known) / total)


def deployment_health(
    name: str,
    runs: pd.DataFrame,
    now_s: float,
    *,
    target: float = DEFAULT_TARGET,
    quality: tuple[float, int] | None = None,
    cost: CostBudget | None = None,
    retrying: bool = False,
    awaited: bool = True,
) -> Health:
    """Health of one deployment.

    Status and score say the same: below 50 is degraded, below 80 a warning; a worse gate takes the score with it.

    Args:
        name: "flow/deployment".
        runs: Its runs, as from `as_runs`.
        now_s: The present, Unix seconds.
        target: Service level: share of time in which its output must not be late or missing, below 1.
        quality: Severity-weighted share of passed checks, 0 to 1, and the number of checks.
        cost: Its budget and its cost; None if unknown.
        retrying: Whether its last failure is being retried: failures are then a warning only.
        awaited: Whether somebody waits for its next run: it has a schedule, or declares what it writes.
    """
    ended = runs[settled(runs)].sort_values("ended_s")
    terms = (
        _reliability(ended, now_s),
        _timeliness(ended),
        _quality(quality),
        _freshness(ended, runs, now_s) if awaited else _NOT_AWAITED,
        _duration(ended),
        _cost(cost),
    )
    budget = None
    if not runs.empty:
        intervals = bad_intervals(runs, now_s)
        budget = error_budget(intervals, now_s, target=target, since_s=float(runs["submitted_s"].min()))
    if len(ended) < MIN_RUNS:
        why = (f"not enough data: {len(ended)} ended runs, {MIN_RUNS} are needed",)
        return Health(name=name, status=HealthStatus.UNKNOWN, score=None, terms=terms, gates=why, budget=budget)
    score = health_score(terms)
    gates = _gates(ended, terms, budget, retrying)
    status = max((found for found, _ in gates), key=_ORDER.__getitem__, default=HealthStatus.HEALTHY)
    if score is not None and _ORDER[by_score := _status_of(score)] > _ORDER[status]:
        status = by_score
        worst = min((term for term in terms if term.value is not None), key=_loss)
        gates.append((by_score, f"a low score: {worst.name}: {worst.detail}"))
    return Health(
        name=name,
        status=status,
        score=None if score is None else min(score, _MOST[status]),
        terms=terms,
        gates=tuple(why for _, why in gates),
        budget=budget,
    )


def group_health(name: str, members: Sequence[Health]) -> Health:
    """Health of a queue or pool: the worst status of its deployments, and the means of their terms weighted by `n`."""
    terms = []
    for term in WEIGHTS:
        known = [t for member in members for t in member.terms if t.name == term and t.value is not None]
        n = sum(t.n for t in known)
        value = sum(t.value * max(t.n, 1) for t in known if t.value is not None) / max(
            1, sum(max(t.n, 1) for t in known)
        )
        terms.append(HealthTerm(name=term, value=value if known else None, n=n, detail=f"{len(known)} deployments"))
    worst = max((member.status for member in members), key=_ORDER.__getitem__, default=HealthStatus.UNKNOWN)
    named = tuple(f"{m.name}: {m.status}" for m in members if m.status in (HealthStatus.WARNING, HealthStatus.DEGRADED))
    return Health(name=name, status=worst, score=health_score(terms), terms=tuple(terms), gates=named[:10])


_MOST: Final = {HealthStatus.DEGRADED: 49.0, HealthStatus.WARNING: 79.0, HealthStatus.HEALTHY: 100.0}
"""Largest score of each status."""


def _status_of(score: float) -> HealthStatus:
    return next(status for status, most in _MOST.items() if score < most + 1.0 or status is HealthStatus.HEALTHY)


def _loss(term: HealthTerm) -> float:
    """Logarithm of the factor by which the term lowers the score."""
    return WEIGHTS[term.name] * math.log(max(term.value or 0.0, _FLOOR))


def _gates(
    ended: pd.DataFrame, terms: Sequence[HealthTerm], budget: ErrorBudget | None, retrying: bool
) -> list[tuple[HealthStatus, str]]:
    found: list[tuple[HealthStatus, str]] = []
    if bool(ended["failed"].iloc[-1]):
        in_a_row = int(ended["failed"][::-1].cumprod().sum())
        worst = HealthStatus.WARNING if retrying or in_a_row == 1 else HealthStatus.DEGRADED
        found.append((worst, f"the last {in_a_row} runs failed" if in_a_row > 1 else "the last run failed"))
    if budget is not None and budget.action:
        worst = HealthStatus.DEGRADED if budget.action == "page" else HealthStatus.WARNING
        found.append((worst, f"the error budget burns fast ({budget.action})"))
    if budget is not None and budget.left < 0:
        found.append((HealthStatus.DEGRADED, "the error budget is spent"))
    by_name = {term.name: term for term in terms}
    if (fresh := by_name["freshness"].value) is not None and fresh < 1.0:
        found.append(
            (HealthStatus.DEGRADED if fresh <= 0 else HealthStatus.WARNING, f"not fresh: {by_name['freshness'].detail}")
        )
    if (checks := by_name["quality"].value) is not None and checks < 1.0:
        found.append(
            (HealthStatus.DEGRADED if checks < 0.8 else HealthStatus.WARNING, f"quality: {by_name['quality'].detail}")
        )
    if (took := by_name["duration"].value) is not None and took < 1.0:
        found.append((HealthStatus.WARNING, f"durations: {by_name['duration'].detail}"))
    return found


def _reliability(ended: pd.DataFrame, now_s: float) -> HealthTerm:
    """Posterior mean of the success rate under a Beta(1, 1) prior, outcomes weighted with a half-life of a week."""
    if ended.empty:
        return HealthTerm(name="reliability", value=None, n=0, detail="no ended run")
    weight = 0.5 ** (np.maximum(0.0, now_s - ended["ended_s"].to_numpy()) / _HALF_LIFE_S)
    good = ~ended["failed"].to_numpy(dtype=bool)
    value = float((1.0 + weight[good].sum()) / (2.0 + weight.sum()))
    return HealthTerm(
        name="reliability", value=value, n=len(ended), detail=f"{int(good.sum())} of {len(ended)} runs completed"
    )


def _timeliness(ended: pd.DataFrame) -> HealthTerm:
    due = ended[ended["due_s"].notna()]
    if due.empty:
        return HealthTerm(name="timeliness", value=None, n=0, detail="no deadline")
    on_time = int(((due["ended_s"] <= due["due_s"]) & ~due["failed"]).sum())
    return HealthTerm(
        name="timeliness", value=on_time / len(due), n=len(due), detail=f"{on_time} of {len(due)} runs on time"
    )


def _quality(quality: tuple[float, int] | None) -> HealthTerm:
    if quality is None or quality[1] == 0:
        return HealthTerm(name="quality", value=None, n=0, detail="no contract")
    share, checks = quality
    return HealthTerm(
        name="quality", value=share, n=checks, detail=f"{share:.0%} of {checks} checks passed, by severity"
    )


_NOT_AWAITED: Final = HealthTerm(name="freshness", value=None, n=0, detail="no schedule and no declared output")


def _freshness(ended: pd.DataFrame, runs: pd.DataFrame, now_s: float) -> HealthTerm:
    """Age of the last success against the usual gap between runs."""
    good = ended[~ended["failed"]]
    gaps = np.diff(np.sort(runs["scheduled_s"].fillna(runs["submitted_s"]).to_numpy()))
    gaps = gaps[gaps > 0]
    if good.empty or len(gaps) < 3:
        return HealthTerm(name="freshness", value=None, n=len(good), detail="no rhythm known")
    expected = float(np.quantile(gaps, 0.9)) + float((good["ended_s"] - good["started_s"]).median())
    age = max(0.0, now_s - float(good["ended_s"].max()))
    value = float(np.clip(1.0 - max(0.0, age - expected) / expected, 0.0, 1.0))
    detail = f"last success {describe_span(age)} ago, expected every {describe_span(expected)}"
    return HealthTerm(name="freshness", value=value, n=len(good), detail=detail)


def _duration(ended: pd.DataFrame) -> HealthTerm:
    """Robust z of the median log duration of the last five successes against those before."""
    good = ended[~ended["failed"]]
    logs = np.log1p((good["ended_s"] - good["started_s"]).to_numpy())
    if len(logs) < 15:
        return HealthTerm(name="duration", value=None, n=len(logs), detail="fewer than 15 successes")
    past, now = logs[:-5], float(np.median(logs[-5:]))
    middle = float(np.median(past))
    spread = max(0.05, 1.4826 * float(np.median(np.abs(past - middle))))
    z = (now - middle) / spread
    value = 1.0 - float(np.clip((z - 2.0) / 4.0, 0.0, 1.0))
    times = math.exp(now - middle)
    return HealthTerm(
        name="duration", value=value, n=len(logs), detail=f"the last five took {times:.1f} times the usual"
    )


def _cost(cost: CostBudget | None) -> HealthTerm:
    if cost is None:
        return HealthTerm(name="cost", value=None, n=0, detail="no budget, and too short a past")
    value = 1.0 if cost.actual_usd <= cost.budget_usd else cost.budget_usd / cost.actual_usd
    against = "agreed" if cost.agreed else "as it used to be"
    detail = f"${cost.actual_usd:.2f} against ${cost.budget_usd:.2f} {against}"
    return HealthTerm(name="cost", value=value, n=cost.runs, detail=detail)
