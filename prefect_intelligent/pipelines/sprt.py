"""The sequential test of a canary: Wald's probability ratio test, one per measure, decided after every run.

Each measure turns a run into good or bad. The old version is bad at a rate p0; the new one is refused as soon as the
runs are `1 / error` times likelier under a clearly worse rate p1 than under p0, and accepted when every measure says
the opposite. With Wald's bounds a version as good as the old one is refused with a probability of at most `error` over
all measures together.
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
    """How one run went.

    Attributes:
        failed: Whether it failed or crashed.
        duration_s: How long it ran; None if not known.
        quality: Quality score, higher is better; None if not measured.
        cost_usd: What it cost, by the objective; None if not known.
    """

    failed: bool
    duration_s: float | None = None
    quality: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SprtState:
    """State of the test of one measure.

    Attributes:
        measure: Which.
        runs: Canary runs counted.
        bad: Of these, bad ones.
        usual: Rate of bad runs of the old version, 0 to 1.
        log_ratio: Log of how much likelier the runs are if the new version is clearly worse.
    """

    measure: str
    runs: int
    bad: int
    usual: float
    log_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SprtConfig:
    """How a canary is judged.

    Attributes:
        error: Chance to refuse a version that is as good as the old one.
        miss: Chance to accept one that is clearly worse.
        worse_by: How much larger a clearly worse rate of bad runs is, absolute.
        tolerance: Relative excess of duration or cost that still counts as good.
        max_runs: Canary runs after which it is promoted if nothing speaks against it.
    """

    error: float = 0.05
    miss: float = 0.10
    worse_by: float = 0.30
    tolerance: float = 0.25
    max_runs: int = 50


def sprt_verdict(
    trial: SprtConfig, baseline: Sequence[RunOutcome], canary: Sequence[RunOutcome]
) -> tuple[CanaryVerdict, list[SprtState]]:
    """The verdict after the canary's runs so far.

    Args:
        trial: How to judge.
        baseline: Runs of the old version; a few dozen are best, none is possible.
        canary: Runs of the new version.
    """
    refuse = math.log((1 - trial.miss) * len(MEASURES) / trial.error)
    accept = math.log(trial.miss / (1 - trial.error / len(MEASURES)))
    measured = []
    for measure in MEASURES:
        bad = _bad(trial, measure, baseline, canary)
        if bad is None:
            continue
        usual_bad, new_bad = bad
        usual = min(max((sum(usual_bad) + 0.5) / (len(usual_bad) + 1), 0.02), 0.65)
        worse = min(usual + trial.worse_by, 0.98)
        gain, loss = math.log(worse / usual), math.log((1 - worse) / (1 - usual))
        ratio = 0.0
        for is_bad in new_bad:
            ratio += gain if is_bad else loss
            if ratio >= refuse:
                break  # a bound once crossed decides, whatever comes later
        measured.append(SprtState(measure=measure, runs=len(new_bad), bad=sum(new_bad), usual=usual, log_ratio=ratio))
    if any(state.log_ratio >= refuse for state in measured):
        return "roll back", measured
    if canary and (all(state.log_ratio <= accept for state in measured) or len(canary) >= trial.max_runs):
        return "promote", measured
    return "continue", measured


def _bad(
    trial: SprtConfig, measure: str, baseline: Sequence[RunOutcome], canary: Sequence[RunOutcome]
) -> tuple[list[bool], list[bool]] | None:
    """Which runs are bad by a measure; None if it cannot be compared."""
    if measure == "failed":
        return [run.failed for run in baseline], [run.failed for run in canary]
    field = {"duration": "duration_s", "quality": "quality", "cost": "cost_usd"}[measure]
    # a run that failed has no duration or quality worth comparing; its cost counts
    usual = [v for run in baseline if (measure == "cost" or not run.failed) and (v := getattr(run, field)) is not None]
    new = [v for run in canary if (measure == "cost" or not run.failed) and (v := getattr(run, field)) is not None]
    if len(usual) < 10 or not new:
        return None
    if measure == "quality":
        limit = float(np.quantile(usual, 0.1))
        return [value < limit for value in usual], [value < limit for value in new]
    limit = float(np.quantile(usual, 0.9)) * (1 + trial.tolerance)
    return [value > limit for value in usual], [value > limit for value in new]
