"""Spans of time as text: read, written exactly, and told to people in about two digits."""

from __future__ import annotations

import re
from typing import Final

from prefect_intelligent.errors import InvalidInputError

SHORTEST_S: Final = 0.001
LONGEST_S: Final = 36_525 * 86400.0
"""Spans that people state are from a millisecond, to which they are written, to a century."""

_UNIT_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])\s*")


def parse_span(text: str, *, what: str = "span") -> float:
    """Seconds of a span such as "90s", "45m", "1h30m" or "2d".

    Raises:
        InvalidInputError: The text is not a span, or not one from a millisecond to a century.
    """
    cleaned = text.strip()
    end, total = 0, 0.0
    while (match := _SPAN.match(cleaned, end)) is not None:
        total += float(match[1]) * _UNIT_S[match[2]]
        end = match.end()
    if end != len(cleaned) or not SHORTEST_S <= total <= LONGEST_S:
        raise InvalidInputError(what, text, "expected a span such as '90s', '45m', '1h30m' or '2d', up to a century")
    return total


def format_span(seconds: float) -> str:
    """The shortest text that `parse_span` reads back as `seconds` (to the millisecond)."""
    parts, rest = [], round(seconds, 3)
    for unit in ("d", "h", "m"):
        size = _UNIT_S[unit]
        if rest >= size:
            parts.append(f"{int(rest // size)}{unit}")
            rest = round(rest % size, 3)
    if rest or not parts:
        parts.append(f"{rest:g}s")
    return "".join(parts)


def describe_span(seconds: float) -> str:
    """A span for people, in the largest unit of which there are two or more: "90 s", "5 min", "2.5 h", "12 d".

    Below 0 it is "0 s".
    """
    for unit in ("d", "h", "min"):
        count = seconds / _UNIT_S[unit]
        if count >= 2:
            return f"{count:.1f}".removesuffix(".0") + f" {unit}" if count < 9.95 else f"{count:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
