"""The clock of this machine."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `Clock` with the system's time."""

    def now_s(self) -> float:
        """The present instant, Unix seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))
