"""Running statistics of the runs of one key: a deployment, a queue, a host, a kind of failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

KEY_FEATURES: Final[Mapping[str, str]] = {
    "finished": "runs finished",
    "failure_rate": "share of failures",
    "failure_recent": "recent failures",
    "failure_trend": "recent failures",
    "last_failed": "recent failures",
    "before_last_failed": "recent failures",
    "failed_in_a_row": "recent failures",
    "since_finish": "time since the last run",
    "since_success": "time since the last success",
    "log_duration": "usual duration",
    "log_duration_recent": "recent durations",
    "log_duration_spread": "spread of durations",
    "last_duration": "recent durations",
    "before_last_duration": "recent durations",
    "over_estimate": "duration against the estimate",
    "failed_duration": "duration of failures",
    "succeeded_duration": "duration of successes",
    "since_submit": "rhythm of submissions",
    "submitted": "runs submitted",
    "in_flight": "runs under way",
    "running": "runs under way",
    "used_share": "share of the estimate used",
    "submit_gap": "rhythm of submissions",
}
"""Name of each feature of a key to its wording in a reason."""

_FAST, _SLOW = 0.3, 0.08  # weights of the newest value
_PRIOR_RATE, _PRIOR_RUNS = 0.3, 1.0


def _ewma(old: float, new: float, weight: float) -> float:
    """Exponentially weighted moving average; the first value is its start."""
    return new if old != old else old + weight * (new - old)


class KeyStatistics:
    """Counts, rates and moving averages; NaN until something is known. Durations are log(1 + seconds)."""

    __slots__ = (
        "before_last_duration", "before_last_failed", "failed", "failed_duration", "failed_in_a_row",
        "failure_recent", "failure_trend", "finished", "finished_at", "in_flight", "last_duration", "last_failed",
        "log_duration", "log_duration_recent", "over_estimate", "running", "submit_gap", "submitted",
        "submitted_at", "succeeded_at", "succeeded_duration", "used_share", "variance",
    )  # fmt: skip

    def __init__(self) -> None:
        nan = math.nan
        self.finished = self.failed = self.submitted = self.in_flight = self.running = self.failed_in_a_row = 0
        self.variance = 0.0
        self.failure_recent = self.failure_trend = self.last_failed = self.before_last_failed = nan
        self.finished_at = self.succeeded_at = self.submitted_at = self.submit_gap = nan
        self.log_duration = self.log_duration_recent = self.last_duration = self.before_last_duration = nan
        self.over_estimate = self.used_share = self.failed_duration = self.succeeded_duration = nan

    def features(self, at_s: float) -> tuple[float, ...]:
        """The features at an instant, in the order of `KEY_FEATURES`."""
        return (
            math.log1p(self.finished),
            (self.failed + _PRIOR_RATE * _PRIOR_RUNS) / (self.finished + _PRIOR_RUNS),
            self.failure_recent,
            self.failure_trend,
            self.last_failed,
            self.before_last_failed,
            self.failed_in_a_row,
            math.log1p(max(0.0, at_s - self.finished_at)) if self.finished else math.nan,
            math.log1p(max(0.0, at_s - self.succeeded_at)) if self.succeeded_at == self.succeeded_at else math.nan,
            self.log_duration,
            self.log_duration_recent,
            math.sqrt(self.variance),
            self.last_duration,
            self.before_last_duration,
            self.over_estimate,
            self.failed_duration,
            self.succeeded_duration,
            math.log1p(max(0.0, at_s - self.submitted_at)) if self.submitted else math.nan,
            math.log1p(self.submitted),
            self.in_flight,
            self.running,
            self.used_share,
            self.submit_gap,
        )

    def submit(self, at_s: float) -> None:
        """A run was submitted."""
        if self.submitted:
            self.submit_gap = _ewma(self.submit_gap, math.log1p(max(0.0, at_s - self.submitted_at)), _FAST)
        self.submitted_at = at_s
        self.submitted += 1
        self.in_flight += 1

    def finish(self, at_s: float, duration_s: float, expected_s: float, failed: bool) -> None:
        """A run ended after `duration_s`; `expected_s` is its author's estimate, NaN without."""
        log_duration = math.log1p(duration_s)
        self.finished += 1
        self.failed += failed
        self.failure_recent = _ewma(self.failure_recent, failed, _FAST)
        self.failure_trend = _ewma(self.failure_trend, failed, _SLOW)
        self.before_last_failed, self.last_failed = self.last_failed, float(failed)
        self.failed_in_a_row = self.failed_in_a_row + 1 if failed else 0
        self.finished_at = at_s
        self.log_duration = _ewma(self.log_duration, log_duration, 0.1)
        self.log_duration_recent = _ewma(self.log_duration_recent, log_duration, 0.4)
        self.variance = 0.8 * self.variance + 0.2 * (log_duration - self.log_duration) ** 2
        self.before_last_duration, self.last_duration = self.last_duration, log_duration
        if expected_s == expected_s:
            self.over_estimate = _ewma(self.over_estimate, log_duration - math.log1p(expected_s), _FAST)
            self.used_share = _ewma(self.used_share, min(1.0, duration_s / expected_s), _FAST)
        if failed:
            self.failed_duration = _ewma(self.failed_duration, log_duration, _FAST)
        else:
            self.succeeded_at = at_s
            self.succeeded_duration = _ewma(self.succeeded_duration, log_duration, _FAST)
