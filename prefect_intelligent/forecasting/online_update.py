"""Online updates of a forecaster: each run is forecast when it is submitted and learned from when it ends.

The trees stay as they were trained. Features change with the history, and two things are updated here: the choice
between candidates for the median, and the offset of the 90 % quantile.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.forecasting.forecaster import Forecaster
from prefect_intelligent.forecasting.point_in_time_features import NO_CONTEXT, Context, encode_runs, run_events
from prefect_intelligent.history.runs_frame import duration_s, settled

Array = npt.NDArray[np.float64]

_MAX_LOG: Final = 20.0
_MAX_RUNS: Final = 3000
"""So many of the last runs are enough for the choice between candidates and for the offset."""


def forecast_all(forecaster: Forecaster, runs: pd.DataFrame, features: Array, since_s: float) -> pd.DataFrame:
    """Forecasts of every run submitted from `since_s` on, each from what was known at its submission.

    The online updates are applied as they would be live; the forecaster passed in is not changed.

    Returns:
        One row per run, indexed by its row number in `runs`: `failure_probability`, `mean_log`, `p50_log`, `p90_log`.
    """
    middle, high, _ = _replay(forecaster, runs, features, since_s)
    rows = np.flatnonzero(runs["submitted_s"].to_numpy() >= since_s)
    return pd.DataFrame(
        {
            "failure_probability": forecaster.failure_probability(features[rows]),
            "mean_log": np.maximum(0.0, forecaster.mean_log.predict(features[rows])),
            "p50_log": middle[rows],
            "p90_log": high[rows],
        },
        index=rows,
    )


def update_online(forecaster: Forecaster, runs: pd.DataFrame, context: Context = NO_CONTEXT) -> Forecaster:
    """A copy of the forecaster, updated by the runs since its training.

    Args:
        forecaster: As it was saved.
        runs: The history, as from `as_runs` or the store.
        context: Upstream deployments, and the quality checks of their outputs.
    """
    since_s = float(forecaster.trained_on.get("until_s", math.inf))
    submitted = runs["submitted_s"].to_numpy()
    later = np.flatnonzero(submitted > since_s)
    if not len(later):
        return forecaster
    since_s = float(submitted[later[max(0, len(later) - _MAX_RUNS)]])
    features, _ = encode_runs(runs, forecaster.levels, context, since_s)
    return _replay(forecaster, runs, features, since_s)[2]


def _replay(
    forecaster: Forecaster, runs: pd.DataFrame, features: Array, since_s: float
) -> tuple[Array, Array, Forecaster]:
    """Median and 90 % quantile (log) forecast for each run submitted from `since_s` on, and the updated forecaster.

    A run that exceeds its 90 % quantile is a miss at that instant, not at its end: waiting for the end would delay the
    largest misses. If such a run is cancelled, the update is undone.
    """
    submitted, started, ended = (runs[name].to_numpy() for name in ("submitted_s", "started_s", "ended_s"))
    deployments = runs["deployment"].astype(str).tolist()
    usable = settled(runs).to_numpy()
    encoded = ~np.isnan(features).all(axis=1)
    rows = np.flatnonzero(encoded & ((submitted >= since_s) | (ended >= since_s)))
    middle, high = np.full(len(runs), np.nan), np.full(len(runs), np.nan)
    candidates = dict(zip(rows.tolist(), forecaster.median_candidates(features[rows]).tolist(), strict=True))
    tree_p90 = dict(zip(rows.tolist(), forecaster.p90_log.predict(features[rows]).tolist(), strict=True))
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float))
    updated = replace(forecaster, coverage=replace(forecaster.coverage), selector=forecaster.selector.copy())
    coverage = updated.coverage
    limits: list[tuple[float, int]] = []  # heap of (instant at which the quantile is exceeded, row)
    missed: set[int] = set()

    def learn_misses_until(at_s: float) -> None:
        while limits and limits[0][0] < at_s:
            _, row = heapq.heappop(limits)
            missed.add(row)
            coverage.learn(missed=True)

    def forecast(row: int) -> None:
        middle[row], high[row] = updated.quantiles(deployments[row], candidates[row], tree_p90[row])

    for kind, row in run_events(runs):
        if kind == 0 and submitted[row] >= since_s:
            learn_misses_until(submitted[row])
            forecast(row)
        elif kind == 1 and submitted[row] >= since_s:
            limit_s = started[row] + math.expm1(min(high[row], _MAX_LOG))
            if not ended[row] <= limit_s:
                heapq.heappush(limits, (limit_s, row))
        elif kind == 2 and ended[row] >= since_s and row in candidates:
            learn_misses_until(ended[row])
            if math.isnan(high[row]):
                forecast(row)
            if row in missed and not usable[row]:
                coverage.retract_miss()
            elif row not in missed and usable[row]:
                coverage.learn(missed=bool(logs[row] > high[row]))
            if usable[row]:
                updated.selector.learn(deployments[row], candidates[row], float(logs[row]))
    return middle, high, updated
