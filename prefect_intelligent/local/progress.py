"""Signs of life: what a long command is doing, said on standard error while it does it."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final, Self, TextIO

EVERY_S: Final = 2.0
"""Seconds between two lines; what ends sooner says nothing."""


class Progress:
    """Context manager and function: says every few seconds which step is going on and for how long.

    On a terminal the line is written over itself and wiped at the end; elsewhere each is a line of its own.

    Args:
        step: What is done first.
        out: Where it is said; standard error by default.
        every_s: Seconds between two lines.
    """

    def __init__(self, step: str, *, out: TextIO | None = None, every_s: float = EVERY_S) -> None:
        self._step, self._out, self._every_s = step, out or sys.stderr, every_s
        self._began_s, self._over, self._wrote = time.monotonic(), threading.Event(), False
        self._thread = threading.Thread(target=self._say, daemon=True)

    def __call__(self, step: str) -> None:
        """From now on this is done."""
        self._step = step

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._wrote and self._out.isatty():
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _say(self) -> None:
        begin, end = ("\r\x1b[K", "") if self._out.isatty() else ("", "\n")
        while not self._over.wait(self._every_s):
            try:
                self._out.write(f"{begin}{self._step} ({time.monotonic() - self._began_s:.0f} s){end}")
                self._out.flush()
            except (OSError, ValueError):  # nobody listens any more
                return
            self._wrote = True
