"""Records of the history as values: those that cannot be read are left out, and never end the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.local.record_versions import UNREADABLE, leave_out

_BACK: Final = 100
"""How many records are looked at for the newest that can be read."""

T = TypeVar("T")


def read_each(kind: str, records: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """What `read` makes of each record; where it raises one of `UNREADABLE` the record is left out.

    Args:
        kind: Of the records, for the log.
        records: As the history gives them, or parts of them.
        read: Makes a value of a record, or raises.
    """
    found: list[T] = []
    for record in records:
        try:
            found.append(read(record))
        except UNREADABLE as error:
            leave_out(kind, record, error)
    return found


def read_latest(history: HistoryStore, kind: str, pool: str, read: Callable[[Any], T]) -> T | None:
    """What `read` makes of the newest record that it can read, of the last hundred; None if there is none."""
    newest = history.latest(kind, pool)
    if newest is None:
        return None
    found = read_each(kind, [newest], read) or read_each(kind, history.records(kind, pool, last=_BACK), read)
    return found[-1] if found else None
