"""When a run has to be finished: a span after its scheduled start, or at a wall-clock time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from prefect_intelligent.domain.instants import in_zone
from prefect_intelligent.domain.spans import LONGEST_S, SHORTEST_S, format_span, parse_span
from prefect_intelligent.errors import InvalidInputError, UnknownNameError

_CLOCK = re.compile(r"(?:by\s+|ready by\s+)?(\d{1,2}):(\d{2})\s+(\S+)")
_EXPECTED = "expected a span such as '45m' or '1h30m', or a clock time with its zone such as '07:00 Europe/Paris'"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeDeadline:
    """Due a fixed span after the scheduled start.

    Attributes:
        within_s: Seconds from the scheduled start to the due instant; a millisecond to a century.
    """

    within_s: float

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.within_s <= LONGEST_S:
            raise InvalidInputError("deadline", self.within_s, "a span must be above 0 seconds, and up to a century")

    def due_s(self, scheduled_s: float) -> float:
        """The due instant of a run scheduled at `scheduled_s`, both in Unix seconds."""
        return scheduled_s + self.within_s

    def __str__(self) -> str:
        return format_span(self.within_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDeadline:
    """Due at the first occurrence of a wall-clock time after the scheduled start.

    Daylight saving follows the zone: a time that the change in spring skips is the instant that clocks would show
    without the change (02:30 becomes 03:30), a time that the change in autumn repeats is its first occurrence.

    Attributes:
        at: Wall-clock time, to the minute.
        zone: IANA name, e.g. "Europe/Paris".
    """

    at: time
    zone: str

    def __post_init__(self) -> None:
        if self.zone not in available_timezones():
            raise UnknownNameError("time zone", self.zone, available_timezones(), example="Europe/Paris")

    def due_s(self, scheduled_s: float) -> float:
        """The due instant of a run scheduled at `scheduled_s`, both in Unix seconds."""
        zone = ZoneInfo(self.zone)
        start = in_zone(scheduled_s, zone)
        for days in (0, 1, 2):
            local = datetime.combine(start.date() + timedelta(days=days), self.at, tzinfo=zone)
            due = local.astimezone(UTC).timestamp()
            if due > scheduled_s:
                return due
        return scheduled_s + 86400.0  # at the end of the calendar

    def __str__(self) -> str:
        return f"{self.at:%H:%M} {self.zone}"


Deadline = RelativeDeadline | ClockDeadline


def parse_deadline(text: str) -> Deadline:
    """Read a deadline as people write it: "2h", or "07:00 Europe/Paris".

    Raises:
        InvalidInputError: The text is neither; `UnknownNameError` if the zone does not exist.
    """
    if (match := _CLOCK.fullmatch(text.strip())) is not None:
        hour, minute = int(match[1]), int(match[2])
        if hour > 23 or minute > 59:
            raise InvalidInputError("deadline", text, "hours go from 0 to 23 and minutes from 0 to 59")
        return ClockDeadline(at=time(hour, minute), zone=match[3])
    try:
        return RelativeDeadline(within_s=parse_span(text, what="deadline"))
    except InvalidInputError as error:
        raise InvalidInputError("deadline", text, _EXPECTED) from error
