"""How long to wait before trying again."""

from __future__ import annotations

import random
from typing import Final

SYSTEM_RANDOM: Final = random.SystemRandom()
"""Has no state that forked processes could share."""
_MOST_DOUBLINGS: Final = 60


def jittered(seconds: float, rng: random.Random = SYSTEM_RANDOM) -> float:
    """A pause drawn evenly from [seconds / 2, seconds], so that processes that failed together do not return together.

    This is "equal jitter" (Brooker, Exponential Backoff and Jitter, AWS Architecture Blog 2015).
    """
    return seconds * (1.0 + rng.random()) / 2.0


def backoff_s(failures: int, *, first_s: float, longest_s: float, rng: random.Random = SYSTEM_RANDOM) -> float:
    """Seconds to wait after a number of failures in a row: doubled each time, capped, and jittered.

    Args:
        failures: How many failures there were; 1 or more.
        first_s: Longest pause after the first of them.
        longest_s: Longest pause after any.
        rng: Draws the jitter.
    """
    return jittered(min(first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest_s), rng)
