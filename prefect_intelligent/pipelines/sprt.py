"""Sequential probability ratio test of a canary (Wald 1945, "Sequential tests of statistical hypotheses").

There is one test per measure; each classifies a run as good or bad. p0 is the rate of bad runs of the old version and
p1 = p0 + `worse_by`. After k bad runs of n the log likelihood ratio is

    k log(p1 / p0) + (n - k) log((1 - p1) / (1 - p0)).

The new version is rejected as soon as one ratio reaches log(m (1 - beta) / alpha), with m measures (Bonferroni), and
accepted when all are at most log(beta / (1 - alpha / m)). A version as good as the old one is then rejected with a
probability of about `alpha` over all measures together (at most alpha / (1 - beta), by Ville's inequality).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

CanaryVerdict = Literal["continue", "promote", "roll back"]
MEASURES: Final = ("failed", "duration", "quality", "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """Measures of one ended run.

    Attributes:
        failed: Whether it failed or crashed.
        duration_s: Duration, seconds; None if unknown.
        quality: Quality score, higher is better; None if not measured.
        cost_usd: Cost by the objective, US dollars; None if unknown.
    """

    failed: bool
    duration_s: float | None = None
    quality: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SprtState:
    """State of the test of one measure.

    Attributes:
        measure: One of `MEASURES`.
        runs: Canary runs counted.
        bad: Bad ones among these.
        baseline_rate: Rate of bad runs of the old version (p0), 0.02 to 0.65.
        log_ratio: Log likelihood ratio of p1 to p0.
    """

    measure: str
    runs: int
    bad: int
    baseline_rate: float
    log_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SprtConfig:
    """Parameters of the test.

    Attributes:
        alpha: Probability to reject a version that is as good as the old one, over all measures.
        beta: Probability to accept a version whose rate of bad runs is larger by `worse_by`.
        worse_by: Difference of the rates of bad runs to detect, absolute.
        tolerance: Relative excess of duration or cost that still counts as good.
        max_runs: Canary runs after which the version is promoted if no measure rejects it.
    """

    alpha: float = 0.05
    beta: float = 0.10
    worse_by: float = 0.30
    tolerance: float = 0.25
    max_runs: int = 50


def sprt_verdict(
    config: SprtConfig, baseline: Sequence[RunOutcome], canary: Sequence[RunOutcome]
) -> tuple[CanaryVerdict, list[SprtState]]:
    """Return the verdict after the canary's runs so far, with the state of every measure that can be compared.

    Args:
        config: Parameters of the test.
        baseline: Runs of the old version; a few dozen give the best estimate of p0, an empty list is allowed.
        canary: Runs of the new version.
    """
    reject = math.log((1 - config.beta) * len(MEASURES) / config.alpha)
    accept = math.log(config.beta / (1 - config.alpha / len(MEASURES)))
    states = []
    for measure in MEASURES:
        bad = _bad(config, measure, baseline, canary)
        if bad is None:
            continue
        baseline_bad, canary_bad = bad
        baseline_rate = min(max((sum(baseline_bad) + 0.5) / (len(baseline_bad) + 1), 0.02), 0.65)
        worse = min(baseline_rate + config.worse_by, 0.98)
        gain, loss = math.log(worse / baseline_rate), math.log((1 - worse) / (1 - baseline_rate))
        ratio = 0.0
        for is_bad in canary_bad:
            ratio += gain if is_bad else loss
            if ratio >= reject:
                break  # the test ends when a bound is crossed
        states.append(
            SprtState(
                measure=measure,
                runs=len(canary_bad),
                bad=sum(canary_bad),
                baseline_rate=baseline_rate,
                log_ratio=ratio,
            )
        )
    if any(state.log_ratio >= reject for state in states):
        return "roll back", states
    if canary and (all(state.log_ratio <= accept for state in states) or len(canary) >= config.max_runs):
        return "promote", states
    return "continue", states


def _bad(
    config: SprtConfig, measure: str, baseline: Sequence[RunOutcome], canary: Sequence[RunOutcome]
) -> tuple[list[bool], list[bool]] | None:
    """Return which runs are bad by a measure, of the baseline and of the canary; None if they cannot be compared."""
    if measure == "failed":
        return [run.failed for run in baseline], [run.failed for run in canary]
    field = {"duration": "duration_s", "quality": "quality", "cost": "cost_usd"}[measure]
    # duration and quality of failed runs are not comparable; their cost is
    baseline_rate = [
        v for run in baseline if (measure == "cost" or not run.failed) and (v := getattr(run, field)) is not None
    ]
    new = [v for run in canary if (measure == "cost" or not run.failed) and (v := getattr(run, field)) is not None]
    if len(baseline_rate) < 10 or not new:
        return None
    if measure == "quality":
        limit = float(np.quantile(baseline_rate, 0.1))
        return [value < limit for value in baseline_rate], [value < limit for value in new]
    limit = float(np.quantile(baseline_rate, 0.9)) * (1 + config.tolerance)
    return [value > limit for value in baseline_rate], [value > limit for value in new]
