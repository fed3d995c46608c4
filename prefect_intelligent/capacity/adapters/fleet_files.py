"""The files by which a fleet and its workers know of each other; standard library only.

A fleet has a folder. Of each worker there are `NAME.lock`, which the worker locks for as long as it lives; `NAME.json`,
what the worker says of itself; and `NAME.drain`, which asks it to end. So a supervisor that is started anew finds the
workers of the one before it, and a worker that was killed is known to be dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_LOCK, _STATE, _DRAIN = ".lock", ".json", ".drain"
_PATIENCE_S: Final = 0.5


class FleetLock:
    """A lock that ends with the process that holds it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self) -> bool:
        """Take it; False if another process has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + _PATIENCE_S  # who looks whether it is taken holds it for a moment
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(fd)
                    return False
                time.sleep(0.01)
                continue
            self._fd = fd
            return True

    def release(self) -> None:
        """Give it up."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself; instants are Unix seconds.

    Attributes:
        slots: Runs that it carries at once.
        busy: Runs that it carries.
        draining: Whether it takes no new run.
        spawned_s: When it was ordered.
        ready_s: When it could take a run for the first time; None until then.
        idle_since_s: Since when it carries none; None while it does, or is not ready.
        pid: Its process.
    """

    slots: int
    busy: int = 0
    draining: bool = False
    spawned_s: float = 0.0
    ready_s: float | None = None
    idle_since_s: float | None = None
    pid: int = 0


class FleetFolder:
    """The folder of a fleet.

    Args:
        path: It is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lock(self, name: str) -> FleetLock:
        """The lock of a worker, or of the supervisor."""
        return FleetLock(self.path / f"{name}{_LOCK}")

    def alive(self) -> tuple[str, ...]:
        """Names of the workers that hold their lock."""
        names = (path.stem for path in sorted(self.path.glob(f"*{_STATE}")))
        return tuple(name for name in names if self._held(name))

    def report(self, name: str, report: WorkerReport) -> None:
        """Write what a worker says of itself."""
        path = self.path / f"{name}{_STATE}"
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({field: getattr(report, field) for field in report.__slots__}), encoding="utf-8")
        draft.replace(path)

    def read(self, name: str) -> WorkerReport | None:
        """What a worker says of itself; None if it has said nothing that can be read."""
        try:
            found: dict[str, Any] = json.loads((self.path / f"{name}{_STATE}").read_text(encoding="utf-8"))
            return WorkerReport(**{field: found[field] for field in WorkerReport.__slots__ if field in found})
        except (OSError, ValueError, TypeError):
            return None

    def ask_to_drain(self, name: str) -> None:
        """Ask a worker to end when its runs are over."""
        (self.path / f"{name}{_DRAIN}").touch()

    def ask_to_stay(self, name: str) -> None:
        """Take that back; a worker that has gone by then has gone."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / f"{name}{_DRAIN}").unlink()

    def is_asked_to_drain(self, name: str) -> bool:
        """Whether a worker is asked to end."""
        return (self.path / f"{name}{_DRAIN}").exists()

    def forget(self, name: str) -> None:
        """Remove what a worker that has ended has left; its lock file stays: two processes must not lock two files."""
        for suffix in (_STATE, _DRAIN):
            with contextlib.suppress(FileNotFoundError):
                (self.path / f"{name}{suffix}").unlink()

    def reports(self) -> Iterator[tuple[str, WorkerReport]]:
        """The workers that are alive, with what they say."""
        for name in self.alive():
            if (found := self.read(name)) is not None:
                yield name, found

    def _held(self, name: str) -> bool:
        path = self.path / f"{name}{_LOCK}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
