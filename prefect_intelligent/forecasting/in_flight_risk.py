"""Failure probability of a run that has started, from its elapsed time and its missing heartbeats."""

from __future__ import annotations

import math
from typing import Final

from prefect_intelligent.domain import Estimate
from prefect_intelligent.domain.heartbeats import TOLERATED, Heartbeats
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.forecasting.forecaster import ForecastReason

HANG_PROBABILITY: Final = 1e-3
"""Prior probability that a run never ends by itself; it dominates when the run has outlived all usual durations."""

_ODDS_PER_BEAT: Final = 3.0  # factor on the odds of failure for each further missing heartbeat
_MIN_SIGMA: Final = 0.1


def survival_probability(elapsed_s: float, estimate: Estimate) -> float:
    """Probability that a run takes longer than `elapsed_s`, for lognormal durations."""
    if elapsed_s <= 0:
        return 1.0
    sigma = max(_MIN_SIGMA, estimate.sigma)
    return 0.5 * math.erfc((math.log(elapsed_s) - math.log(max(1e-3, estimate.p50_s))) / (sigma * math.sqrt(2.0)))


def failure_probability_now(
    prior: float,
    elapsed_s: float,
    completed: Estimate,
    failed: Estimate | None = None,
    heartbeats: Heartbeats | None = None,
    at_s: float = 0.0,
) -> tuple[float, tuple[ForecastReason, ...]]:
    """Probability that a run fails, given that it has not ended yet, and the reasons of the change.

    Bayes' rule over three outcomes: the run completes, fails in the usual way, or hangs. The likelihood of each is the
    share of its runs that take longer than the elapsed time. Missing heartbeats beyond three multiply the odds.

    Args:
        prior: Failure probability before it started.
        elapsed_s: Seconds since it started; negative (clock skew) counts as 0.
        completed: Duration of runs that complete.
        failed: Duration of runs that fail; None if too few have failed, and then that of completed ones is used.
        heartbeats: Of the run; None if it sends none.
        at_s: The present, Unix seconds; only needed with heartbeats.
    """
    prior = min(max(prior, 0.0), 1.0 - HANG_PROBABILITY)
    elapsed_s = max(0.0, elapsed_s)
    completes = (1.0 - prior) * survival_probability(elapsed_s, completed)
    fails = prior * survival_probability(elapsed_s, failed or completed)
    now = (fails + HANG_PROBABILITY) / (fails + completes + HANG_PROBABILITY)
    reasons = []
    if abs(now - prior) >= 0.005:
        times = elapsed_s / max(completed.p90_s, 1e-9)
        what = f"at work for {describe_span(elapsed_s)}, {times:.1f} times what nine runs in ten need"
        if failed is not None and now < prior:
            what = f"at work for {describe_span(elapsed_s)}, failures usually come after {describe_span(failed.p50_s)}"
        reasons.append(ForecastReason(what=what, points=now - prior))
    if heartbeats is not None and heartbeats.silent(at_s):
        missed = (heartbeats.missed(at_s) or 0.0) - TOLERATED
        odds = now / max(1e-12, 1.0 - now) * _ODDS_PER_BEAT ** min(missed, 20.0)
        without_silence, now = now, odds / (1.0 + odds)
        if now - without_silence >= 0.005:
            what = f"no sign of life for {describe_span(at_s - heartbeats.last_s)}"
            reasons.append(ForecastReason(what=what, points=now - without_silence))
    return now, tuple(sorted(reasons, key=lambda reason: -abs(reason.points)))
