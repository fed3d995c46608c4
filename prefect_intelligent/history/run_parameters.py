"""What a run was asked to do, typed and bounded: of its parameters only what forecasts can use and nobody minds.

Numbers, booleans and short words are kept, of longer texts and of lists their length, of a date its age. No secret is:
it is recognised by the name of the parameter or by the shape of its value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

Value = float | bool | str
MOST_PARAMETERS: Final = 16
"""Parameters that are kept of a run, by the order of their names."""
LONGEST_WORD: Final = 24
"""Characters of a text that is kept as a word; of longer ones the length is."""

_LONGEST_NAME: Final = 60
_MOST_READ: Final = 64
_SECRET_NAME: Final = re.compile(
    r"pass(?!es|ed|age|enger|ive)|passwd|pwd|secret|token|credential|key|auth|cookie|session|signature|private|bearer"
    r"|(?<![a-z])(?:pin|otp)(?![a-z])|salt|cert|conn(?:ection)?_?str|dsn|login|ssn|iban|card|cvv|webhook",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[\w][\w .:/+\-]*")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_MIXED: Final = re.compile(r"[A-Za-z]+[0-9]+[A-Za-z]+|[0-9]+[A-Za-z]+[0-9]+|[a-z]+[A-Z0-9]+[a-z]+[A-Z0-9]+")
_SHORTEST_TOKEN: Final = 10
_ID: Final = re.compile(r"(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}|\d{9,}", re.IGNORECASE)


def bounded(parameters: Mapping[str, Any], at_s: float | None = None) -> dict[str, Value]:
    """What is kept of a run's parameters, by name.

    A number, a boolean and a short word are themselves; "len(name)" is the number of characters of a longer text, of
    items of a list or of entries of a deep mapping; "age(name)" is how many seconds before the run a date lies; the
    entries of a mapping are "name.entry". Values that are missing or not finite are left out, and so is what looks like
    a secret.

    Args:
        parameters: As Prefect has them.
        at_s: When the run is submitted, Unix seconds; without it there are no ages.
    """
    found: dict[str, Value] = {}
    for name, value in sorted(_flat(parameters), key=itemgetter(0)):
        if len(found) == MOST_PARAMETERS:
            break
        kept = None if len(name) > _LONGEST_NAME or is_secret_name(name) else _kept(name, value, at_s)
        if kept is not None:
            found[kept[0]] = kept[1]
    return found


def is_secret_name(name: str) -> bool:
    """Whether a parameter of that name probably holds a secret, in "snake_case" or in "camelCase"."""
    return _SECRET_NAME.search(name.replace("monkey", "").replace("keyboard", "")) is not None


def pack(parameters: Mapping[str, Value]) -> str | None:
    """As one line of JSON, the same for the same parameters; None for none."""
    return json.dumps(parameters, sort_keys=True, separators=(",", ":")) if parameters else None


def unpack(text: str | None) -> tuple[tuple[str, Value], ...]:
    """Name and value of each parameter of a line that `pack` wrote, by name; none of a line that is damaged."""
    if not isinstance(text, str) or not text:
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        return ()
    if not isinstance(found, dict):
        return ()
    kept = ((name, float(value) if type(value) is int else value) for name, value in sorted(found.items()))
    return tuple((name, value) for name, value in kept if isinstance(value, bool | float | str))


def _flat(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values, with the entries of a mapping as parameters of their own; so many of a huge one."""
    for number, (name, value) in enumerate(parameters.items()):
        if number == _MOST_READ:
            return
        if not isinstance(value, Mapping):
            yield str(name), value
        elif len(value) <= MOST_PARAMETERS:
            yield from ((f"{name}.{inner}", entry) for inner, entry in value.items())
        else:
            yield str(name), list(value)


def _kept(name: str, value: Any, at_s: float | None) -> tuple[str, Value] | None:
    if isinstance(value, bool):
        return name, value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return (name, number) if math.isfinite(number) else None
    if isinstance(value, list | tuple | Mapping):
        return f"len({name})", float(len(value))
    if not isinstance(value, str) or not value:
        return None
    if len(value) > _LONGEST_NAME:
        return f"len({name})", float(len(value))
    if _DATE.fullmatch(value):
        age_s = None if at_s is None else _age_s(value, at_s)
        return None if age_s is None else (f"age({name})", age_s)
    if len(value) > LONGEST_WORD:
        return f"len({name})", float(len(value))
    return (name, value) if _is_word(value) else None


def _is_word(text: str) -> bool:
    """Whether a short text is a word of the trade and neither a secret nor a number of a person or a thing."""
    if _WORD.fullmatch(text) is None or "://" in text:
        return False
    parts = re.split(r"[\s./:_+\-]", text)
    return not any(_ID.fullmatch(part) or (len(part) >= _SHORTEST_TOKEN and _MIXED.search(part)) for part in parts)


def _age_s(date: str, at_s: float) -> float | None:
    try:
        then = datetime.fromisoformat(date)
        return at_s - (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
