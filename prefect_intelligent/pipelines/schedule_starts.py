"""Starts of schedules as Prefect computes them, with what it makes of changes of the clocks.

Prefect's own classes (`prefect.server.schemas.schedules`) take seconds to import, and walk through every occurrence
since the begin of a rule. This module follows their contract; a conformance test and a Hypothesis test hold it to them.
Where Prefect has two implementations, before and from Python 3.13 on, that of the running Python is followed; and that
of the installed Prefect, since 3.9 treats the changes of the clocks anew.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from heapq import merge
from importlib.metadata import version
from itertools import islice, takewhile
from typing import Any, Final
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped, unused-ignore]
from dateutil import rrule as recurrence

from prefect_intelligent.domain.instants import in_zone
from prefect_intelligent.errors import InvalidInputError

MOST_STARTS: Final = 20_000
"""Largest number of starts of one schedule within a span."""

_PENDULUM: Final = sys.version_info < (3, 13)
_SINCE_3_9: Final = tuple(map(int, version("prefect").split(".")[:2])) >= (3, 9)
_MOST_STEPS: Final = 20_000
"""Starts of an interval of days that are walked through one by one, some 55 years of daily ones."""
_FIRST: Final = datetime(2020, 1, 1)
"""Where Prefect begins a rule without DTSTART."""
_STEP_S: Final = {recurrence.HOURLY: 3600, recurrence.MINUTELY: 60, recurrence.SECONDLY: 1}
_MARGIN: Final = timedelta(hours=3)
"""More than clocks are ever set back."""
_FILTERS: Final = (
    "bymonth",
    "bymonthday",
    "byyearday",
    "byeaster",
    "byweekno",
    "byweekday",
    "byhour",
    "byminute",
    "bysecond",
)


@lru_cache(maxsize=4096)
def cron_starts(line: str, zone: str, start_s: float, end_s: float, day_or: bool = True) -> Sequence[float]:
    """Return starts of a cron line from `start_s` up to `end_s`, Unix seconds, ascending; at most `MOST_STARTS`.

    Args:
        line: Five or six fields, or a name such as "@daily".
        zone: IANA time zone.
        start_s: Start of the span.
        end_s: End of the span, excluded.
        day_or: Whether day of the month and day of the week are alternatives; else both must hold.

    Raises:
        InvalidInputError: It is not a cron line.
    """
    if not croniter.is_valid(line):
        raise InvalidInputError("cron schedule", line, "expected five cron fields such as '0 2 * * *'")
    here = ZoneInfo(zone)
    begin = in_zone(math.ceil(start_s), here).replace(tzinfo=None) - timedelta(seconds=1)
    walker = croniter(line, begin, day_or=day_or)

    def instants() -> Iterator[float]:
        while True:
            try:
                yield _instant(walker.get_next(datetime), here, skipped_is_later=_SINCE_3_9 or not _PENDULUM)
            except (CroniterBadDateError, OverflowError):  # there is no further date within fifty years
                return

    return _distinct(instants(), end_s)


@lru_cache(maxsize=4096)
def interval_starts(every_s: float, anchor_s: float, zone: str, start_s: float, end_s: float) -> Sequence[float]:
    """Return starts of an interval from `start_s` up to `end_s`, Unix seconds, ascending; at most `MOST_STARTS`.

    From one start to the next, whole days are days of the calendar, so that the hour stays what it is; the way from the
    anchor to the span is measured in seconds, and since Prefect 3.9 in days too where the interval is whole days.

    Args:
        every_s: Seconds between two starts, above 0.
        anchor_s: One start.
        zone: IANA time zone.
        start_s: Start of the span.
        end_s: End of the span, excluded.
    """
    here = ZoneInfo(zone)
    days, rest_s = divmod(every_s, 86_400.0)

    def following(at_s: float) -> float:
        if not days:
            return at_s + every_s
        wall = in_zone(at_s, here).replace(tzinfo=None) + timedelta(days=days, seconds=rest_s if _PENDULUM else 0.0)
        return _instant(wall, here, skipped_is_later=True, repeated_is_later=_PENDULUM) + (0.0 if _PENDULUM else rest_s)

    def instants() -> Iterator[float]:
        steps = int((start_s - anchor_s) / every_s)
        by_days = _SINCE_3_9 and days and not rest_s and zone != "UTC" and 0 < steps <= _MOST_STEPS
        at_s = anchor_s if by_days else anchor_s + steps * every_s
        while at_s < start_s:
            at_s = following(at_s)
        while True:
            yield at_s
            at_s = following(at_s)

    return _distinct(instants(), end_s)


@lru_cache(maxsize=4096)
def rule_starts(rule: str, zone: str, start_s: float, end_s: float) -> Sequence[float]:
    """Return starts of a recurrence rule from `start_s` up to `end_s`, Unix seconds, ascending; at most `MOST_STARTS`.

    Args:
        rule: Rule or set of rules (RFC 5545); times in it are those of clocks in `zone`, whatever zone they name.
        zone: IANA time zone.
        start_s: Start of the span.
        end_s: End of the span, excluded.

    Raises:
        InvalidInputError: It is not a recurrence rule.
    """
    try:
        found: Any = recurrence.rrulestr(rule, dtstart=_FIRST)
    except (ValueError, TypeError) as error:
        raise InvalidInputError("rrule schedule", rule, f"is not a recurrence rule: {error}") from error
    here = ZoneInfo(zone)
    after = in_zone(start_s, here).replace(tzinfo=None) - _MARGIN
    single = isinstance(found, recurrence.rrule)
    wanted = [found] if single else found._rrule
    left_out = [] if single else found._exrule
    walls = merge(*(_walls(each, after) for each in wanted), [] if single else sorted(map(_plain, found._rdate)))
    skipped = {_plain(each) for each in ([] if single else found._exdate)}
    excluded = merge(*(_walls(each, after) for each in left_out))
    passed: list[datetime] = []  # of what is left out, up to the present wall time

    def instants() -> Iterator[float]:
        for wall in walls:
            while not passed or passed[-1] < wall:
                following = next(excluded, None)
                if following is None:
                    break
                passed[:] = [following]
            if wall in skipped or wall in passed:
                continue
            at_s = _instant(wall, here)
            if at_s >= start_s:
                yield at_s

    return _distinct(instants(), end_s)


def _walls(rule: Any, after: datetime) -> Iterator[datetime]:
    """Wall times of a rule in order, from shortly before `after` on where the rule lets us skip what came before."""
    until = rule._until
    plain = rule.replace(dtstart=_plain(rule._dtstart), until=None if until is None else _plain(until))
    return iter(_advanced(plain, after))


def _advanced(rule: Any, after: datetime) -> Any:
    """The rule begun later, at the same phase; the rule itself if what it counts would change."""
    step_s = _STEP_S.get(rule._freq)
    if step_s is None or rule._dtstart >= after or rule._original_rule.get("bysetpos"):
        return rule
    steps = int((after - rule._dtstart).total_seconds() // (step_s * rule._interval))
    begin = rule._dtstart + timedelta(seconds=steps * step_s * rule._interval)
    if rule._count is None:
        return rule.replace(dtstart=begin)
    if any(rule._original_rule.get(name) is not None for name in _FILTERS):
        return rule
    left = max(rule._count - steps, 0)
    return rule.replace(dtstart=begin, count=left)


def _plain(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


def _instant(
    wall: datetime, zone: ZoneInfo, *, skipped_is_later: bool = False, repeated_is_later: bool = False
) -> float:
    """Unix seconds of a wall time.

    Args:
        wall: Without a zone.
        zone: The zone.
        skipped_is_later: What becomes of a time that clocks skip in spring: shifted forwards, else backwards.
        repeated_is_later: Which one a time that clocks show twice in autumn is: the second, else the first.
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, behind = first.utcoffset(), second.utcoffset()
    if before == behind:
        chosen = first
    elif (before or timedelta()) < (behind or timedelta()):  # skipped
        chosen = first if skipped_is_later else second
    else:
        chosen = second if repeated_is_later else first
    return chosen.astimezone(UTC).timestamp()


def _distinct(instants: Iterator[float], end_s: float) -> tuple[float, ...]:
    """In order and each once; a schedule may run backwards for a moment where clocks are changed."""
    found = islice(takewhile(lambda at_s: at_s < end_s, instants), MOST_STARTS)
    return tuple(sorted(set(found)))
