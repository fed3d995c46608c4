"""Health in two numbers: a status (the worst of its gates) and a score (a weighted geometric mean of its terms).

The score never pages anybody; the burn rate does. Every term is shown with what it rests on.
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
from prefect_intelligent.history.runs_frame import settled


class HealthStatus(StrEnum):
    """How something is, worst last."""

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
        value: 0 (bad) to 1 (good); None if nothing is known.
        n: How many observations it rests on.
        detail: The figures in words.
    """

    name: str
    value: float | None
    n: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Health of a deployment, queue or pool.

    Attributes:
        name: Of what.
        status: Worst of the gates.
        score: 0 to 100; None if no term is known.
        terms: All terms, unknown ones too.
        gates: Why the status is not better, one sentence each.
        budget: The error budget, for a deployment.
    """

    name: str
    status: HealthStatus
    score: float | None
    terms: tuple[HealthTerm, ...]
    gates: tuple[str, ...] = ()
    budget: ErrorBudget | None = None

    def contribution(self, term: HealthTerm) -> float:
        """Points of 100 that the term takes from the score by itself; 0 if it is unknown."""
        known = sum(WEIGHTS[t.name] for t in self.terms if t.value is not None)
        if term.value is None or not known:
            return 0.0
        return 100.0 * (1.0 - float(max(term.value, _FLOOR) ** (WEIGHTS[term.name] / known)))


_FLOOR: Final = 0.01  # one zero drags the score down without erasing what the other terms say


def health_score(terms: Sequence[HealthTerm]) -> float | None:
    """100 times the weighted geometric mean of the known terms; their weights are scaled to sum to 1."""
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
    spent: CostBudget | None = None,
    retrying: bool = False,
) -> Health:
    """Health of one deployment.

    Args:
        name: "flow/deployment".
        runs: Its runs, as from `as_runs`.
        now_s: The present.
        target: Share of time in which its promise must hold.
        quality: Severity-weighted share of passed checks, and how many checks.
        spent: What it may cost and has cost; None if that is not known.
        retrying: Whether its last failure is being tried again: a failure is then a warning only.
    """
    ended = runs[settled(runs)].sort_values("ended_s")
    terms = (
        _reliability(ended, now_s),
        _timeliness(ended),
        _quality(quality),
        _freshness(ended, runs, now_s),
        _duration(ended),
        _cost(spent),
    )
    errors = None
    if not runs.empty:
        intervals = bad_intervals(runs, now_s)
        errors = error_budget(intervals, now_s, target=target, since_s=float(runs["submitted_s"].min()))
    if len(ended) < MIN_RUNS:
        why = (f"not enough data: {len(ended)} ended runs, {MIN_RUNS} are needed",)
        return Health(
            name=name, status=HealthStatus.UNKNOWN, score=health_score(terms), terms=terms, gates=why, budget=errors
        )
    gates = _gates(ended, terms, errors, retrying)
    status = max((found for found, _ in gates), key=_ORDER.__getitem__, default=HealthStatus.HEALTHY)
    return Health(
        name=name,
        status=status,
        score=health_score(terms),
        terms=terms,
        gates=tuple(why for _, why in gates),
        budget=errors,
    )


def group_health(name: str, members: Sequence[Health]) -> Health:
    """Health of a queue or pool: the worst status of its deployments, and each term averaged by what it rests on."""
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


def _gates(
    ended: pd.DataFrame, terms: Sequence[HealthTerm], spent: ErrorBudget | None, retrying: bool
) -> list[tuple[HealthStatus, str]]:
    found: list[tuple[HealthStatus, str]] = []
    if bool(ended["failed"].iloc[-1]):
        in_a_row = int(ended["failed"][::-1].cumprod().sum())
        worst = HealthStatus.WARNING if retrying or in_a_row == 1 else HealthStatus.DEGRADED
        found.append((worst, f"the last {in_a_row} runs failed" if in_a_row > 1 else "the last run failed"))
    if spent is not None and spent.action:
        worst = HealthStatus.DEGRADED if spent.action == "page" else HealthStatus.WARNING
        found.append((worst, f"the error budget burns fast ({spent.action})"))
    if spent is not None and spent.left < 0:
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
    detail = f"last success {age / 3600:.1f} h ago, expected every {expected / 3600:.1f} h"
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


def _cost(spent: CostBudget | None) -> HealthTerm:
    if spent is None:
        return HealthTerm(name="cost", value=None, n=0, detail="no budget, and too short a past")
    value = 1.0 if spent.actual_usd <= spent.budget_usd else spent.budget_usd / spent.actual_usd
    against = "agreed" if spent.agreed else "as it used to be"
    detail = f"${spent.actual_usd:.2f} against ${spent.budget_usd:.2f} {against}"
    return HealthTerm(name="cost", value=value, n=spent.runs, detail=detail)
