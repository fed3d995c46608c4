"""Where the time comes from."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now_s(self) -> float:
        """The present instant, Unix seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns early if the process is asked to stop."""
        ...
