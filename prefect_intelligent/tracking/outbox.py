"""The shipper's ledger: every event once, with its place in its stream, until the tracking server has it.

A SQLite file (standard library). Segments of the spool are imported in one transaction, so an event is either still in
the spool or here; its id is the key, so an event that was reported twice, or imported twice after a crash, is here
once. The place in the stream is given at import and never changes: sending an event again sends the same thing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_intelligent.errors import StoreError
from prefect_intelligent.local.record_versions import UNREADABLE, leave_out, upcast, version_of
from prefect_intelligent.local.spool import Entry

_Row = tuple[str, float, str, int, str, str, int]
_WAITING, _SENT, _REFUSED = 0, 1, 2
_OPEN, _ARCHIVED, _PLANNED = 0, 1, 2
_COLUMNS = "id, at_s, kind, version, record, stream, place"
_SCHEMA = 1
"""Number of the tables' form, kept as `user_version` of the file; 0 had no `version` of an event's record."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, stream TEXT NOT NULL, "
    "place INTEGER NOT NULL, at_s REAL NOT NULL, kind TEXT NOT NULL, record TEXT, state INTEGER NOT NULL DEFAULT 0, "
    "archived INTEGER NOT NULL DEFAULT 0, why TEXT)",
    "CREATE INDEX IF NOT EXISTS waiting ON events (state, number)",
    "CREATE INDEX IF NOT EXISTS unarchived ON events (archived, state, stream, place)",
    "CREATE TABLE IF NOT EXISTS streams (stream TEXT PRIMARY KEY, next INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "ALTER TABLE events ADD COLUMN version INTEGER NOT NULL DEFAULT 1",
    f"PRAGMA user_version = {_SCHEMA}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """An event with its place in its stream.

    Attributes:
        entry: The event.
        stream: What it belongs to; a stream becomes one run of the tracking server.
        place: 1, 2, 3 ... within the stream, in the order of arrival.
    """

    entry: Entry
    stream: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """What is in the ledger.

    Attributes:
        waiting: Events still to be sent.
        sent: Events sent, as far as they are remembered.
        refused: Events the server will never take; their reasons are kept.
        lost: Events dropped because the ledger was full.
        torn: Lines of the spool that a killed writer left unfinished.
        unarchived: Events sent that are not in an archive file yet.
    """

    waiting: int
    sent: int
    refused: int
    lost: int
    torn: int
    unarchived: int


class Outbox:
    """The ledger in one file.

    Args:
        path: SQLite file, made if it is missing.
        max_waiting: Events that may wait; beyond it the oldest are dropped and counted.
        remember: Events sent whose ids are remembered, to recognise a repeated report.

    Raises:
        StoreError: The file cannot be used, or was written by a newer version of the package.
    """

    def __init__(self, path: Path, *, max_waiting: int = 1_000_000, remember: int = 200_000) -> None:
        self.path, self.max_waiting, self.remember = path, max_waiting, remember
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._upgrade()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, entries: Iterable[Entry], stream_of: Callable[[Entry], str], torn: int = 0) -> int:
        """Take events in, each with the next place of its stream; returns how many are new."""
        new = 0
        with self._transaction():
            for entry in entries:
                if self._db.execute("SELECT 1 FROM events WHERE id = ?", (entry.id,)).fetchone():
                    continue
                stream = stream_of(entry)
                row = self._db.execute(
                    "INSERT INTO streams VALUES (?, 2) ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next - 1",
                    (stream,),
                ).fetchone()
                self._db.execute(
                    "INSERT INTO events (id, stream, place, at_s, kind, version, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (entry.id, stream, row[0], entry.at_s, entry.kind, entry.version, json.dumps(dict(entry.record))),
                )
                new += 1
            self._count("torn", torn)
            self._bound()
        return new

    def waiting(self, limit: int = 1000) -> tuple[OutboxEvent, ...]:
        """The oldest events to send, of one stream, in order."""
        while True:
            with self._guarded():
                first = self._db.execute(
                    "SELECT stream FROM events WHERE state = ? ORDER BY number LIMIT 1", (_WAITING,)
                ).fetchone()
                if first is None:
                    return ()
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM events WHERE state = ? AND stream = ? ORDER BY place LIMIT ?",
                    (_WAITING, first[0], limit),
                ).fetchall()
            if found := self._parcels(rows):
                return found

    def of_stream(self, stream: str) -> tuple[OutboxEvent, ...]:
        """All that waits in one stream, in order."""
        with self._guarded():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM events WHERE state = ? AND stream = ? ORDER BY place", (_WAITING, stream)
            ).fetchall()
        return self._parcels(rows)

    def sent(self, parcels: Sequence[OutboxEvent]) -> None:
        """The server has these."""
        with self._transaction():
            marks = [(_SENT, p.entry.id) for p in parcels]
            self._db.executemany("UPDATE events SET state = ? WHERE id = ?", marks)

    def refused(self, parcel: OutboxEvent, why: str) -> None:
        """The server will never take this one."""
        self._refuse(parcel.entry.id, why)

    def unarchived(self, *, at_least: int, older_than_s: float) -> Iterator[tuple[OutboxEvent, ...]]:
        """Sent events for one archive file each: of one stream, enough of them or one that is old enough.

        What has been handed out and not been reported as `archived` is handed out again as it was, so that a file that
        was written before a crash is written again and not a second time under another name.
        """
        with self._transaction():
            streams = self._db.execute(
                "SELECT stream FROM events WHERE archived = ? AND state = ? GROUP BY stream "
                "HAVING count(*) >= ? OR min(at_s) < ?",
                (_OPEN, _SENT, at_least, older_than_s),
            ).fetchall()
            for (stream,) in streams:
                # A stream has one planned file at a time.
                self._db.execute(
                    "UPDATE events SET archived = ? WHERE number IN (SELECT number FROM events "
                    "WHERE archived = ? AND state = ? AND stream = ? ORDER BY place LIMIT 10000) "
                    "AND NOT EXISTS (SELECT 1 FROM events WHERE archived = ? AND stream = ?)",
                    (_PLANNED, _OPEN, _SENT, stream, _PLANNED, stream),
                )
        with self._guarded():
            planned = self._db.execute(
                "SELECT stream FROM events WHERE archived = ? GROUP BY stream ORDER BY min(number)", (_PLANNED,)
            ).fetchall()
        for (stream,) in planned:
            with self._guarded():
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM events WHERE archived = ? AND stream = ? ORDER BY place",
                    (_PLANNED, stream),
                ).fetchall()
            if found := self._parcels(rows):
                yield found

    def archived(self, parcels: Sequence[OutboxEvent]) -> None:
        """These are in an archive file: their data is forgotten here, their ids are not."""
        with self._transaction():
            self._db.executemany(
                "UPDATE events SET archived = ?, record = NULL WHERE id = ?",
                [(_ARCHIVED, p.entry.id) for p in parcels],
            )
            self._db.execute(
                "DELETE FROM events WHERE archived = ? AND number <= (SELECT max(number) FROM events) - ?",
                (_ARCHIVED, self.remember),
            )

    def status(self) -> OutboxStatus:
        """Counts."""
        with self._guarded():
            states = dict(self._db.execute("SELECT state, count(*) FROM events GROUP BY state").fetchall())
            counters = dict(self._db.execute("SELECT name, value FROM counters").fetchall())
            (open_,) = self._db.execute(
                "SELECT count(*) FROM events WHERE archived != ? AND state = ?", (_ARCHIVED, _SENT)
            ).fetchone()
        return OutboxStatus(
            waiting=states.get(_WAITING, 0),
            sent=states.get(_SENT, 0),
            refused=states.get(_REFUSED, 0),
            lost=counters.get("lost", 0),
            torn=counters.get("torn", 0),
            unarchived=open_,
        )

    def _upgrade(self) -> None:
        """Bring the tables to their present form, once, whoever opens the file at the same time."""
        if self._db.execute("PRAGMA user_version").fetchone()[0] == _SCHEMA:
            return
        with self._transaction():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA:
                raise StoreError(
                    f"outbox {self.path}: has schema {found}, and this version of prefect-intelligent knows none newer "
                    f"than {_SCHEMA}; install the version that wrote it, or move the file away"
                )
            for statement in _TABLES if found < _SCHEMA else ():
                self._db.execute(statement)

    def _parcels(self, rows: Iterable[_Row]) -> tuple[OutboxEvent, ...]:
        """The events in these rows; one that cannot be read is refused, so that it does not stop the others."""
        found = []
        for row in rows:
            try:
                found.append(_parcel(row))
            except UNREADABLE as error:
                leave_out(row[2], f"event {row[0]} of {self.path}", error)
                self._refuse(row[0], f"cannot be read: {error!r}")
        return tuple(found)

    def _refuse(self, event: str, why: str) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE events SET state = ?, why = ?, archived = ? WHERE id = ?", (_REFUSED, why[:500], _OPEN, event)
            )

    def _bound(self) -> None:
        (waiting,) = self._db.execute("SELECT count(*) FROM events WHERE state = ?", (_WAITING,)).fetchone()
        excess = waiting - self.max_waiting
        if excess > 0:
            self._db.execute(
                "DELETE FROM events WHERE number IN "
                "(SELECT number FROM events WHERE state = ? ORDER BY number LIMIT ?)",
                (_WAITING, excess),
            )
            self._count("lost", excess)

    def _count(self, name: str, more: int) -> None:
        if more:
            self._db.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, more),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(f"outbox {self.path}: {exc}") from exc


def _parcel(row: _Row) -> OutboxEvent:
    event, at_s, kind, version, record, stream, place = row
    data = dict(upcast(kind, version, json.loads(record)))
    version = max(version, version_of(kind))
    return OutboxEvent(
        entry=Entry(id=event, at_s=at_s, kind=kind, record=data, version=version), stream=stream, place=place
    )
