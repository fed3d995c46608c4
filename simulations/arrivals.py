"""Arrival processes: schedules that Prefect knows in advance, and ad-hoc runs that it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
from croniter import croniter
from dateutil.rrule import rrulestr

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.census import Array

HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0
SHAPES: Final[dict[str, tuple[float, ...]]] = {
    "flat": (1.0,) * 24,
    "office": (0.1,) * 7 + (0.6, 1.6, 2.4, 2.4, 2.2, 1.6, 2.0, 2.2, 2.0, 1.6, 0.9, 0.5, 0.3, 0.2, 0.2, 0.1, 0.1),
    "night": (2.4, 2.6, 2.4, 2.0, 1.6, 1.0) + (0.3,) * 14 + (0.6, 1.2, 1.8, 2.2),
}
"""Relative rate per hour of the day (UTC)."""


class Arrivals(Protocol):
    """An arrival process of a deployment."""

    @property
    def known(self) -> bool:
        """Whether Prefect knows the times in advance."""
        ...

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """Unix seconds within [start_s, end_s), ascending; several may coincide."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Runs at a fixed interval.

    Attributes:
        every_s: The period.
        offset_s: The first firing after the start of the day, seconds.
        runs: Runs per firing.
    """

    every_s: float
    offset_s: float = 0.0
    runs: int = 1
    known: bool = True

    def __post_init__(self) -> None:
        if self.every_s <= 0 or self.runs < 1:
            raise InvalidInputError("interval", (self.every_s, self.runs), "needs a period above 0 and 1 run or more")

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """The firings, each repeated `runs` times."""
        origin = start_s - start_s % DAY_S + self.offset_s
        first = origin + np.ceil((start_s - origin) / self.every_s) * self.every_s
        return np.repeat(np.arange(first, end_s, self.every_s), self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A cron schedule as Prefect has it.

    Attributes:
        cron: Five fields.
        timezone: IANA name; daylight saving is followed.
        runs: Runs per firing.
    """

    cron: str
    timezone: str = "UTC"
    runs: int = 1
    known: bool = True

    def __post_init__(self) -> None:
        if not croniter.is_valid(self.cron):
            raise InvalidInputError("cron", self.cron, "expected five fields, e.g. '0 6 * * 1-5'")
        if self.timezone not in available_timezones():
            raise UnknownNameError("time zone", self.timezone, available_timezones())
        _check_runs(self.runs)

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """The firings, each repeated `runs` times."""
        start = datetime.fromtimestamp(start_s - 1.0, tz=ZoneInfo(self.timezone))
        ticks = croniter(self.cron, start)
        found: list[float] = []
        while (at_s := ticks.get_next(float)) < end_s:
            found.append(at_s)
        return np.repeat(np.array(found, dtype=float), self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RRule:
    """An iCalendar recurrence rule as Prefect has it.

    Attributes:
        rrule: E.g. "FREQ=HOURLY;INTERVAL=2"; starts with the day unless it says otherwise.
        runs: Runs per firing.
    """

    rrule: str
    runs: int = 1
    known: bool = True

    def __post_init__(self) -> None:
        try:
            rrulestr(self.rrule, dtstart=datetime(2026, 1, 1, tzinfo=UTC))
        except ValueError as error:
            raise InvalidInputError("rrule", self.rrule, f"is not a recurrence rule ({error})") from error
        _check_runs(self.runs)

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """The firings, each repeated `runs` times."""
        day = datetime.fromtimestamp(start_s - start_s % DAY_S, tz=UTC)
        rule = rrulestr(self.rrule, dtstart=day)
        start, end = (datetime.fromtimestamp(at_s, tz=UTC) for at_s in (start_s, end_s))
        found = [at.timestamp() for at in rule.between(start, end, inc=True) if at < end]
        return np.repeat(np.array(found, dtype=float), self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Ad-hoc runs with a daily and weekly shape.

    Attributes:
        per_hour: Mean rate over a weekday.
        shape: Name in `SHAPES`, or 24 relative rates.
        weekend: Rate on Saturdays and Sundays relative to weekdays.
    """

    per_hour: float
    shape: str | Sequence[float] = "flat"
    weekend: float = 1.0
    known: bool = False

    def __post_init__(self) -> None:
        if not self.per_hour >= 0:
            raise InvalidInputError("per_hour", self.per_hour, "must be a number, 0 or more")
        if isinstance(self.shape, str) and self.shape not in SHAPES:
            raise InvalidInputError("shape", self.shape, f"known: {', '.join(SHAPES)}, or 24 numbers")
        if not isinstance(self.shape, str) and len(self.shape) != 24:
            raise InvalidInputError("shape", self.shape, "needs 24 numbers, one per hour")

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """Thinned from a homogeneous process at the highest rate (Lewis & Shedler 1979)."""
        shape = np.array(SHAPES[self.shape] if isinstance(self.shape, str) else self.shape, dtype=float)
        shape = shape / shape.mean()
        most = self.per_hour * shape.max() * max(1.0, self.weekend)
        count = rng.poisson(most * (end_s - start_s) / HOUR_S)
        at_s = np.sort(rng.uniform(start_s, end_s, count))
        hour = (at_s % DAY_S // HOUR_S).astype(int)
        weekday = (at_s // DAY_S + 3) % 7 < 5  # 1970-01-01 was a Thursday
        rate = self.per_hour * shape[hour] * np.where(weekday, 1.0, self.weekend)
        kept: Array = at_s[rng.uniform(size=count) * most < rate]
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Ad-hoc runs that arrive in bursts.

    Attributes:
        per_day: Mean number of bursts per day.
        size: Mean runs per burst (geometric).
        spread_s: Seconds over which a burst is spread.
    """

    per_day: float
    size: float
    spread_s: float = 60.0
    known: bool = False

    def __post_init__(self) -> None:
        if not (self.per_day >= 0 and self.size >= 1 and self.spread_s >= 0):
            raise InvalidInputError("bursts", (self.per_day, self.size), "per_day >= 0, size >= 1, spread_s >= 0")

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """Burst instants are Poisson; their sizes geometric; runs uniform within the spread."""
        at_s = rng.uniform(start_s, end_s, rng.poisson(self.per_day * (end_s - start_s) / DAY_S))
        each = np.repeat(at_s, rng.geometric(1.0 / self.size, len(at_s)))
        return np.sort(np.minimum(each + rng.uniform(0.0, self.spread_s, len(each)), np.nextafter(end_s, 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Many runs at one instant.

    Attributes:
        at_s: Seconds after the start.
        runs: Number of runs.
    """

    at_s: float
    runs: int
    known: bool = False

    def __post_init__(self) -> None:
        if self.at_s < 0 or self.runs < 0:
            raise InvalidInputError("backfill", (self.at_s, self.runs), "needs at_s >= 0 and runs >= 0")

    def times(self, start_s: float, end_s: float, rng: np.random.Generator) -> Array:
        """The instant, once per run."""
        at_s = start_s + self.at_s
        return np.full(self.runs if at_s < end_s else 0, at_s)


def _check_runs(runs: int) -> None:
    if not runs >= 1:
        raise InvalidInputError("runs", runs, "must be 1 or more per firing")
