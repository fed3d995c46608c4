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


class PrefectWakeUps:
    """Implements `WakeUps`.

    A thread holds the websocket; while it is not connected, `wait` counts the pool's runs instead.

    Args:
        api: For counting.
        pool: The work pool.
        poll_s: Seconds between two counts.
    """

    def __init__(self, api: PrefectApi, pool: str, *, poll_s: float = 2.0) -> None:
        self._api, self._pool, self._poll_s = api, pool, poll_s
        self._happened = threading.Event()
        self._connected = threading.Event()
        self._closed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._denied = False
        self._counted: int | None = None
        self._next_count_s = 0.0
        # The thread sees the caller's Prefect settings, also temporary ones.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=lambda: context.run(self._listen), name=f"wake-ups of {pool}", daemon=True
        )
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the event stream is open."""
        return self._connected.is_set()

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
        """Stop listening; the thread ends soon."""
        self._closed.set()
        self._happened.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                loop.call_soon_threadsafe(task.cancel)

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

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                asyncio.run(self._subscribe())
            except (Exception, asyncio.CancelledError) as error:  # counting takes over until the stream is back
                denied = _DENIED in str(error)
                _LOG.log(logging.WARNING if denied and not self._denied else logging.DEBUG, "event stream: %s", error)
                self._denied = denied
            self._closed.wait(jittered(_RECONNECT_S))

    async def _subscribe(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        wanted = EventFilter(event=EventNameFilter(name=_EVENTS))
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as stream:
                self._connected.set()
                async for event in stream:
                    if _concerns(event, self._pool):
                        self._happened.set()
        finally:
            self._connected.clear()


def _concerns(event: Event, pool: str) -> bool:
    """Whether the event is about the pool; one that names no pool may be."""
    named = [thing.get("prefect.resource.name") for thing in event.related if thing.role == "work-pool"]
    return not named or pool in named
