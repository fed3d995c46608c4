"""Fit arrivals: a schedule of the server, an unknown fixed interval, bursts, or a Poisson process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.census import Array
from simulations.arrivals import DAY_S, HOUR_S, Arrivals, Bursts, Cron, Interval, Poisson, RRule

ENOUGH: Final = 20
"""Runs below which only a rate is fitted."""

_TOLERANCE_S: Final = 1.5
_CHI2_1_PERCENT: Final = 41.64  # 23 degrees of freedom
_ONE_BURST: Final = 0.01  # share of the observed time; all runs within less are one burst
_SPLIT: Final = 30.0  # least ratio of gaps between bursts to gaps inside
_NORMAL_1_PERCENT: Final = 2.58


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One arrival process of a deployment.

    Attributes:
        arrivals: The fitted process.
        label: What it is, in words.
        runs: Number of runs that it explains.
        note: What is doubtful about it; empty if nothing is.
    """

    arrivals: Arrivals
    label: str
    runs: int
    note: str = ""


def fit_arrivals(
    at_s: Array,
    schedules: Sequence[Mapping[str, Any]],
    *,
    start_s: float,
    end_s: float,
    origin_s: float,
) -> list[Stream]:
    """The arrival processes of a deployment, the one with most runs first.

    Args:
        at_s: When each run was scheduled, Unix seconds.
        schedules: The deployment's schedules as Prefect has them.
        start_s: Beginning of the observed time, Unix seconds.
        end_s: Its end.
        origin_s: First instant of the scenario to be written; intervals are counted from its day.
    """
    left = np.sort(at_s)
    found: list[Stream] = []
    for schedule in schedules:
        arrivals = _scheduled(schedule, origin_s)
        if arrivals is None:
            continue
        hit, share, per_tick = _hits(left, arrivals, schedule, start_s, end_s)
        if not hit.any() or share < 0.2:
            continue
        note = f"only {share:.0%} of its schedule's times had a run" if share < 0.9 else ""
        arrivals = replace(arrivals, runs=max(1, round(per_tick)))  # type: ignore[type-var]
        found.append(Stream(arrivals=arrivals, label="schedule", runs=int(hit.sum()), note=note))
        left = left[~hit]
    if len(left) > max(2, 0.03 * len(at_s)) or not found:
        found.append(_unscheduled(left, start_s, end_s, origin_s))
    return sorted(found, key=lambda each: -each.runs)


def _scheduled(schedule: Mapping[str, Any], origin_s: float) -> Arrivals | None:
    """A schedule of Prefect as an arrival process; None if it cannot be one."""
    try:
        if "cron" in schedule:
            return Cron(cron=str(schedule["cron"]), timezone=str(schedule.get("timezone") or "UTC"))
        if "rrule" in schedule:
            return RRule(rrule=str(schedule["rrule"]))
        if "interval" in schedule:
            every_s = float(schedule["interval"])
            return Interval(every_s=every_s, offset_s=_offset_s(_anchor_s(schedule), every_s, origin_s))
    except (InvalidInputError, ValueError, TypeError):
        return None
    return None


def _anchor_s(schedule: Mapping[str, Any]) -> float:
    anchor = schedule.get("anchor_date")
    return unix_s(str(anchor)) if anchor else 0.0


def _offset_s(anchor_s: float, every_s: float, origin_s: float) -> float:
    """From the start of the day of `origin_s` to the first firing after it."""
    return round((anchor_s - (origin_s - origin_s % DAY_S)) % every_s, 3)


