"""A forecaster at work: each run is foretold when it is submitted, and what becomes of it is learned from.

The trees stay as they were trained; histories grow in the ledger, and two things learn here: whose median to trust, and
the offset of the 90 % quantile.
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
from prefect_intelligent.forecasting.point_in_time_features import NOTHING, Context, encode, events
from prefect_intelligent.history.runs_frame import duration_s, settled

Array = npt.NDArray[np.float64]

_LONGEST_LOG: Final = 20.0
_MOST_RUNS: Final = 3000
"""So many of the last runs are enough to know whom to trust, and the offset."""


def forecast_all(forecaster: Forecaster, runs: pd.DataFrame, features: Array, since_s: float) -> pd.DataFrame:
    """Forecasts of every run submitted from `since_s` on, each made with what was known then.

    Trust and the offset of the 90 % quantile learn as they would live; the forecaster passed in is not changed.

    Returns:
        Indexed like the rows of `runs` it covers: `failure_probability`, `mean_log`, `p50_log`, `p90_log`.
    """
    middle, high, _ = _follow(forecaster, runs, features, since_s)
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


def update_online(forecaster: Forecaster, runs: pd.DataFrame, around: Context = NOTHING) -> Forecaster:
    """The forecaster with the trust and the offset that the runs since its training have left it with.

    Args:
        forecaster: As it was kept.
        runs: The history, as from `as_runs` or the store.
        around: What is known of the world around the runs.
    """
    since_s = float(forecaster.trained_on.get("until_s", math.inf))
    submitted = runs["submitted_s"].to_numpy()
    later = np.flatnonzero(submitted > since_s)
    if not len(later):
        return forecaster
    since_s = float(submitted[later[max(0, len(later) - _MOST_RUNS)]])
    features, _ = encode(runs, forecaster.levels, around, since_s)
    return _follow(forecaster, runs, features, since_s)[2]


def _follow(
    forecaster: Forecaster, runs: pd.DataFrame, features: Array, since_s: float
) -> tuple[Array, Array, Forecaster]:
    """Median and 90 % quantile (log) that each run submitted from `since_s` on was promised, and who has seen it all.

    A run that outlives its promise is a miss at that moment, however long it goes on: waiting for its end would hide
    the misses that matter most. If it is cancelled later on it tells nothing, and what was learned is taken back.
    """
    submitted, started, ended = (runs[name].to_numpy() for name in ("submitted_s", "started_s", "ended_s"))
    deployments = runs["deployment"].astype(str).tolist()
    counts = settled(runs).to_numpy()
    told = ~np.isnan(features).all(axis=1)
    watched = np.flatnonzero(told & ((submitted >= since_s) | (ended >= since_s)))
    middle, high = np.full(len(runs), np.nan), np.full(len(runs), np.nan)
    said = dict(zip(watched.tolist(), forecaster.voices(features[watched]).tolist(), strict=True))
    bare = dict(zip(watched.tolist(), forecaster.p90_log.predict(features[watched]).tolist(), strict=True))
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float))
    learner = replace(forecaster, coverage=replace(forecaster.coverage), trust=forecaster.trust.copy())
    coverage = learner.coverage
    promises: list[tuple[float, int]] = []
    missed: set[int] = set()

    def learn_until(at_s: float) -> None:
        while promises and promises[0][0] < at_s:
            _, row = heapq.heappop(promises)
            missed.add(row)
            coverage.learn(missed=True)

    def promise(row: int) -> None:
        middle[row], high[row] = learner.quantiles(deployments[row], said[row], bare[row])

    for kind, row in events(runs):
        if kind == 0 and submitted[row] >= since_s:
            learn_until(submitted[row])
            promise(row)
        elif kind == 1 and submitted[row] >= since_s:
            promised_s = started[row] + math.expm1(min(high[row], _LONGEST_LOG))
            if not ended[row] <= promised_s:
                heapq.heappush(promises, (promised_s, row))
        elif kind == 2 and ended[row] >= since_s and row in said:
            learn_until(ended[row])
            if math.isnan(high[row]):
                promise(row)
            if row in missed and not counts[row]:
                coverage.unlearn_miss()
            elif row not in missed and counts[row]:
                coverage.learn(missed=bool(logs[row] > high[row]))
            if counts[row]:
                learner.trust.learn(deployments[row], said[row], float(logs[row]))
    return middle, high, learner
