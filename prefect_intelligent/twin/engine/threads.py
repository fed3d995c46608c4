"""Threads that share the worlds of a batch: each takes some as soon as it is free, until none is left.

Nothing waits for a thread that comes too late, since every call has its own counters: by then they say that all is
taken.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np

TAKEN: Final = 0  # worlds that somebody works on or has worked on
DONE: Final = 1  # worlds that are finished
"""Places in the counters that the threads share."""


class WorkerThreads:
    """Calls a compiled function from several threads at once.

    Args:
        work: Called with what `share` is given; releases the interpreter's lock, counts in the counters.
        threads: How many, the calling one included.
    """

    def __init__(self, work: Callable[..., None], threads: int) -> None:
        self._work = work
        self._helpers = [_Helper(work) for _ in range(threads - 1)]
        for helper in self._helpers:
            weakref.finalize(self, helper.dismiss)

    def share(self, tables: tuple[Any, ...], worlds: int, more: tuple[Any, ...]) -> None:
        """Call `work(*tables, counters, stride, *more)` from every thread, and return when `worlds` are done."""
        counters = np.zeros(2, dtype=np.int64)
        call = (*tables, counters, max(1, worlds // (8 + 8 * len(self._helpers))), *more)
        for helper in self._helpers:
            helper.call(call)
        self._work(*call)
        while counters[DONE] < worlds:
            time.sleep(0)


class _Helper:
    """One more thread; it sleeps between calls."""

    def __init__(self, work: Callable[..., None]) -> None:
        self._work, self._wake = work, threading.Lock()
        self._next: tuple[Any, ...] = ()
        self._wake.acquire()
        threading.Thread(target=self._serve, daemon=True).start()

    def call(self, arguments: tuple[Any, ...]) -> None:
        """Work on these, unless it is still busy when they come and gone when it is free."""
        self._next = arguments
        if self._wake.locked():
            self._wake.release()

    def dismiss(self) -> None:
        """End the thread."""
        self.call(())

    def _serve(self) -> None:
        while True:
            self._wake.acquire()
            arguments = self._next
            if not arguments:
                return
            self._work(*arguments)
            del arguments
