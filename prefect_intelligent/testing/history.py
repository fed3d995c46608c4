"""A history store that lasts as long as the process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prefect_intelligent.errors import StoreError
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.local.record_versions import upcast, version_of
from prefect_intelligent.steering.kill_switch import set_switch


class InMemoryHistory:
    """Implements `HistoryStore`. Records go through JSON, so what a real store could not keep fails here too."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, float, str, int]] = []
        self._count = 0
        self.broken = False
        """While True every call raises `StoreError`."""

    def append(self, kind: str, pool: str, at_s: float, record: Mapping[str, Any]) -> int:
        """Keep one record and return its number, from 1."""
        self._check()
        try:
            text = json.dumps(dict(record), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"record of kind {kind!r} is not JSON: {error}") from error
        self._rows.append((kind, pool, at_s, text, version_of(kind)))
        self._count += 1
        return self._count

    def latest(self, kind: str, pool: str) -> Mapping[str, Any] | None:
        """The newest record of that kind for the pool."""
        found = self.records(kind, pool)
        return found[-1] if found else None

    def records(
        self, kind: str, pool: str | None = None, since_s: float | None = None, *, last: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Records of that kind in the order in which they were written; with `last`, only so many of the newest."""
        self._check()
        rows = [
            row
            for row in self._rows
            if row[0] == kind and pool in (None, row[1]) and (since_s is None or row[2] >= since_s)
        ]
        return read_each(kind, rows[-last:] if last else rows, lambda row: upcast(kind, row[4], json.loads(row[3])))

    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind that are older than `before_s`; returns how many."""
        self._check()
        kept = [row for row in self._rows if row[0] != kind or row[2] >= before_s]
        gone, self._rows = len(self._rows) - len(kept), kept
        return gone

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the history store was told to be broken")


def switched_on(*pools: str) -> InMemoryHistory:
    """A history of pools that an operator has switched on."""
    history = InMemoryHistory()
    for pool in pools:
        set_switch(history, pool, "on", 0.0, "operator")
    return history