def _hits(
    at_s: Array, arrivals: Arrivals, schedule: Mapping[str, Any], start_s: float, end_s: float
) -> tuple[npt.NDArray[np.bool_], float, float]:
    """Which runs lie on a tick, the share of ticks with a run, and the mean runs of such a tick."""
    if isinstance(arrivals, Interval):
        first = start_s + (_anchor_s(schedule) - start_s) % arrivals.every_s
        ticks = np.arange(first, end_s, arrivals.every_s)
    else:
        ticks = arrivals.times(start_s, end_s, np.random.default_rng(0))
    if len(ticks) == 0 or len(at_s) == 0:
        return np.zeros(len(at_s), dtype=bool), 0.0, 0.0
    place = np.clip(np.searchsorted(ticks, at_s), 1, len(ticks) - 1) if len(ticks) > 1 else np.zeros(len(at_s), int)
    nearest = np.where(np.abs(ticks[place] - at_s) < np.abs(ticks[place - 1] - at_s), place, place - 1)
    hit = np.abs(ticks[nearest] - at_s) <= _TOLERANCE_S
    reached = ticks <= end_s - 60.0  # the last ones may not have had time to be copied
    used = len(np.unique(nearest[hit]))
    return hit, used / max(1, int(reached.sum())), int(hit.sum()) / max(1, used)


def _unscheduled(at_s: Array, start_s: float, end_s: float, origin_s: float) -> Stream:
    regular = _regular(at_s, origin_s)
    if regular is not None:
        note = "regular, though the server knows no such schedule"
        return Stream(arrivals=regular, label="interval", runs=len(at_s), note=note)
    bursts = _bursts(at_s, end_s - start_s)
    if bursts is not None:
        count = bursts.per_day * (end_s - start_s) / DAY_S
        note = f"only {count:.0f} burst{'s' * (count > 1.5)} seen" if count < 10 else ""
        return Stream(arrivals=bursts, label="bursts", runs=len(at_s), note=note)
    poisson = _poisson(at_s, start_s, end_s)
    label = "ad hoc" if poisson.shape == "flat" else "ad hoc, daily shape"
    note = f"a rate from {len(at_s)} runs" if len(at_s) < ENOUGH else ""
    return Stream(arrivals=poisson, label=label, runs=len(at_s), note=note)


