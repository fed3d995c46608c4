"""Trends and lasting changes of level in a daily series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

Daily = Sequence[Mapping[str, float | None]]
"""One row a day with `day_s` and figures; None where nothing is known."""

_MIN_DAYS: Final = 7
_SIGNIFICANT: Final = 1.96  # two-sided 5 % level of the standard normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendChange:
    """A lasting change of the level of a daily series.

    Attributes:
        series: Name of the series.
        at_s: First day of the new level.
        before, after: Medians of the two levels.
    """

    series: str
    at_s: float
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A significant trend of a daily series.

    Attributes:
        series: Name of the series.
        per_day: Median slope, in units of the series per day.
        relative_per_day: The slope as a share of the median; None if the median is 0.
        days: Number of days with a value.
    """

    series: str
    per_day: float
    relative_per_day: float | None
    days: int


def find_trend(daily: Daily, series: str) -> Trend | None:
    """The trend of a series; None if it is not significant at the 5 % level or has fewer than seven days.

    Theil-Sen slope (the median over all pairs of days), tested by the Mann-Kendall statistic with ties and the normal
    approximation; both are robust to single outliers.
    """
    days, values = _known(daily, series)
    n = len(values)
    if n < _MIN_DAYS:
        return None
    first, second = np.triu_indices(n, 1)
    rises = values[second] - values[first]
    score = float(np.sign(rises).sum())
    ties = np.unique(values, return_counts=True)[1].astype(float)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18.0
    if variance <= 0 or abs(score) - 1 <= _SIGNIFICANT * variance**0.5:
        return None
    slope = float(np.median(rises / (days[second] - days[first]))) * 86400.0
    level = float(np.median(values))
    return Trend(series=series, per_day=slope, relative_per_day=slope / level if level else None, days=n)


def _known(daily: Daily, series: str) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    """Days and values of a series, without the days on which it is unknown."""
    rows = [(row["day_s"], row[series]) for row in daily if row[series] is not None]
    return np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows], dtype=float)


def find_changes(daily: Daily, series: str, *, least: int = 5, strength: float = 6.0) -> tuple[TrendChange, ...]:
    """Lasting changes of the level of a daily series, in order of time.

    Binary segmentation: a segment is split where t (difference of means over the robust spread of the day-to-day
    differences) is largest, while t exceeds `strength`, with at least `least` days on either side. The medians must
    differ by two such spreads too, so that single outliers are no change.
    """
    days, values = _known(daily, series)
    if len(values) < 2 * least:
        return ()
    steps = np.diff(values)
    noise = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2.0)
    noise = max(noise, 0.02 * float(np.abs(np.median(values))), 1e-9)
    found: list[TrendChange] = []

    def split(start: int, end: int) -> None:
        if end - start < 2 * least:
            return
        part = values[start:end]
        best, at = 0.0, -1
        for index in range(least, len(part) - least + 1):
            left, right = part[:index], part[index:]
            size = np.sqrt(len(left) * len(right) / len(part))
            t = abs(float(right.mean() - left.mean())) / noise * size
            if t > best:
                best, at = t, index
        level = abs(float(np.median(part[at:]) - np.median(part[:at]))) if at > 0 else 0.0
        if best > strength and level > 2.0 * noise:
            found.append(
                TrendChange(
                    series=series,
                    at_s=float(days[start + at]),
                    before=float(np.median(part[:at])),
                    after=float(np.median(part[at:])),
                )
            )
            split(start, start + at)
            split(start + at, end)

    split(0, len(values))
    return tuple(sorted(found, key=lambda change: change.at_s))
