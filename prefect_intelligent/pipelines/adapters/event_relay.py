"""Sends pending dataset events to Prefect: a controller does it for all flows on its machine, else the hooks do."""

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

from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.errors import (
    ConflictError,
    OrchestratorAccessDeniedError,
    OrchestratorError,
    PrefectIntelligentError,
)
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import relay_key
from prefect_intelligent.local.record_versions import UNREADABLE, leave_out
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.pipelines.adapters.dataset_events import emit_dataset_events
from prefect_intelligent.pipelines.pending_events import KIND, pending_events, read_pending_event
from prefect_intelligent.prefect_client.api import PrefectApi

_LOOK_EVERY_S: Final = 0.25
_ALIVE_S: Final = 5.0  # how long hooks rely on a relay that has just died
_RETRY_S: Final = 1.0
_TOO_OLD_S: Final = (
    7 * 86400.0
)  # Prefect deletes events after a week; whether the batch was fresh is not known any more
_LOG = logging.getLogger(__name__)


def deliver(api: PrefectApi, pending: Spool) -> int:
    """Send all pending events, unless another process is just doing so; returns how many were sent.

    An event that is appended meanwhile is sent by the process that holds the lock, which looks again at the end.

    Raises:
        OrchestratorUnavailableError: The server does not answer; what is left stays pending.
        OrchestratorAccessDeniedError: It does not accept the credentials; what is left stays pending.
        StoreError: The spool cannot be read or written.
    """
    done = 0
    while pending.size_bytes():
        with _delivery_lock(pending) as locked:
            now = _deliver_round(api, pending) if locked else 0
        if not now:
            break
        done += now
    return done


def _deliver_round(api: PrefectApi, pending: Spool) -> int:
    """Send what is pending now, newest first, so that runs that have just ended do not wait for those of an outage."""
    done = 0
    pending.seal()
    for segment in reversed(pending.segments()):
        taken = pending.take(segment)
        if taken is None:
            continue
        left = list({entry.id: entry for entry in pending.read(taken)[0]}.values())
        whole = len(left)
        try:
            while left:
                _emit(api, left[-1])
                left.pop()
                done += 1
        except OrchestratorError:
            if len(left) < whole:  # the next round goes on where this one ended
                for entry in left:
                    pending.append(entry.kind, entry.record, event_id=entry.id, at_s=entry.at_s, version=entry.version)
                pending.remove(taken)
            raise
        pending.remove(taken)  # killed before this line: sent again, and Prefect drops events with a known id
    return done


def deliver_now(what: Spool | Mapping[str, Any], seconds: float) -> None:
    """Send the pending events of a spool, or one event that could not be appended to it, within so many seconds.

    Raises:
        OrchestratorError: The server did not take them.
        StoreError: The spool cannot be read or written.
    """
    api = PrefectApi(timeout_s=min(1.0, seconds))
    try:
        with api.within(seconds):
            if isinstance(what, Spool):
                deliver(api, what)
            else:
                _emit(api, Entry(id=what["flow_run"]["id"], at_s=time.time(), kind=KIND, record=what))
    finally:
        api.close()


def _emit(api: PrefectApi, entry: Entry) -> None:
    if time.time() - entry.at_s > _TOO_OLD_S:
        _LOG.warning("given up after a week: the dataset events of flow run %s", entry.id)
        return
    try:
        event = read_pending_event(entry.record)
    except UNREADABLE as error:
        leave_out(entry.kind, entry.record, error)
        return
    try:
        emit_dataset_events(api, event["flow_run"], event["outputs"], event["batch_parameter"], fresh=event["fresh"])
    except (ConflictError, *UNREADABLE) as error:  # trying again would not help
        _LOG.warning("Prefect refuses the dataset events of flow run %s: %s", entry.id, error)


@contextmanager
def _delivery_lock(pending: Spool) -> Iterator[bool]:
    """Whether this process holds the lock under which pending events are sent."""
    fd = os.open(pending.folder / "delivery.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


class EventRelay:
    """While entered, a thread sends the pending events of all flows on this machine.

    It has a connection of its own, so that no decision waits for it, and marks the key alive that hooks look at.

    Args:
        url: The server.
        folder: The data folder.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._api, self._pending = PrefectApi(url, timeout_s=2.0, attempts=1), pending_events(url, folder)
        self._key, self._folder = relay_key(url), folder
        self._ended = threading.Event()
        self._denied = False
        context = contextvars.copy_context()  # Prefect's settings may live there
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="dataset-event-relay", daemon=True)

    def __enter__(self) -> EventRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5.0)
        # A hook appends its event before it looks at the key: the events of hooks that relied on us are there by now.
        liveness.clear(self._key, self._folder)
        self.deliver_pending()
        self._api.close()

    def _work(self) -> None:
        mark_again_s = pause_s = 0.0
        while not self._ended.wait(pause_s):
            if time.monotonic() >= mark_again_s:
                liveness.mark_alive(self._key, _ALIVE_S, self._folder)
                mark_again_s = time.monotonic() + _ALIVE_S / 4.0
            pause_s = _LOOK_EVERY_S if self.deliver_pending() else jittered(_RETRY_S)

    def deliver_pending(self) -> bool:
        """Send what is pending now; False if it stays pending, which is logged."""
        try:
            with self._api.within(_ALIVE_S / 2.0):
                deliver(self._api, self._pending)
        except (PrefectIntelligentError, OSError) as error:
            said = isinstance(error, OrchestratorAccessDeniedError) and not self._denied
            self._denied = isinstance(error, OrchestratorAccessDeniedError)
            _LOG.log(logging.WARNING if said else logging.DEBUG, "dataset events stay pending: %s", error)
            return False
        self._denied = False
        return True
