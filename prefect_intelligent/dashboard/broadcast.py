"""Sends the state of the dashboard, and then its changes, to the browsers that listen (server-sent events)."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

State = dict[str, Any]
KEYED = frozenset({"gantt"})
"""Sections that are objects with many rows, of which only the changed rows are sent."""


def state_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> State:
    """The changed sections, those of `KEYED` as `{"set": rows, "gone": keys}`; empty if nothing changed."""
    out: State = {}
    for name, value in after.items():
        old = before.get(name)
        if name in KEYED and isinstance(old, dict) and isinstance(value, dict):
            changed = {key: row for key, row in value.items() if old.get(key) != row}
            gone = [key for key in old if key not in value]
            if changed or gone:
                out[name] = {"set": changed, "gone": gone}
        elif old != value:
            out[name] = {"set": value, "gone": list(old or ())} if name in KEYED else value
    return out


def encode_event(event: str, value: Any, number: int) -> bytes:
    """One server-sent event, as bytes.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    return (
        f"id: {number}\nevent: {event}\ndata: {json.dumps(value, allow_nan=False, separators=(',', ':'))}\n\n".encode()
    )


def replace_nonfinite(value: Any) -> Any:
    """A copy with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(each) for key, each in value.items()}
    return [replace_nonfinite(each) for each in value] if isinstance(value, list | tuple) else value


class StateBroadcaster:
    """Holds the latest state and sends patches to all listeners; `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._state: State = {}
        self._number = 0
        self._lock = threading.Lock()
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[bytes]]] = set()

    @property
    def state(self) -> State:
        """The latest state."""
        with self._lock:
            return self._state

    @property
    def listeners(self) -> int:
        """Number of listeners."""
        return len(self._listeners)

    def publish(self, state: State) -> None:
        """Replace the state and send its changes."""
        with self._lock:
            changed = state_patch(self._state, state)
            try:
                message = encode_event("patch", changed, self._number + 1)
            except ValueError:
                state = replace_nonfinite(state)
                changed = state_patch(self._state, state)
                message = encode_event("patch", changed, self._number + 1)
            self._state = state
            if not changed:
                return
            self._number += 1
            for loop, queue in list(self._listeners):
                loop.call_soon_threadsafe(_offer, queue, message)

    async def stream(self, heartbeat_s: float = 15.0, max_listeners: int = 64) -> AsyncIterator[bytes]:
        """The whole state, then patches, with a comment as a heartbeat so that proxies keep the connection.

        Raises:
            RuntimeError: There are `max_listeners` already.
        """
        if len(self._listeners) >= max_listeners:
            raise RuntimeError("too many listeners")
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=32)
        listener = (asyncio.get_running_loop(), queue)
        with self._lock:
            self._listeners.add(listener)
            first = encode_event("state", self._state, self._number)
        try:
            yield first
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), heartbeat_s)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._listeners.discard(listener)


def _offer(queue: asyncio.Queue[bytes], message: bytes) -> None:
    """Queue a patch; a listener that is 32 patches behind is told to load the whole state again instead."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        message = b"event: reload\ndata: {}\n\n"
    queue.put_nowait(message)


class Refresher(threading.Thread):
    """Thread that builds and publishes the state at an interval.

    Args:
        broadcaster: Publishes the state.
        build: Builds the state; after an exception the previous state is published with a section `error`.
        interval_s: Seconds between two builds.
    """

    def __init__(self, broadcaster: StateBroadcaster, build: Callable[[], State], interval_s: float) -> None:
        super().__init__(name="dashboard-refresh", daemon=True)
        self._broadcaster, self._build, self._interval_s = broadcaster, build, interval_s
        self._ended = threading.Event()

    def run(self) -> None:
        """Build and publish until `end` is called."""
        while True:
            try:
                self._broadcaster.publish({"error": None, **self._build()})
            except Exception as error:
                failed = {**self._broadcaster.state, "error": f"{type(error).__name__}: {error}"[:500]}
                self._broadcaster.publish(failed)
            if self._ended.wait(self._interval_s):
                return

    def end(self) -> None:
        """Stop after the current build."""
        self._ended.set()
