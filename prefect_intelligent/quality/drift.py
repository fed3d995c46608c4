"""Drift of measured values: values that pass their checks but are far from a robust baseline of their own past."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.quality.model import CheckOutcome, Verification

WEEK_S = 7 * 86400.0
_MIN_POINTS = 8  # for a baseline
_LIMIT = 5.0  # robust standard deviations
_HALF_LIFE = 10.0  # results


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBaseline:
    """The usual value of a measurement.

    Attributes:
        centre: Expected value.
        scale: Robust standard deviation around it, above 0.
        seasonal: Whether it was taken from the same hour of the week.
    """

    centre: float
    scale: float
    seasonal: bool = False

    def distance(self, value: float) -> float:
        """Distance of a value from the centre, in robust standard deviations, signed."""
        return (value - self.centre) / self.scale


def value_baseline(at_s: Sequence[float], values: Sequence[float], now_s: float) -> ValueBaseline | None:
    """The usual value at `now_s`, from past values; None if there are fewer than 8.

    The centre is an exponentially weighted mean (half-life 10 values) of the values clipped to median ± 3 scales, so
    that one outlier hardly moves it; the scale is 1.4826 times the median absolute deviation. Weekly season: at least
    three values from the same hour of the week, with less than half the scale of all values, are the baseline instead.

    Args:
        at_s: Instants of the past values, ascending, Unix seconds.
        values: One value for each.
        now_s: Instant of the value to compare.
    """
    times, past = np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)
    if len(past) < _MIN_POINTS:
        return None
    overall = _robust(past)
    phase = np.abs((times - now_s + WEEK_S / 2) % WEEK_S - WEEK_S / 2)
    same_hour = past[phase <= 3600.0]
    if len(same_hour) >= 3:
        season = _robust(same_hour)
        if season.scale < 0.5 * overall.scale:
            return ValueBaseline(centre=season.centre, scale=season.scale, seasonal=True)
    return overall


def _robust(past: npt.NDArray[np.float64]) -> ValueBaseline:
    median = float(np.median(past))
    scale = 1.4826 * float(np.median(np.abs(past - median)))
    scale = max(scale, 0.02 * abs(median), 1e-9)  # constant values (a count that is always 0) have no deviation
    weights = 0.5 ** (np.arange(len(past))[::-1] / _HALF_LIFE)
    clipped = np.clip(past, median - 3 * scale, median + 3 * scale)
    return ValueBaseline(centre=float(np.average(clipped, weights=weights)), scale=scale)


def find_drift(verification: Verification, records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each value that passes its check and is more than 5 deviations from its baseline.

    Args:
        verification: The newest verification.
        records: Earlier verifications of the dataset, as written by `Verification.to_record`, oldest first.
    """
    past: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in _values(record["checks"], record.get("rows_tested")):
            past.setdefault(name, []).append((float(record["started_s"]), value))
    record = verification.to_record()
    passing = {c.id for c in verification.checks if c.outcome in (CheckOutcome.PASSED, CheckOutcome.WARNED)} | {"rows"}
    found = []
    for name, value in _values(record["checks"], record["rows_tested"]):
        if name not in passing or name not in past:
            continue
        at_s, values = zip(*past[name], strict=True)
        usual = value_baseline(at_s, values, verification.started_s)
        if usual is not None and abs(usual.distance(value)) > _LIMIT:
            when = " at this hour of the week" if usual.seasonal else ""
            found.append(
                f"{name} is {value:g}, usually {usual.centre:.4g}{when} ({usual.distance(value):+.1f} deviations)"
            )
    return tuple(found)


def _values(checks: Iterable[Mapping[str, Any]], rows: int | None) -> Iterable[tuple[str, float]]:
    for check in checks:
        value = check["value"]
        if value is not None and math.isfinite(value) and check["kind"] != "freshness":
            yield check["id"], float(value)
    if rows is not None:
        yield "rows", float(rows)
