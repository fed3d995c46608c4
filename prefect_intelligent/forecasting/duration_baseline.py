"""Duration quantiles from the last runs of the same kind, else of the deployment, else of the pool.

`DurationQuantiles` needs no training and answers from the first run on; the trained quantiles are in `forecaster`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.calibration import ConformalOffset
from prefect_intelligent.forecasting.point_in_time_features import SubmittedRun, submitted_runs
from prefect_intelligent.history.runs_frame import duration_s, settled

_KEPT = 50
_ENOUGH = 5
_FIRST_GUESS = Estimate(p50_s=60.0, p90_s=600.0)
_GUESS_SPREAD = math.log(4.0)  # log(p90 / p50) around an author's estimate
Z90 = 1.2815515655446004


class DurationQuantiles:
    """Quantiles of the last 50 durations of each kind of run, deployment and pool.

    A kind is a deployment with a size, an author's estimate and the words among its parameters, or without those. The
    first kind that has five durations answers, else the deployment if it has five, else the author's estimate, else the
    finest key with any duration. The 90 % quantile has an offset that is updated by every outcome, so that it covers
    90 % in the long run.
    """

    def __init__(self) -> None:
        self._past: dict[tuple[object, ...], deque[float]] = {}
        self._coverage = ConformalOffset(0.9)

    @staticmethod
    def _keys(run: SubmittedRun) -> tuple[tuple[object, ...], ...]:
        size = None if run.size != run.size else run.size
        expected = None if run.expected_s != run.expected_s else run.expected_s
        kind = ("kind", run.deployment, size, expected)
        words = tuple(each for each in run.parameters if not isinstance(each[1], float))
        keys = (kind, ("deployment", run.deployment), ("pool", run.pool))
        return ((*kind, words), *keys) if words else keys

    def learn(self, run: SubmittedRun, duration_s: float) -> None:
        """A run has ended after `duration_s` seconds."""
        actual = math.log1p(max(0.0, duration_s))
        _, high = self._logs(run)
        self._coverage.learn(missed=actual > high + self._coverage.offset)
        for key in self._keys(run):
            self._past.setdefault(key, deque(maxlen=_KEPT)).append(actual)

    def estimate(self, run: SubmittedRun) -> Estimate:
        """Median and 90 % quantile of the duration of a run."""
        middle, high = self._logs(run)
        p50 = max(0.001, math.expm1(middle))
        return Estimate(p50_s=p50, p90_s=max(p50, math.expm1(min(high + self._coverage.offset, 20.0))))

    def known(self, deployment: str) -> int:
        """How many durations of the deployment are remembered."""
        return len(self._past.get(("deployment", deployment), ()))

    def longest_usual_s(self, deployment: str, share: float = 0.999) -> float | None:
        """The `share` quantile of the deployment's durations, seconds; None below twenty runs.

        It is that of a lognormal distribution with the median and the median absolute deviation of the last durations,
        which one hung run cannot move, and at least the second longest of them.
        """
        past = self._past.get(("deployment", deployment), ())
        if len(past) < 20:
            return None
        logs = np.array(past)
        middle = float(np.median(logs))
        spread = max(0.1, 1.4826 * float(np.median(np.abs(logs - middle))))
        z = _normal_quantile(share)
        return max(float(np.expm1(np.sort(logs)[-2])), math.expm1(min(middle + z * spread, 20.0)))

    def _logs(self, run: SubmittedRun) -> tuple[float, float]:
        """Median and 90 % quantile of log(1 + seconds), without the offset."""
        keys = self._keys(run)
        for key in keys[:-1]:
            past = self._past.get(key, ())
            if len(past) >= _ENOUGH:
                return _quantiles(past)
        if run.expected_s == run.expected_s and run.expected_s > 0:
            middle = math.log1p(run.expected_s)
            return middle, middle + _GUESS_SPREAD
        for key in keys:
            past = self._past.get(key, ())
            if past:
                return _quantiles(past)
        return math.log1p(_FIRST_GUESS.p50_s), math.log1p(_FIRST_GUESS.p90_s)


def _quantiles(logs: Iterable[float]) -> tuple[float, float]:
    ordered = sorted(logs)
    last = len(ordered) - 1

    def at(share: float) -> float:
        place = share * last
        low = int(place)
        return ordered[low] + (place - low) * (ordered[min(low + 1, last)] - ordered[low])

    return at(0.5), at(0.9)


def _normal_quantile(share: float) -> float:
    """Quantile of the standard normal distribution, by bisection on erf; error below 1e-9."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if 0.5 * (1.0 + math.erf(middle / math.sqrt(2.0))) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def learn_durations(runs: pd.DataFrame) -> DurationQuantiles:
    """Duration quantiles learned from all ended runs of a table, in the order in which they ended."""
    quantiles = DurationQuantiles()
    ended = runs[settled(runs)].sort_values("ended_s", kind="stable")
    for run, seconds in zip(submitted_runs(ended), duration_s(ended).tolist(), strict=True):
        quantiles.learn(run, seconds)
    return quantiles
