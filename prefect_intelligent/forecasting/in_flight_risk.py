"""How likely a run fails that is already at work: its elapsed time and its silence tell more with every minute."""

from __future__ import annotations

import math
from typing import Final

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.forecaster import Reason

HANGS: Final = 1e-3
"""Share of runs that never end by themselves; what keeps the odds honest where all usual durations are over."""

_BEAT_S: Final = 30.0
_LATE_BEATS: Final = 3.0
_PER_BEAT: Final = 3.0  # odds of trouble grow by this factor with every further heartbeat that does not come
_LEAST_SIGMA: Final = 0.1


def survives(elapsed_s: float, estimate: Estimate) -> float:
    """Chance that a run takes longer than `elapsed_s`, if durations are lognormal."""
    if elapsed_s <= 0:
        return 1.0
    sigma = max(_LEAST_SIGMA, estimate.sigma)
    return 0.5 * math.erfc((math.log(elapsed_s) - math.log(max(1e-3, estimate.p50_s))) / (sigma * math.sqrt(2.0)))


def failure_probability_now(
    before: float,
    elapsed_s: float,
    completed: Estimate,
    failed: Estimate | None = None,
    silent_s: float | None = None,
) -> tuple[float, tuple[Reason, ...]]:
    """Probability that a run fails, given that it has not ended yet, and what moved it.

    Bayes over three fates: it completes, fails in the usual way, or hangs. Each is weighed by the share of its runs
    that take longer than the time elapsed; silence beyond three heartbeats multiplies the odds.

    Args:
        before: Probability before it started.
        elapsed_s: Seconds at work; below 0 (a clock that runs behind) counts as 0.
        completed: How long runs take that complete.
        failed: How long runs take that fail; None if too few have, and then only hanging tells.
        silent_s: Seconds since the last sign of life; None if it gives none.
    """
    before = min(max(before, 0.0), 1.0 - HANGS)
    elapsed_s = max(0.0, elapsed_s)
    completes = (1.0 - before) * survives(elapsed_s, completed)
    fails = before * survives(elapsed_s, failed or completed)
    now = (fails + HANGS) / (fails + completes + HANGS)
    reasons = []
    if abs(now - before) >= 0.005:
        times = elapsed_s / max(completed.p90_s, 1e-9)
        what = f"at work for {_span(elapsed_s)}, {times:.1f} times what nine runs in ten need"
        if failed is not None and now < before:
            what = f"at work for {_span(elapsed_s)}, failures usually come after {_span(failed.p50_s)}"
        reasons.append(Reason(what=what, points=now - before))
    missed = 0.0 if silent_s is None else silent_s / _BEAT_S - _LATE_BEATS
    if missed > 0:
        odds = now / max(1e-12, 1.0 - now) * _PER_BEAT ** min(missed, 20.0)
        loud, now = now, odds / (1.0 + odds)
        if now - loud >= 0.005:
            reasons.append(Reason(what=f"no sign of life for {_span(silent_s or 0.0)}", points=now - loud))
    return now, tuple(sorted(reasons, key=lambda reason: -abs(reason.points)))


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
