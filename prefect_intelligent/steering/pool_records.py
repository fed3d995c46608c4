"""The records of one pool, of which those that must not be lost are kept on the Prefect server too.

The history is a file or a database that may be lost, or not be shared by all who steer a pool. So the switch and what
`control restore` goes back to are read from the server; the history has what was before there was anything on the
server, and a trail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.baseline import KIND as BASELINE
from prefect_intelligent.steering.dedicated_queues import KIND as ADOPTION
from prefect_intelligent.steering.kill_switch import KIND as SWITCH
from prefect_intelligent.steering.kill_switch import position_of
from prefect_intelligent.steering.ports import Notes

Record = Mapping[str, Any]
KEPT: Final[Mapping[str, str]] = {BASELINE: "restored", ADOPTION: "undone"}
"""Kinds that are kept on the server, and what the record says (`what`) after which those before it do not count."""


class PoolRecords:
    """Implements `HistoryStore`.

    What goes to the server goes there first: all records that still count.

    Args:
        history: Keeps everything.
        notes: Of the pool, on the server.
        pool: Name of the pool; records of others are the history's alone.
    """

    def __init__(self, history: HistoryStore, notes: Notes, pool: str) -> None:
        self._history, self._notes, self._pool = history, notes, pool

    def append(self, kind: str, pool: str, at_s: float, record: Record) -> int:
        """Store one record and return its number in the history.

        Raises:
            OrchestratorError: It could not be kept on the server, so it is not stored at all.
        """
        if pool == self._pool and kind == SWITCH:
            self._notes.write(kind, {**record, "at_s": at_s})
        elif pool == self._pool and kind in KEPT:
            left = _since_last(KEPT[kind], [*self.records(kind, pool), record])
            self._notes.write(kind, {"records": [dict(each) for each in left]})
        return self._history.append(kind, pool, at_s, record)

    def latest(self, kind: str, pool: str) -> Record | None:
        """The record of that kind for the pool that was written last."""
        if pool != self._pool or kind != SWITCH:
            return self._history.latest(kind, pool)
        found = self._notes.read(kind)
        if found is not None:
            return found
        # Before version 0.3 the switch was in the history. "On" there may be of another server, "off" is heeded.
        old = self._history.latest(kind, pool)
        return old if old is not None and position_of(old) == "off" else None

    def records(
        self, kind: str, pool: str | None = None, since_s: float | None = None, *, last: int | None = None
    ) -> Sequence[Record]:
        """Records of that kind in the order in which they were written; with `last`, only so many of the newest."""
        if pool == self._pool and kind in KEPT and since_s is None:
            found = (self._notes.read(kind) or {}).get("records")
            if isinstance(found, list):
                return found[-last:] if last else found
        return self._history.records(kind, pool, since_s, last=last)

    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind from the history that are older than `before_s`; returns how many."""
        return self._history.forget(kind, before_s)


def _since_last(end: str, records: Sequence[Record]) -> Sequence[Record]:
    """The records after the last one that says so."""
    ends = [number for number, record in enumerate(records, start=1) if record.get("what") == end]
    return records[ends[-1] :] if ends else records
