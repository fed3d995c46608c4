"""Threads that share the worlds of a batch: each takes some as soon as it is free, until none is left.

A call returns when every world is done, whichever threads did them. It does not wait for a thread that was too busy to
come: every call has its own counters, and they will tell that thread that nothing is left.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

TAKEN: Final = 0  # worlds that a thread has taken
DONE: Final = 1  # worlds that are finished
"""Places in the counters that the threads share."""

_ALL_TAKEN: Final = 2**62
"""More worlds than there are, and far from an overflow when threads add to it."""


class WorkerThreads:
    """Calls a compiled function from several threads at once.

    Args:
        function: Called with what `share` is given. It releases the interpreter's lock, takes worlds by adding to the
            counter `TAKEN` and adds them to `DONE` when they are finished, until all are taken.
        threads: How many, the calling one included.
    """

    def __init__(self, function: Callable[..., None], threads: int) -> None:
        self._function = function
        self._helpers = [_Helper(function) for _ in range(threads - 1)]
        for helper in self._helpers:
            weakref.finalize(self, helper.dismiss)

    def share(self, tables: tuple[Any, ...], worlds: int, more: tuple[Any, ...]) -> None:
        """Call `function(*tables, counters, stride, *more)` from every thread, and return when `worlds` are done.

        Raises:
            Exception: What the function raised, in whichever thread, before every world was done. No thread works on
                the tables any more, some worlds are not done, and the threads can be used again.
        """
        counters = np.zeros(2, dtype=np.int64)
        stride = max(1, worlds // (8 + 8 * len(self._helpers)))
        call = _Call((*tables, counters, stride, *more))
        for helper in self._helpers:
            helper.start(call)
        try:
            self._function(*call.arguments)
            while counters[DONE] < worlds:
                if call.error is not None:
                    raise call.error
                time.sleep(0)
        except BaseException:
            self._stop(call, counters)
            raise

    def _stop(self, call: _Call, counters: npt.NDArray[np.int64]) -> None:
        """Leave no world to take, and wait until no helper works on one; a helper that comes later finds none."""
        counters[TAKEN] = _ALL_TAKEN
        while any(helper.busy_with is call for helper in self._helpers):
            time.sleep(0)


class _Call:
    """Arguments of one call, and the first error that a helper met in it."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.error: BaseException | None = None


class _Helper:
    """One more thread; it sleeps between calls."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function, self._wake = function, threading.Lock()
        self._next: _Call | None = None
        self.busy_with: _Call | None = None
        self._wake.acquire()
        threading.Thread(target=self._serve, daemon=True).start()

    def start(self, call: _Call) -> None:
        """Work on a call; if the helper is busy until another one comes, it never does."""
        self._next = call
        self._release()

    def dismiss(self) -> None:
        """End the thread."""
        self._next = None
        self._release()

    def _release(self) -> None:
        if self._wake.locked():
            self._wake.release()

    def _serve(self) -> None:
        while True:
            self._wake.acquire()
            call = self._next
            if call is None:
                return
            self.busy_with = call
            try:
                self._function(*call.arguments)
            except BaseException as error:  # the calling thread raises it
                call.error = call.error or error
            self.busy_with = None
            del call
