"""How often runs become due, from what is seen at each look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet


class ArrivalRateEstimator:
    """Arrival rate per queue, exponentially weighted; runs that come and go between two looks are not seen.

    Args:
        time_constant_s: Weight of an arrival falls to 1/e in this time.
        patience_s: No rate is given before it has watched for so long.
    """

    def __init__(self, time_constant_s: float = 1800.0, patience_s: float = 60.0) -> None:
        self._tau_s, self._patience_s = time_constant_s, patience_s
        self._weights: dict[str, float] = {}
        self._seen: AbstractSet[str] = frozenset()
        self._since_s = math.nan
        self._last_s = math.nan

    def look(self, due: Mapping[str, str], now_s: float) -> None:
        """Take note of all runs that are due by now or hold a slot, id to queue name.

        What the first look finds is a backlog, not arrivals; so is everything after a clock that went backwards.
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
        """Runs an hour, corrected for the short time watched so far; None before `patience_s`."""
        watched_s = self._last_s - self._since_s
        if not watched_s >= self._patience_s:
            return None
        return self._weights.get(queue, 0.0) / (self._tau_s * -math.expm1(-watched_s / self._tau_s)) * 3600.0
