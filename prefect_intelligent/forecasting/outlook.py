"""What is expected of the next run of each deployment: a small table, so that a controller can decide often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.forecaster import Forecaster
from prefect_intelligent.forecasting.online_update import update_online
from prefect_intelligent.forecasting.parameter_tree import ParameterEffect, Parameters, ParameterStatistics
from prefect_intelligent.forecasting.point_in_time_features import (
    NO_CONTEXT,
    Context,
    FeatureState,
    SubmittedRun,
    replay_into,
    submitted_runs,
)
from prefect_intelligent.history.runs_frame import duration_s, settled

MIN_RUNS_FOR_OUTLOOK: Final = 5
"""Ended runs that a deployment needs for an outlook."""
MIN_FAILED_RUNS: Final = 3
MAX_AGE_S: Final = 86400.0
"""A history whose last run ended longer ago is too old."""

_DECAY: Final = 0.9
_PRIOR, _PRIOR_RUNS = 0.05, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of the next run of one deployment.

    Attributes:
        estimate: How long it holds its slot.
        failure_probability: Probability that it fails.
        failed: How long failed runs of it take; None below three.
        runs: Number of ended runs it is based on.
        effect: What the parameters of a run change in it; None if they tell nothing.
        start_up_s: What of the estimate is start-up.
    """

    estimate: Estimate
    failure_probability: float
    failed: Estimate | None
    runs: int
    effect: ParameterEffect | None = None
    start_up_s: float = 0.0

    def of_run(self, parameters: Parameters) -> Outlook:
        """What is expected of a run with these parameters."""
        if self.effect is None or not parameters:
            return self
        given = dict(parameters)
        work = Estimate(p50_s=self.estimate.p50_s - self.start_up_s, p90_s=self.estimate.p90_s - self.start_up_s)
        return replace(
            self,
            estimate=_later(self.effect.duration(work, given), self.start_up_s),
            failure_probability=self.effect.failure_probability(self.failure_probability, given),
            effect=None,
        )


def _later(work: Estimate, start_up_s: float) -> Estimate:
    return Estimate(p50_s=work.p50_s + start_up_s, p90_s=work.p90_s + start_up_s)


def make_outlook(
    runs: pd.DataFrame,
    now_s: float,
    forecaster: Forecaster | None = None,
    *,
    start_up_s: float = 0.0,
    context: Context = NO_CONTEXT,
) -> dict[str, Outlook]:
    """An outlook for every deployment with at least five ended runs; empty if no run has ended within a day.

    With a forecaster, durations and failure probabilities are its own. Without, durations are those of the duration
    baseline, and the failure probability is the smoothed share of failures, in which the weight of a run falls by a
    tenth with each run after it. Where parameters of a deployment's runs tell of their durations or failures, `of_run`
    of its outlook is what is expected of a run with given ones.

    Args:
        runs: As from `as_runs` or the store.
        now_s: The present, Unix seconds; runs that ended later (clock skew) are left out.
        forecaster: Trained on this history.
        start_up_s: Added to durations: seconds between taking a slot and starting to work.
        context: Upstream deployments, and the quality checks of their outputs.
    """
    past = runs[settled(runs) & (runs["ended_s"] <= now_s)].sort_values("ended_s", kind="stable").reset_index(drop=True)
    if past.empty or now_s - float(past["ended_s"].iloc[-1]) > MAX_AGE_S:
        return {}
    durations, parameters = DurationQuantiles(), ParameterStatistics()
    last: dict[str, SubmittedRun] = {}
    rates: dict[str, tuple[float, float, int]] = {}
    failed: dict[str, list[float]] = {}
    for run, seconds, bad in zip(submitted_runs(past), duration_s(past).tolist(), past["failed"].tolist(), strict=True):
        durations.learn(run, seconds)
        name = str(run.deployment)
        parameters.finish(name, run.parameters, math.log1p(max(0.0, seconds)), bool(bad))
        last[name] = run
        weight, total, count = rates.get(name, (0.0, 0.0, 0))
        rates[name] = (weight * _DECAY + bad, total * _DECAY + 1.0, count + 1)
        if bad:
            failed.setdefault(name, []).append(seconds)
    known = [name for name, (_, _, count) in rates.items() if count >= MIN_RUNS_FOR_OUTLOOK]
    trained = {} if forecaster is None or not known else _trained(forecaster, past, last, known, now_s, context)
    out = {}
    for name in known:
        bad_weight, weight, count = rates[name]
        estimate = durations.estimate(last[name])
        probability = (bad_weight + _PRIOR * _PRIOR_RUNS) / (weight + _PRIOR_RUNS)
        if name in trained:
            estimate, probability = trained[name]
        out[name] = Outlook(
            estimate=_later(estimate, start_up_s),
            failure_probability=probability,
            failed=duration_estimate(failed.get(name, [])[-50:]),
            runs=count,
            effect=parameters.effect(name, last[name].parameters if name in trained else None),
            start_up_s=start_up_s,
        )
    return out


def _trained(
    forecaster: Forecaster,
    past: pd.DataFrame,
    last: Mapping[str, SubmittedRun],
    known: list[str],
    now_s: float,
    context: Context,
) -> dict[str, tuple[Estimate, float]]:
    """Duration and failure probability by the forecaster, for those deployments for which they are finite."""
    state = FeatureState(forecaster.levels, context.upstream)
    replay_into(state, past, context.output_checks)
    features = np.array([state.features(last[name], now_s) for name in known], dtype=float)
    found = update_online(forecaster, past, context).forecast(features, known, reasons=0)
    return {
        name: (forecast.estimate, forecast.failure_probability)
        for name, forecast in zip(known, found, strict=True)
        if math.isfinite(forecast.failure_probability)
    }


def duration_estimate(seconds: list[float]) -> Estimate | None:
    """Median and 90 % quantile of durations; None below three."""
    if len(seconds) < MIN_FAILED_RUNS:
        return None
    p50, p90 = np.quantile(seconds, (0.5, 0.9))
    return Estimate(p50_s=max(0.001, float(p50)), p90_s=max(0.001, float(p90)))
