"""Instants: Unix seconds inside, ISO 8601 text at the edges."""

from __future__ import annotations

from datetime import UTC, datetime


def unix_s(text: str) -> float:
    """Unix seconds of an ISO 8601 instant; one without an offset is read in the machine's zone.

    Raises:
        ValueError: The text is not an ISO 8601 instant.
    """
    return datetime.fromisoformat(text).timestamp()


def optional_unix_s(text: str | None) -> float | None:
    """`unix_s` of an instant that may be missing."""
    return None if text is None else unix_s(text)


def iso(at_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()
