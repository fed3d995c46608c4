"""Heartbeats of a flow run: the last one, and how often they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median_high
from typing import Final

TOLERATED: Final = 3.0
"""Heartbeats that may fail to arrive before silence means anything: events get lost, and busy processes are late."""

LEAST_SILENCE_S: Final = 300.0
"""Silence that never means anything, however often heartbeats come: a server or a network may be away for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeats:
    """What is known of the heartbeats of a run.

    Attributes:
        last_s: The last one, Unix seconds.
        every_s: Seconds between two of them as seen, the longer of the usual and half the longest pause; None if only
            one has been seen: Prefect lets every deployment choose, so nothing follows from its silence.
    """

    last_s: float
    every_s: float | None = None

    @classmethod
    def of(cls, instants: Sequence[float]) -> Heartbeats:
        """From the instants of one or more heartbeats in any order, Unix seconds."""
        ordered = sorted(set(instants))
        pauses = [later - sooner for sooner, later in pairwise(ordered)]
        return cls(last_s=ordered[-1], every_s=max(median_high(pauses), max(pauses) / 2) if pauses else None)

    def not_before(self, at_s: float) -> Heartbeats:
        """The same, with the last one at that instant at the earliest: silence begins with an attempt."""
        return replace(self, last_s=max(self.last_s, at_s))

    def missed(self, at_s: float) -> float | None:
        """How many heartbeats should have come since the last and have not; None if that cannot be known."""
        if self.every_s is None:
            return None
        return max(0.0, at_s - self.last_s) / max(self.every_s, 1.0)

    def silent(self, at_s: float) -> bool:
        """Whether so many are missing, for so long, that the process no longer sends any."""
        missed = self.missed(at_s)
        return missed is not None and missed > TOLERATED and at_s - self.last_s > LEAST_SILENCE_S
