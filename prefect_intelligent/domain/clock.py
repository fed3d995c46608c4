"""The port through which the core reads the time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Gives the time and waits; `prefect_client.clock` is the system's, `testing.clock` one for tests."""

    def now_s(self) -> float:
        """The present instant, Unix seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns early if the process is asked to stop."""
        ...