def _regular(at_s: Array, origin_s: float) -> Arrivals | None:
    """An interval, if nearly all gaps equal it, or a time of day on weekdays."""
    if len(at_s) < 4:
        return None
    ticks = at_s[np.append(True, np.diff(at_s) > _TOLERANCE_S)]
    if len(ticks) < 4:
        return None
    per_tick = max(1, round(len(at_s) / len(ticks)))
    gaps = np.diff(ticks)
    minute = np.unique(np.round(ticks % DAY_S / 60.0))
    on_weekday = (ticks // DAY_S + 3) % 7 < 5
    if len(minute) == 1 and on_weekday.all() and gaps.max() > 2.5 * DAY_S:  # a weekend was left out
        hour, rest = divmod(int(minute[0]), 60)
        return Cron(cron=f"{rest} {hour} * * 1-5", runs=per_tick, known=False)
    every_s = float(np.median(gaps))
    allowed = max(2.0 * _TOLERANCE_S, 0.005 * every_s)
    if np.mean(np.abs(gaps - every_s) <= allowed) >= 0.8:
        exact = float((ticks[-1] - ticks[0]) / max(1, round((ticks[-1] - ticks[0]) / every_s)))
        every_s = round(exact) if abs(exact - round(exact)) < 0.5 / len(gaps) + 0.01 else round(exact, 3)
        offset_s = _offset_s(float(np.round(ticks[0])), every_s, origin_s)
        return Interval(every_s=every_s, offset_s=offset_s, runs=per_tick, known=False)
    return None


def _bursts(at_s: Array, span_s: float) -> Bursts | None:
    """Bursts, if gaps fall into two clearly different groups (Otsu's threshold on their logarithms)."""
    width = float(at_s[-1] - at_s[0]) if len(at_s) else 0.0
    if len(at_s) >= 5 and width <= _ONE_BURST * span_s:
        spread_s = width * (len(at_s) + 1) / (len(at_s) - 1)
        return Bursts(per_day=_figures(DAY_S / span_s), size=float(len(at_s)), spread_s=round(spread_s, 1))
    if len(at_s) < ENOUGH:
        return None
    gaps = np.maximum(np.diff(at_s), 0.01)
    threshold = _otsu(np.log(gaps))
    inside = np.log(gaps) <= threshold
    if inside.all() or not inside.any() or np.median(gaps[~inside]) < _SPLIT * np.median(gaps[inside]):
        return None
    starts = np.append(True, ~inside)
    number = np.cumsum(starts) - 1
    sizes = np.bincount(number)
    if sizes.mean() < 2.0:
        return None
    last = np.append(np.flatnonzero(starts)[1:] - 1, len(at_s) - 1)
    widths = at_s[last] - at_s[np.flatnonzero(starts)]
    many = sizes > 1
    # The expected width of n uniform instants is (n - 1) / (n + 1) of the spread.
    spread_s = widths[many].sum() / ((sizes[many] - 1) / (sizes[many] + 1)).sum()
    per_day = len(sizes) / (span_s / DAY_S)
    return Bursts(per_day=_figures(per_day), size=_figures(sizes.mean()), spread_s=round(float(spread_s), 1))


def _otsu(values: Array) -> float:
    """The threshold that splits values into two groups with the least variance inside them. Otsu 1979."""
    ordered = np.sort(values)
    n = len(ordered)
    total, below = ordered.sum(), np.cumsum(ordered)[:-1]
    count = np.arange(1, n)
    between = (below / count - (total - below) / (n - count)) ** 2 * count * (n - count)
    return float(ordered[int(np.argmax(between))])


def _poisson(at_s: Array, start_s: float, end_s: float) -> Poisson:
    """A rate, with a daily shape and a weekend factor where they are significant at 1 %."""
    hours, weekday_h, weekend_h = _exposure(start_s, end_s)
    of_weekday = (at_s // DAY_S + 3) % 7 < 5
    on, off = int(of_weekday.sum()), int((~of_weekday).sum())
    weekend = 1.0
    if weekday_h >= 24 and weekend_h >= 24 and on >= ENOUGH:
        ratio = (off + 0.5) / weekend_h / (on / weekday_h)
        if abs(math.log(ratio)) > _NORMAL_1_PERCENT * math.sqrt(1.0 / (off + 0.5) + 1.0 / on):
            weekend = _figures((off / weekend_h) / (on / weekday_h))
    # Hours of weekends count by their relative rate.
    weight = weekday_h + weekend * weekend_h
    per_hour = len(at_s) / max(weight, 1e-9)
    shape: str | tuple[float, ...] = "flat"
    if len(at_s) >= 48 and hours.min() > 0:
        count = np.bincount((at_s % DAY_S // HOUR_S).astype(int), minlength=24)
        expected = len(at_s) * hours / hours.sum()
        if float(((count - expected) ** 2 / expected).sum()) > _CHI2_1_PERCENT:
            rate = (count + 1.0) / (hours + hours.sum() / len(at_s))  # smoothed by one run at the mean rate
            shape = tuple(_figures(value) for value in rate / rate.mean())
    return Poisson(per_hour=_figures(per_hour), shape=shape, weekend=weekend)


def _exposure(start_s: float, end_s: float) -> tuple[Array, float, float]:
    """Observed hours per hour of the day (24,), and in all on weekdays and at weekends."""
    edges = np.arange(start_s - start_s % HOUR_S, end_s + HOUR_S, HOUR_S)
    inside = np.minimum(edges[1:], end_s) - np.maximum(edges[:-1], start_s)
    span = np.maximum(inside, 0.0) / HOUR_S
    weekday = (edges[:-1] // DAY_S + 3) % 7 < 5
    hours: Array = np.bincount((edges[:-1] % DAY_S // HOUR_S).astype(int), weights=span, minlength=24).astype(float)
    return hours, float(span[weekday].sum()), float(span[~weekday].sum())


def _figures(value: float) -> float:
    """A value to four significant figures."""
    return float(f"{value:.4g}")
