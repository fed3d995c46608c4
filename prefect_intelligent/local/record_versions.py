"""Versions of what is kept as JSON: records of the history, lines of a spool, events of the outbox.

Whatever is kept has a kind and the version of that kind; what was kept without one, before version 0.2 of the package,
is of version 1. `upcast` comes first when it is read, so that all other code knows the present form alone.

To change what a kind means, add a function to the end of its tuple in `UPCASTERS`; it makes the present version of the
one before. A new field, or one that is no longer written, needs none: readers ignore fields they do not know and have
defaults for those that are missing. If older programs would read the new form wrongly, add a revision to
`prefect_intelligent.history.adapters.migrations` too, so that they refuse the database.

Standard library only, because it is imported into flow processes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

Record = Mapping[str, Any]

UNREADABLE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a record raises that is not what its kind and version say."""

_LOG = logging.getLogger(__name__)
_MOST: Final = 10_000  # records remembered of each kind
_left_out: dict[str, set[int]] = defaultdict(set)


def _move_pull_step(value: Any) -> Any:
    """Deployments in the changes of pipelines name the pull step by the path that it has since version 0.2."""
    before, after = "prefect_intelligent.adapters.pull.use_version", "prefect_intelligent.pull_step.use_version"
    if isinstance(value, Mapping):
        return {after if name == before else name: _move_pull_step(item) for name, item in value.items()}
    return [_move_pull_step(item) for item in value] if isinstance(value, list) else value


UPCASTERS: Final[dict[str, tuple[Callable[[Record], Record], ...]]] = {"pipeline-intent": (_move_pull_step,)}
"""Kind to the functions that make version 2 of version 1, version 3 of version 2, and so on."""


def version_of(kind: str) -> int:
    """The version in which records of a kind are written."""
    return 1 + len(UPCASTERS.get(kind, ()))


def upcast(kind: str, version: int, record: Record) -> Record:
    """The record in the present form of its kind; one that is newer than we know is left as it is.

    Raises:
        Exception: One of `UNREADABLE`.
    """
    for step in UPCASTERS.get(kind, ())[max(0, version - 1) :]:
        record = step(record)
    return record


def leave_out(kind: str, record: object, error: Exception) -> None:
    """Note that a record cannot be read and is passed over; each is named in the log once and counted once."""
    text = str(record)
    known = _left_out[kind]
    if hash(text) in known or len(known) >= _MOST:
        return
    known.add(hash(text))
    _LOG.warning("a record of kind %r cannot be read and is left out (%r): %.300s", kind, error, text)


def left_out() -> dict[str, int]:
    """How many records this process has passed over, by kind."""
    return {kind: len(known) for kind, known in _left_out.items()}
