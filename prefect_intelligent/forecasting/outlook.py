"""What is expected of the next run of each deployment, as one small table for whoever decides often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.forecaster import Forecaster
from prefect_intelligent.forecasting.online_update import update_online
from prefect_intelligent.forecasting.point_in_time_features import (
    NOTHING,
    Context,
    FeatureState,
    Work,
    replay_into,
    works,
)
from prefect_intelligent.history.runs_frame import duration_s, settled

ENOUGH: Final = 5
"""Ended runs of a deployment below which nothing is said of it."""
ENOUGH_FAILED: Final = 3
LONGEST_AGE_S: Final = 86400.0
"""A history whose last run ended longer ago is not spoken for."""

_DECAY: Final = 0.9
_PRIOR, _PRIOR_RUNS = 0.05, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of the next run of one deployment.

    Attributes:
        estimate: How long it holds its slot.
        failure_probability: Chance that it fails.
        failed: How long runs of it take that fail; None below three.
        runs: Ended runs this rests on.
    """

    estimate: Estimate
    failure_probability: float
    failed: Estimate | None
    runs: int


def make_outlook(
    runs: pd.DataFrame,
    now_s: float,
    forecaster: Forecaster | None = None,
    *,
    start_up_s: float = 0.0,
    around: Context = NOTHING,
) -> dict[str, Outlook]:
    """An outlook for every deployment with at least five ended runs; empty if the history is a day old.

    Durations are the trained quantiles if there is a forecaster, else those of the duration book. Failures are the
    forecaster's calibrated probability, else the share of failures with the weight of a run falling by a tenth with
    each one after it.

    Args:
        runs: As from `as_runs` or the store.
        now_s: The present; runs that ended later by their clock are left out.
        forecaster: Trained on this history.
        start_up_s: Added to durations: seconds between taking a slot and starting to work.
        around: What is known of the world around the runs.
    """
    told = runs[settled(runs) & (runs["ended_s"] <= now_s)].sort_values("ended_s", kind="stable").reset_index(drop=True)
    if told.empty or now_s - float(told["ended_s"].iloc[-1]) > LONGEST_AGE_S:
        return {}
    book = DurationQuantiles()
    last: dict[str, Work] = {}
    rates: dict[str, tuple[float, float, int]] = {}
    failed: dict[str, list[float]] = {}
    for work, seconds, bad in zip(works(told), duration_s(told).tolist(), told["failed"].tolist(), strict=True):
        book.learn(work, seconds)
        name = str(work.deployment)
        last[name] = work
        weight, total, count = rates.get(name, (0.0, 0.0, 0))
        rates[name] = (weight * _DECAY + bad, total * _DECAY + 1.0, count + 1)
        if bad:
            failed.setdefault(name, []).append(seconds)
    known = [name for name, (_, _, count) in rates.items() if count >= ENOUGH]
    trained = {} if forecaster is None or not known else _trained(forecaster, told, last, known, now_s, around)
    out = {}
    for name in known:
        bad_weight, weight, count = rates[name]
        estimate = book.estimate(last[name])
        probability = (bad_weight + _PRIOR * _PRIOR_RUNS) / (weight + _PRIOR_RUNS)
        if name in trained:
            estimate, probability = trained[name]
        out[name] = Outlook(
            estimate=Estimate(p50_s=estimate.p50_s + start_up_s, p90_s=estimate.p90_s + start_up_s),
            failure_probability=probability,
            failed=span_of(failed.get(name, [])[-50:]),
            runs=count,
        )
    return out


def _trained(
    forecaster: Forecaster,
    told: pd.DataFrame,
    last: Mapping[str, Work],
    known: list[str],
    now_s: float,
    around: Context,
) -> dict[str, tuple[Estimate, float]]:
    ledger = FeatureState(forecaster.levels, around.upstream)
    replay_into(ledger, told, around.verified)
    features = np.array([ledger.look(last[name], now_s) for name in known], dtype=float)
    found = update_online(forecaster, told, around).forecast(features, known, reasons=0)
    return {
        name: (forecast.estimate, forecast.failure_probability)
        for name, forecast in zip(known, found, strict=True)
        if math.isfinite(forecast.failure_probability)
    }


def span_of(seconds: list[float]) -> Estimate | None:
    """Median and 90 % quantile of durations; None below three."""
    if len(seconds) < ENOUGH_FAILED:
        return None
    p50, p90 = np.quantile(seconds, (0.5, 0.9))
    return Estimate(p50_s=max(0.001, float(p50)), p90_s=max(0.001, float(p90)))
