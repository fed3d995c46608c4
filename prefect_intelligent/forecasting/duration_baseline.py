"""How long a run will take: quantiles from its own past, falling back from its kind to its deployment to its pool.

`DurationQuantiles` needs no training and is there from the first run; the trained quantiles are in `forecaster`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.calibration import Coverage
from prefect_intelligent.forecasting.point_in_time_features import Work, works
from prefect_intelligent.history.runs_frame import duration_s, settled

_KEPT = 50
_ENOUGH = 5
_FIRST_GUESS = Estimate(p50_s=60.0, p90_s=600.0)
_GUESS_SPREAD = math.log(4.0)  # p90 / p50 when only an author's word is known
Z90 = 1.2815515655446004


class DurationQuantiles:
    """Durations of the last runs of each kind of work, deployment and pool.

    The finest key with at least five runs answers; below that the author's estimate, then whatever is known. The 90 %
    quantile carries an offset that is learned from every outcome, so that it covers 90 % in the long run.
    """

    def __init__(self) -> None:
        self._past: dict[tuple[object, ...], deque[float]] = {}
        self._coverage = Coverage(0.9)

    @staticmethod
    def _keys(work: Work) -> tuple[tuple[object, ...], ...]:
        size = None if work.size != work.size else work.size
        expected = None if work.expected_s != work.expected_s else work.expected_s
        return (("work", work.deployment, size, expected), ("deployment", work.deployment), ("pool", work.pool))

    def learn(self, work: Work, duration_s: float) -> None:
        """A run has ended after `duration_s` seconds."""
        seen = math.log1p(max(0.0, duration_s))
        _, high = self._logs(work)
        self._coverage.learn(missed=seen > high + self._coverage.offset)
        for key in self._keys(work):
            self._past.setdefault(key, deque(maxlen=_KEPT)).append(seen)

    def estimate(self, work: Work) -> Estimate:
        """Median and 90 % quantile of the duration of a run."""
        middle, high = self._logs(work)
        p50 = max(0.001, math.expm1(middle))
        return Estimate(p50_s=p50, p90_s=max(p50, math.expm1(min(high + self._coverage.offset, 20.0))))

    def known(self, deployment: str) -> int:
        """How many durations of the deployment are remembered."""
        return len(self._past.get(("deployment", deployment), ()))

    def longest_usual_s(self, deployment: str, share: float = 0.999) -> float | None:
        """What only 1 in 1/(1 - share) runs of the deployment exceeds; None below twenty runs.

        A lognormal tail on the median and the median absolute deviation, which one hung run cannot stretch, and never
        less than the second longest run remembered.
        """
        past = self._past.get(("deployment", deployment), ())
        if len(past) < 20:
            return None
        logs = np.array(past)
        middle = float(np.median(logs))
        spread = max(0.1, 1.4826 * float(np.median(np.abs(logs - middle))))
        z = _normal_quantile(share)
        return max(float(np.expm1(np.sort(logs)[-2])), math.expm1(min(middle + z * spread, 20.0)))

    def _logs(self, work: Work) -> tuple[float, float]:
        """Median and 90 % quantile on the log scale, before the offset."""
        keys = self._keys(work)
        for key in keys[:2]:
            past = self._past.get(key, ())
            if len(past) >= _ENOUGH:
                return _quantiles(past)
        if work.expected_s == work.expected_s and work.expected_s > 0:
            middle = math.log1p(work.expected_s)
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
    """Of the standard normal distribution, by bisection on erf; good to 1e-9."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if 0.5 * (1.0 + math.erf(middle / math.sqrt(2.0))) < share:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def learn_book(runs: pd.DataFrame) -> DurationQuantiles:
    """A book that has seen all ended runs of the table, in the order in which they ended."""
    book = DurationQuantiles()
    seen = runs[settled(runs)].sort_values("ended_s", kind="stable")
    for work, seconds in zip(works(seen), duration_s(seen).tolist(), strict=True):
        book.learn(work, seconds)
    return book
