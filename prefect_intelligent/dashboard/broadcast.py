"""The state that browsers see, and how its changes reach them."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

State = dict[str, Any]
KEYED = frozenset({"gantt"})
"""Sections that are objects of many rows: only the rows that changed travel."""


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> State:
    """What changed: whole sections, and for keyed ones `{"set": rows, "gone": keys}`; empty if nothing did."""
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


def encode(event: str, value: Any, number: int) -> bytes:
    """One server-sent event."""
    return (
        f"id: {number}\nevent: {event}\ndata: {json.dumps(value, allow_nan=False, separators=(',', ':'))}\n\n".encode()
    )


def finite(value: Any) -> Any:
    """The same with null for every number that JSON cannot hold, so that one odd figure does not stop the page."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


class StateBroadcaster:
    """Holds the latest state and hands patches to whoever listens; safe to `publish` from any thread."""

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
        """How many browsers listen."""
        return len(self._listeners)

    def publish(self, state: State) -> None:
        """Replace the state and send what changed."""
        with self._lock:
            changed = patch(self._state, state)
            try:
                message = encode("patch", changed, self._number + 1)
            except ValueError:
                state = finite(state)
                changed = patch(self._state, state)
                message = encode("patch", changed, self._number + 1)
            self._state = state
            if not changed:
                return
            self._number += 1
            for loop, queue in list(self._listeners):
                loop.call_soon_threadsafe(_offer, queue, message)

    async def stream(self, heartbeat_s: float = 15.0, most: int = 64) -> AsyncIterator[bytes]:
        """The whole state, then patches; a comment now and then keeps proxies from closing. Raises if `most` listen."""
        if len(self._listeners) >= most:
            raise RuntimeError("too many listeners")
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=32)
        me = (asyncio.get_running_loop(), queue)
        with self._lock:
            self._listeners.add(me)
            first = encode("state", self._state, self._number)
        try:
            yield first
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), heartbeat_s)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._listeners.discard(me)


def _offer(queue: asyncio.Queue[bytes], message: bytes) -> None:
    """Hand over a patch; a browser that has fallen 32 patches behind is told to load the whole state again."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        message = b"event: reload\ndata: {}\n\n"
    queue.put_nowait(message)


class Refresher(threading.Thread):
    """Builds the state again and again and publishes it.

    Args:
        hub: Where to.
        build: Makes the state; an exception becomes the section `error` of the state that was there.
        interval_s: Between two builds.
    """

    def __init__(self, hub: StateBroadcaster, build: Callable[[], State], interval_s: float) -> None:
        super().__init__(name="dashboard-refresh", daemon=True)
        self._hub, self._build, self._interval_s = hub, build, interval_s
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `end` is called."""
        while True:
            try:
                self._hub.publish({"error": None, **self._build()})
            except Exception as error:
                self._hub.publish({**self._hub.state, "error": f"{type(error).__name__}: {error}"[:500]})
            if self._ended.wait(self._interval_s):
                return

    def end(self) -> None:
        """Stop after the build under way."""
        self._ended.set()
