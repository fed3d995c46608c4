"""Values that a Prefect server can store and read again.

PostgreSQL keeps a number beyond 64 bits that Prefect's server can write but never read: from then on every answer that
holds it is an error 500, for everybody. So such a number, or a text that no JSON can carry, is never sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError

MOST: Final = 2**53
"""Largest whole number that every reader of JSON takes for itself."""


def check_json(value: Any, what: str) -> None:
    """Refuse what a server could not store and read again.

    Raises:
        InvalidInputError: A number is too large or is none, or a text has a character that cannot be stored.
    """
    if isinstance(value, str):
        if not _is_storable(value):
            raise InvalidInputError(what, value, "a text for Prefect may have no NUL and no half of a character")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_json(key, what)
            check_json(item, what)
    elif isinstance(value, list | tuple):
        for item in value:
            check_json(item, what)
    elif not _is_sane(value):
        raise InvalidInputError(what, value, f"a number for Prefect must be finite, and at most {MOST} either way")


def bounded(value: Any) -> Any:
    """The same value with numbers and characters that a server could not store replaced by text that says them."""
    if isinstance(value, str):
        return value if _is_storable(value) else value.encode("unicode_escape").decode()
    if isinstance(value, Mapping):
        return {bounded(key): bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bounded(item) for item in value]
    return value if _is_sane(value) else str(value)


def _is_sane(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return math.isfinite(value) and abs(value) <= MOST


def _is_storable(text: str) -> bool:
    return (text.isascii() and "\x00" not in text) or not any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in text)
