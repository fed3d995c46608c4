"""Wake-ups from Prefect's event stream, or from counting runs while there is no stream."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from typing import Final

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.prefect_client.api import PrefectApi

_EVENTS: Final = [
    *(f"prefect.flow-run.{name}" for name in ("Scheduled", "Late", "Completed", "Failed", "Crashed", "Cancelled")),
    "prefect.deployment.updated",
    "prefect.deployment.created",
]
"""A run has been scheduled, a slot has become free, or a deploy may have ended a hold."""
_RECONNECT_S: Final = 5.0
_DENIED: Final = "Unable to authenticate"  # how Prefect says that it does not accept the credentials
_LOG = logging.getLogger(__name__)


class PrefectEventStream:
    """One websocket for any number of pools, held by a thread; while it is not open, pools count their runs."""

    def __init__(self) -> None:
        self._happened: dict[str, threading.Event] = {}
        self._connected = threading.Event()
        self._closed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._denied = False
        # The thread sees the caller's Prefect settings, also temporary ones.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._listen), name="event stream", daemon=True)
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the event stream is open."""
        return self._connected.is_set()

    def subscribe(self, pool: str) -> threading.Event:
        """What is set whenever something happens in the pool."""
        return self._happened.setdefault(pool, threading.Event())

    def unsubscribe(self, pool: str) -> None:
        """Forget the pool; who waits for it does so no longer."""
        if (happened := self._happened.pop(pool, None)) is not None:
            happened.set()

    def close(self) -> None:
        """Stop listening; the thread ends soon."""
        self._closed.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                loop.call_soon_threadsafe(task.cancel)

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                asyncio.run(self._receive())
            except (Exception, asyncio.CancelledError) as error:  # counting takes over until the stream is back
                denied = _DENIED in str(error)
                _LOG.log(logging.WARNING if denied and not self._denied else logging.DEBUG, "event stream: %s", error)
                self._denied = denied
            self._closed.wait(jittered(_RECONNECT_S))

    async def _receive(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        wanted = EventFilter(event=EventNameFilter(name=_EVENTS))
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as stream:
                self._connected.set()
                async for event in stream:
                    for pool, happened in list(self._happened.items()):
                        if _concerns(event, pool):
                            happened.set()
        finally:
            self._connected.clear()


class PrefectWakeUps:
    """Implements `WakeUps`.

    While the stream is not open, `wait` counts the pool's runs instead.

    Args:
        api: For counting.
        pool: The work pool.
        poll_s: Seconds between two counts.
        stream: Tells what happens; a stream of its own if None.
    """

    def __init__(
        self, api: PrefectApi, pool: str, *, poll_s: float = 2.0, stream: PrefectEventStream | None = None
    ) -> None:
        self._api, self._pool, self._poll_s = api, pool, poll_s
        self._stream, self._owns = stream or PrefectEventStream(), stream is None
        self._happened = self._stream.subscribe(pool)
        self._counted: int | None = None
        self._next_count_s = 0.0

    @property
    def connected(self) -> bool:
        """Whether the event stream is open."""
        return self._stream.connected

    def wait(self, timeout_s: float) -> bool:
        """Block until something happened since the last call (True) or the time is over (False)."""
        until = time.monotonic() + timeout_s
        while not self._happened.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return False
            if not self.connected and self._count_differs():
                return True
            self._happened.wait(min(left, self._poll_s))
        self._happened.clear()
        return True

    def close(self) -> None:
        """Stop listening."""
        self._stream.unsubscribe(self._pool)
        if self._owns:
            self._stream.close()

    def _count_differs(self) -> bool:
        """Whether the number of runs that wait or hold a slot has changed since the last count."""
        if time.monotonic() < self._next_count_s:
            return False
        self._next_count_s = time.monotonic() + self._poll_s
        body = {
            "work_pools": {"name": {"any_": [self._pool]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
        }
        try:
            count = self._api.call("POST", "/flow_runs/count", body, attempts=1)
        except OrchestratorError:
            return False
        before, self._counted = self._counted, count
        return before is not None and count != before


def _concerns(event: Event, pool: str) -> bool:
    """Whether the event is about the pool; one that names no pool may be."""
    named = [thing.get("prefect.resource.name") for thing in event.related if thing.role == "work-pool"]
    return not named or pool in named
