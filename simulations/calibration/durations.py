"""Fit durations: constant, lognormal, lognormal with a Pareto tail, or as recorded."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np

from prefect_intelligent.policy.census import Array
from simulations.workload import Duration

ENOUGH: Final = 20
"""Runs below which a lognormal distribution is not questioned."""

_MOST_POINTS: Final = 1000
_SAMPLES: Final = 200
_CLOSE: Final = 0.05
_KS_1_PERCENT: Final = 1.04  # of D * sqrt(n) where the parameters come from the same data (Lilliefors 1967)
_TAILS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)
_SHAPES: Final = (1.1, 1.3, 1.5, 2.0, 2.5, 3.0)
_Z90: Final = 1.2815515655446004
_IQR: Final = 1.3489795003921634  # quartile distance of the standard normal distribution


def fit_duration(seconds: Array) -> tuple[Duration, str]:
    """The simplest distribution that the durations do not contradict, and its name.

    The body is fitted by median and quartiles, which a tail hardly moves; the tail by the least Kolmogorov-Smirnov
    distance on a grid of shares and exponents. Where neither fits, the recorded durations (at most 200 quantiles) are
    the distribution.

    Args:
        seconds: Observed durations, shape (n,), n >= 1.
    """
    seconds = np.sort(np.maximum(seconds, 0.1))
    median = float(np.median(seconds))
    if len(seconds) == 1 or seconds[-1] - seconds[0] <= max(0.01 * median, 1e-6):
        return Duration(median_s=round(median, 3), cv=0.0), "constant"
    low, high = np.quantile(np.log(seconds), [0.25, 0.75])
    sigma = float((high - low) / _IQR) if len(seconds) >= ENOUGH else float(np.std(np.log(seconds), ddof=1))
    body = _lognormal(median, max(sigma, 1e-3))
    if len(seconds) < ENOUGH or _good(seconds, body):
        return body, "lognormal"
    tailed = _with_tail(seconds, median, sigma)
    if _good(seconds, tailed):
        return tailed, "lognormal with tail"
    count = min(len(seconds), _SAMPLES)
    kept = np.quantile(seconds, (np.arange(count) + 0.5) / count)
    return Duration(samples=tuple(float(f"{value:.5g}") for value in kept)), "as recorded"


def ks_distance(seconds: Array, duration: Duration) -> float:
    """Kolmogorov-Smirnov distance between durations and a distribution, 0 to 1."""
    ordered = np.sort(seconds)
    if len(ordered) > _MOST_POINTS:
        ordered = np.quantile(ordered, (np.arange(_MOST_POINTS) + 0.5) / _MOST_POINTS)
    share = np.arange(len(ordered) + 1) / len(ordered)
    if duration.cv == 0 and not duration.samples:  # a constant: the share of durations within one per cent of it
        inside = np.abs(ordered - duration.median_s) <= 0.01 * duration.median_s + 0.01
        return float(1.0 - inside.mean())
    fitted = cdf(duration, ordered)
    return float(max(np.max(share[1:] - fitted), np.max(fitted - share[:-1])))


def cdf(duration: Duration, seconds: Array) -> Array:
    """Cumulative distribution function at `seconds`, of the same shape."""
    if duration.samples:
        recorded = np.sort(np.array(duration.samples))
        grid = (np.arange(len(recorded)) + 0.5) / len(recorded)
        return np.interp(seconds, recorded, grid, left=0.0, right=1.0)
    z = (np.log(np.maximum(seconds, 1e-9)) - math.log(duration.median_s)) / max(duration.sigma, 1e-9)
    normal = NormalDist()
    body = np.array([normal.cdf(float(value)) for value in z])
    if duration.tail == 0:
        return body
    start = duration.median_s * math.exp(_Z90 * duration.sigma)
    long = np.where(seconds > start, 1.0 - (start / np.maximum(seconds, start)) ** duration.tail_shape, 0.0)
    mixed: Array = (1.0 - duration.tail) * body + duration.tail * long
    return mixed


def quantile(duration: Duration, share: float) -> float:
    """Quantile in seconds, by bisection to a relative error below a thousandth."""
    if duration.samples:
        return float(np.quantile(np.array(duration.samples), share))
    low, high = 1e-3, duration.median_s * 1e5
    for _ in range(80):
        middle = math.sqrt(low * high)
        if float(cdf(duration, np.array([middle]))[0]) < share:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _lognormal(median: float, sigma: float, tail: float = 0.0, tail_shape: float = 1.5) -> Duration:
    cv = float(f"{math.sqrt(math.expm1(sigma**2)):.4g}")
    return Duration(median_s=float(f"{median:.5g}"), cv=cv, tail=tail, tail_shape=tail_shape)


def _with_tail(seconds: Array, median: float, sigma: float) -> Duration:
    candidates = [_lognormal(median, sigma, tail=tail, tail_shape=shape) for tail in _TAILS for shape in _SHAPES]
    return min(candidates, key=lambda each: ks_distance(seconds, each) + 0.05 * _tail_error(seconds, each))


def _good(seconds: Array, duration: Duration) -> bool:
    """Whether Kolmogorov-Smirnov distance and far quantiles are acceptable."""
    distance = ks_distance(seconds, duration)
    return distance <= max(_CLOSE, _KS_1_PERCENT / math.sqrt(len(seconds))) and _tail_error(seconds, duration) <= 1.0


def _tail_error(seconds: Array, duration: Duration) -> float:
    """Largest error of p95 (and of p99 with 200 or more) over the acceptable one: 15 % and 35 %."""
    bounds = {0.95: 0.15, 0.99: 0.35} if len(seconds) >= 200 else {0.95: 0.15 + 1.0 / math.sqrt(len(seconds))}
    return max(
        abs(math.log(quantile(duration, share) / float(np.quantile(seconds, share)))) / bound
        for share, bound in bounds.items()
    )
