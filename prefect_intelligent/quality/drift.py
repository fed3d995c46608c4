"""Data that passes its checks and yet is unlike itself: measured values against a robust baseline of their own past."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.quality.model import Outcome, Verification

WEEK_S = 7 * 86400.0
_MIN_POINTS = 8  # fewer say nothing about what is usual
_LIMIT = 5.0  # robust standard deviations
_HALF_LIFE = 10.0  # results


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a value usually is.

    Attributes:
        centre: Expected value.
        scale: Robust standard deviation around it, above 0.
        seasonal: Whether it was taken from the same hour of the week.
    """

    centre: float
    scale: float
    seasonal: bool = False

    def distance(self, value: float) -> float:
        """How far a value is from the centre, in robust standard deviations, signed."""
        return (value - self.centre) / self.scale


def baseline(at_s: Sequence[float], values: Sequence[float], now_s: float) -> Baseline | None:
    """The usual value at `now_s`, from the past; None if there are fewer than 8 results.

    The centre is an exponentially weighted mean of the values clipped to median +- 3 scale, so that one outlier does
    not move it. If the past has at least three results from the same hour of the week and those agree better with each
    other than all do, they are the baseline (weekly season).

    Args:
        at_s: Instants, ascending.
        values: One value for each.
        now_s: The instant that is judged.
    """
    times, past = np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)
    if len(past) < _MIN_POINTS:
        return None
    everything = _robust(past)
    phase = np.abs((times - now_s + WEEK_S / 2) % WEEK_S - WEEK_S / 2)
    same = past[phase <= 3600.0]
    if len(same) >= 3:
        season = _robust(same)
        if season.scale < 0.5 * everything.scale:
            return Baseline(centre=season.centre, scale=season.scale, seasonal=True)
    return everything


def _robust(past: npt.NDArray[np.float64]) -> Baseline:
    median = float(np.median(past))
    scale = 1.4826 * float(np.median(np.abs(past - median)))
    # Values that never moved (a count that is always 0) still have a resolution.
    scale = max(scale, 0.02 * abs(median), 1e-9)
    weights = 0.5 ** (np.arange(len(past))[::-1] / _HALF_LIFE)
    clipped = np.clip(past, median - 3 * scale, median + 3 * scale)
    return Baseline(centre=float(np.average(clipped, weights=weights)), scale=scale)


def find_drift(verification: Verification, records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each value that passes and is far from its baseline.

    Args:
        verification: The newest.
        records: Earlier verifications of the dataset, as written by `Verification.to_record`, oldest first.
    """
    past: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in _values(record["checks"], record.get("rows_tested")):
            past.setdefault(name, []).append((float(record["started_s"]), value))
    record = verification.to_record()
    passing = {c.id for c in verification.checks if c.outcome in (Outcome.PASSED, Outcome.WARNED)} | {"rows"}
    found = []
    for name, value in _values(record["checks"], record["rows_tested"]):
        if name not in passing or name not in past:
            continue
        at_s, values = zip(*past[name], strict=True)
        usual = baseline(at_s, values, verification.started_s)
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
