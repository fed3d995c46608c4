"""A clock that only moves when a test moves it."""

from __future__ import annotations


class ManualClock:
    """Implements `Clock`; sleeping moves the time at once.

    Args:
        at_s: Where it starts, Unix seconds.
    """

    def __init__(self, at_s: float = 1_750_000_000.0) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        """The instant to which it has been moved."""
        return self.at_s

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self.at_s += max(0.0, seconds)

    def jump(self, seconds: float) -> None:
        """Move by any number of seconds, backwards too, as a corrected system clock does."""
        self.at_s += seconds
