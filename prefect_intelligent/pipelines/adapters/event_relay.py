"""Delivers what runs have to announce: in a controller for everybody on its machine, or in a hook if there is none."""

from __future__ import annotations

import contextvars
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError, PrefectIntelligentError
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import relay_key
from prefect_intelligent.local.record_versions import UNREADABLE, leave_out
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.pipelines.adapters.dataset_events import emit_dataset_events
from prefect_intelligent.pipelines.pending_events import KIND, letterbox, read_letter
from prefect_intelligent.prefect_client.api import PrefectApi

_LOOK_EVERY_S: Final = 0.25
_LIT_S: Final = 5.0  # how long hooks rely on an announcer that has just died
_RETRY_S: Final = 1.0
_TOO_OLD_S: Final = 7 * 86400.0  # Prefect forgets events after a week, and whether the batch was announced with them
_LOG = logging.getLogger(__name__)


def deliver(api: PrefectApi, box: Spool) -> int:
    """Announce everything in the box, unless another process is just doing so; returns how many letters it were.

    A letter that arrives while the other process is at it is delivered by that one, which looks again when it is done.

    Raises:
        OrchestratorUnavailableError: The server could not be told; what is left stays in the box.
        StoreError: The box cannot be read or written.
    """
    done = 0
    while box.size_bytes():
        with _alone(box) as alone:
            now = _empty(api, box) if alone else 0
        if not now:
            break
        done += now
    return done


def _empty(api: PrefectApi, box: Spool) -> int:
    """One round; the newest first, so that what an outage has left does not hold up what has just ended."""
    done = 0
    box.seal()
    for segment in reversed(box.segments()):
        taken = box.take(segment)
        if taken is None:
            continue
        left = list({entry.id: entry for entry in box.read(taken)[0]}.values())
        whole = len(left)
        try:
            while left:
                _announce(api, left[-1])
                left.pop()
                done += 1
        except OrchestratorUnavailableError:
            if len(left) < whole:  # so that the next round goes on where this one ended
                for entry in left:
                    box.append(entry.kind, entry.record, event_id=entry.id, at_s=entry.at_s, version=entry.version)
                box.remove(taken)
            raise
        box.remove(taken)  # killed before this line: announced again, which Prefect takes as the same
    return done


def announce_now(what: Spool | Mapping[str, Any], seconds: float) -> None:
    """Deliver a box, or a letter that could not be put into one, within so many seconds.

    Raises:
        OrchestratorUnavailableError: The server could not be told.
        StoreError: The box cannot be read or written.
    """
    api = PrefectApi(timeout_s=min(1.0, seconds))
    try:
        with api.within(seconds):
            if isinstance(what, Spool):
                deliver(api, what)
            else:
                _announce(api, Entry(id=what["flow_run"]["id"], at_s=time.time(), kind=KIND, record=what))
    finally:
        api.close()


def _announce(api: PrefectApi, entry: Entry) -> None:
    if time.time() - entry.at_s > _TOO_OLD_S:
        _LOG.warning("given up after a week: the announcement of flow run %s", entry.id)
        return
    try:
        letter = read_letter(entry.record)
    except UNREADABLE as error:
        leave_out(entry.kind, entry.record, error)
        return
    try:
        emit_dataset_events(
            api, letter["flow_run"], letter["outputs"], letter["batch_parameter"], fresh=letter["fresh"]
        )
    except (ConflictError, *UNREADABLE) as error:  # trying again would not help
        _LOG.warning("Prefect refuses the announcement of flow run %s: %s", entry.id, error)


@contextmanager
def _alone(box: Spool) -> Iterator[bool]:
    """Whether this process may empty the box."""
    fd = os.open(box.folder / "delivery.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


class EventRelay:
    """While entered, a thread that delivers the letters of all flows on this machine.

    It has a connection of its own, so that no decision waits for it, and lights the beacon that tells hooks so.

    Args:
        url: The server.
        folder: The data folder.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._api, self._box = PrefectApi(url, timeout_s=2.0, attempts=1), letterbox(url, folder)
        self._beacon, self._folder = relay_key(url), folder
        self._ended = threading.Event()
        context = contextvars.copy_context()  # Prefect's settings may live there
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="announcer", daemon=True)

    def __enter__(self) -> EventRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5.0)
        # A hook leaves its letter before it looks at the beacon: what relied on us is in the box by now.
        liveness.clear(self._beacon, self._folder)
        self._try()
        self._api.close()

    def _work(self) -> None:
        relit_s = pause_s = 0.0
        while not self._ended.wait(pause_s):
            if time.monotonic() >= relit_s:
                liveness.mark_alive(self._beacon, _LIT_S, self._folder)
                relit_s = time.monotonic() + _LIT_S / 4.0
            pause_s = _LOOK_EVERY_S if self._try() else _RETRY_S

    def _try(self) -> bool:
        try:
            with self._api.within(_LIT_S / 2.0):
                deliver(self._api, self._box)
        except (PrefectIntelligentError, OSError) as error:
            _LOG.debug("announcements are kept for later: %s", error)
            return False
        return True
