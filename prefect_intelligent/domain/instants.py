"""Instants: Unix seconds inside, ISO 8601 text and datetimes at the edges; the ends of the calendar are no error."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final

FIRST_S: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
"""The first instant that can be written."""

LAST_S: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The last one."""


_MARGIN_S: Final = 3 * 86400.0


def unix_s(text: str) -> float:
    """Unix seconds of an ISO 8601 instant; one without an offset is read in the machine's zone.

    Raises:
        ValueError: The text is not an ISO 8601 instant.
    """
    return datetime.fromisoformat(text).timestamp()


def optional_unix_s(text: str | None) -> float | None:
    """`unix_s` of an instant that may be missing."""
    return None if text is None else unix_s(text)


def utc(at_s: float) -> datetime:
    """Unix seconds as a datetime in UTC; what lies beyond the calendar becomes its first or last instant."""
    return datetime.fromtimestamp(min(max(at_s, FIRST_S), LAST_S), UTC)


def in_zone(at_s: float, zone: tzinfo | None = None) -> datetime:
    """Unix seconds as a datetime in a zone (None is the machine's), kept three days off the ends of the calendar."""
    return datetime.fromtimestamp(min(max(at_s, FIRST_S + _MARGIN_S), LAST_S - _MARGIN_S), zone)


def iso(at_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC; see `utc`."""
    return utc(at_s).isoformat()
