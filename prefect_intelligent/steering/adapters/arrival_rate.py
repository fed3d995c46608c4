"""Arrival rate per work queue, estimated from the runs seen at each observation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet


class ArrivalRateEstimator:
    """Exponentially weighted arrival rate per queue; runs that come and go between two observations are missed.

    Args:
        time_constant_s: The weight of an arrival falls to 1/e in this time, seconds.
        patience_s: No rate is given before so many seconds have been observed.
    """

    def __init__(self, time_constant_s: float = 1800.0, patience_s: float = 60.0) -> None:
        self._tau_s, self._patience_s = time_constant_s, patience_s
        self._weights: dict[str, float] = {}
        self._seen: AbstractSet[str] = frozenset()
        self._since_s = math.nan
        self._last_s = math.nan

    def observe(self, due: Mapping[str, str], now_s: float) -> None:
        """Take in all runs that are due by now or hold a slot: run id to queue name.

        Runs found by the first observation are a backlog and not arrivals; so are those found after a clock that went
        backwards.
        """
        if math.isnan(self._last_s) or now_s < self._last_s:
            self._since_s, self._weights = now_s, {}
        else:
            fade = math.exp(-(now_s - self._last_s) / self._tau_s)
            self._weights = {queue: weight * fade for queue, weight in self._weights.items()}
            for key in due.keys() - self._seen:
                self._weights[due[key]] = self._weights.get(due[key], 0.0) + 1.0
        self._seen, self._last_s = due.keys(), now_s

    def per_hour(self, queue: str) -> float | None:
        """Runs an hour, corrected for the short time observed so far; None before `patience_s`."""
        observed_s = self._last_s - self._since_s
        if not observed_s >= self._patience_s:
            return None
        return self._weights.get(queue, 0.0) / (self._tau_s * -math.expm1(-observed_s / self._tau_s)) * 3600.0
