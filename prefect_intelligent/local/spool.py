"""The spool: an append-only folder of records, written by hooks in microseconds and emptied by a shipper later.

Standard library only, because it is imported into flow processes. One line of JSON per record::

    {"id": "<event id>", "at_s": 1763898000.0, "kind": "flow_run", "version": 1, "record": {...}}

The folder holds one *active* file that all writers share, and closed *segments*. A writer opens the active file to
append, takes a shared lock, and writes its line with one `write`; a writer that finds the file full takes the exclusive
lock and renames it to a segment. So a record is either whole in the folder or its `append` never returned: a process
killed in the middle of a write leaves at most one torn line, which readers skip and count. A writer that cannot get the
lock in time (a stopped process holds it) writes a segment of its own.

Records survive the death of a process. They survive a power cut only as far as the operating system had flushed them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.local.record_versions import UNREADABLE, leave_out, upcast, version_of

_ACTIVE = "active"
_CLOSED, _TAKEN, _DROPPED = ".jsonl", ".taken", ".dropped"
_LOSSES = "losses.log"
_PATIENCE_S = 0.02  # how long a writer tries for the lock before it writes a segment of its own
_SEAL_PATIENCE_S = 1.0
_LAST_S = 2.5e11  # later than this there are no dates


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of the spool.

    Attributes:
        id: Identifies the event: two entries with the same id are the same event, reported twice.
        at_s: When it happened, Unix seconds.
        kind: Kind of the record, e.g. "flow_run", "decision", "quality".
        record: Its data, JSON-ready.
        version: Which version of its kind the data is in.
    """

    id: str
    at_s: float
    kind: str
    record: Mapping[str, Any]
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Records that were dropped because the spool had reached its size.

    Attributes:
        records: How many, ever.
        last_s: When last, Unix seconds; None if never.
    """

    records: int
    last_s: float | None


def default_folder() -> Path:
    """`spool` in `PREFECT_INTELLIGENT_DATA_DIR` or in its default, `prefect-intelligent` in Prefect's home.

    The same folder as `Settings.spool_dir`, without the cost of reading the settings; a `data_dir` that is only in
    a settings file is not found here.
    """
    chosen = os.environ.get("PREFECT_INTELLIGENT_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser() / "spool"
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "prefect-intelligent" / "spool"


def append(kind: str, record: Mapping[str, Any], *, event_id: str | None = None) -> str:
    """Append to the default spool; see `Spool.append`."""
    return Spool().append(kind, record, event_id=event_id)


class Spool:
    """A spool folder; any number of objects, threads and processes may use one folder at the same time.

    Args:
        folder: Created by the first append. None is `default_folder()`.
        segment_bytes: Size at which the active file is closed.
        max_bytes: Space the closed segments may take; beyond it the oldest are dropped and counted (`losses`).
        max_record_bytes: Longest line accepted.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        segment_bytes: int = 1 << 20,
        max_bytes: int = 256 << 20,
        max_record_bytes: int = 256 << 10,
    ) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.segment_bytes, self.max_bytes, self.max_record_bytes = segment_bytes, max_bytes, max_record_bytes
        self._active = self.folder / _ACTIVE

    def append(
        self,
        kind: str,
        record: Mapping[str, Any],
        *,
        event_id: str | None = None,
        at_s: float | None = None,
        version: int | None = None,
    ) -> str:
        """Write one record and return its event id.

        Args:
            kind: What the record is.
            record: Anything JSON can hold; numbers that are not finite are refused.
            event_id: Where the same event may be reported twice, an id that follows from the event itself (run id and
                state); by default a random one.
            at_s: When it happened; now by default.
            version: Which version of its kind the record is in; the present one by default.

        Raises:
            InvalidInputError: The record cannot be written as JSON or is too long.
            StoreError: The folder cannot be written.
        """
        event = event_id or os.urandom(16).hex()
        try:
            line = {
                "id": event,
                "at_s": time.time() if at_s is None else at_s,
                "kind": kind,
                "version": version or version_of(kind),
                "record": record,
            }
            text = json.dumps(line, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InvalidInputError(
                f"spool record {kind}", type(record).__name__, f"must be plain JSON: {exc}"
            ) from exc
        # The leading newline ends a torn line that a killed writer may have left.
        content = f"\n{text}\n".encode()
        if len(content) > self.max_record_bytes:
            raise InvalidInputError(
                f"spool record {kind}", f"{len(content)} bytes", f"at most {self.max_record_bytes} bytes are kept"
            )
        try:
            size = self._write(content)
            if size >= self.segment_bytes:
                self._rotate(patience_s=0.0)
        except OSError as exc:
            raise StoreError(
                f"spool {self.folder}: cannot write ({exc}); check the folder and the space on disk"
            ) from exc
        return event

    def seal(self) -> bool:
        """Close the active file unless it is empty, so that its records can be read; False if a writer locks it."""
        return self._rotate(patience_s=_SEAL_PATIENCE_S)

    def segments(self) -> tuple[Path, ...]:
        """The closed segments, oldest first, with those that a reader has taken and not yet removed."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(p for p in self.folder.iterdir() if p.suffix in (_CLOSED, _TAKEN)))

    def take(self, segment: Path) -> Path | None:
        """Claim a segment for reading, so that it can no longer be dropped; None if it has gone."""
        if segment.suffix == _TAKEN:
            return segment if segment.exists() else None
        taken = segment.with_suffix(_TAKEN)
        try:
            segment.rename(taken)
        except FileNotFoundError:
            return None
        return taken

    def read(self, segment: Path) -> tuple[tuple[Entry, ...], int]:
        """The entries of a segment in the order they were written, and how many lines could not be read.

        Records of older versions come in the present form of their kind.
        """
        entries: list[Entry] = []
        torn = 0
        for line in segment.read_bytes().splitlines():
            if not line.strip():
                continue
            try:
                entries.append(_read(line))
            except UNREADABLE as error:
                leave_out("spool", f"{segment.name}: {line.decode(errors='replace')}", error)
                torn += 1
        return tuple(entries), torn

    def remove(self, segment: Path) -> None:
        """Delete a segment whose records are safe elsewhere."""
        segment.unlink(missing_ok=True)

    def losses(self) -> Losses:
        """The records dropped so far, in this folder."""
        try:
            lines = (self.folder / _LOSSES).read_text().splitlines()
        except FileNotFoundError:
            return Losses(records=0, last_s=None)
        pairs = [line.split() for line in lines if line.strip()]
        return Losses(records=sum(int(n) for n, _ in pairs), last_s=float(pairs[-1][1]) if pairs else None)

    def count(self) -> int:
        """How many records wait here; nothing is touched."""
        found = 0
        for path in (*self.segments(), self._active):
            with contextlib.suppress(FileNotFoundError):  # there is none, or a reader has just taken it
                found += len(self.read(path)[0])
        return found

    def size_bytes(self) -> int:
        """Size of the records that have not been removed yet, bytes."""
        paths = [*self.segments(), self._active]
        return sum(path.stat().st_size for path in paths if path.exists())

    def _write(self, line: bytes) -> int:
        """Append one line to the active file (or to a segment of its own) and return the size of that file."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fd = os.open(self._active, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                continue
            try:
                if _lock(fd, fcntl.LOCK_SH):
                    status = os.fstat(fd)
                    # Rotated between open and lock: the file is a segment now and must not grow any more.
                    if _is_at(self._active, status):
                        _write_all(fd, line)
                        return status.st_size + len(line)
                elif time.monotonic() > deadline:
                    break
                else:
                    time.sleep(0.0005)
            finally:
                os.close(fd)
        own = self._new_segment()
        draft = own.with_suffix(".draft")
        draft.write_bytes(line)
        draft.rename(own)
        return 0

    def _rotate(self, *, patience_s: float) -> bool:
        """Rename the active file to a closed segment; False if the lock was not free in time."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fd = os.open(self._active, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return True
            try:
                if _lock(fd, fcntl.LOCK_EX):
                    status = os.fstat(fd)
                    if status.st_size and _is_at(self._active, status):
                        self._active.rename(self._new_segment())
                        break
                    return True
                if time.monotonic() >= deadline:
                    return False
            finally:
                os.close(fd)
            time.sleep(0.0003)
        self._keep_within_bounds()
        return True

    def _new_segment(self) -> Path:
        """A path that sorts after all others, even if the clock has been set back."""
        names = [p.name.split("-", 1)[0] for p in self.segments()]
        last = max((int(name) for name in names if name.isdigit()), default=0)
        stamp = max(time.time_ns(), last + 1)
        return self.folder / f"{stamp:020d}-{os.getpid()}-{os.urandom(4).hex()}{_CLOSED}"

    def _keep_within_bounds(self) -> None:
        """Drop the oldest closed segments until the rest fits, and log how many records they held."""
        closed = []
        for path in self.segments():
            if path.suffix == _CLOSED:
                with contextlib.suppress(FileNotFoundError):  # a reader may take it at any moment
                    closed.append((path, path.stat().st_size))
        excess = sum(size for _, size in closed) - self.max_bytes
        for path, size in closed:
            if excess <= 0:
                return
            dropped = path.with_suffix(_DROPPED)
            with contextlib.suppress(FileNotFoundError):  # another process was faster, or a reader has taken it
                path.rename(dropped)
                entries, _ = self.read(dropped)
                with (self.folder / _LOSSES).open("a") as log:
                    log.write(f"{len(entries)} {time.time():.3f}\n")
                dropped.unlink()
            excess -= size


def _read(line: bytes) -> Entry:
    found = json.loads(line)
    kind, version, at_s = str(found["kind"]), int(found.get("version", 1)), float(found["at_s"])
    if not 0 <= at_s <= _LAST_S:
        raise ValueError(f"at_s is {at_s}")
    return Entry(
        id=str(found["id"]),
        at_s=at_s,
        kind=kind,
        record=dict(upcast(kind, version, found["record"])),
        version=max(version, version_of(kind)),
    )


def _lock(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except FileNotFoundError:
        return False


def _write_all(fd: int, data: bytes) -> None:
    """Write with one call; a short write (disk nearly full) leaves a torn line, and the line is written again."""
    for _ in range(3):
        if os.write(fd, data) == len(data):
            return
    raise OSError("short write: the disk is full")
