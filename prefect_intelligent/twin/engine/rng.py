"""Random numbers that depend only on what they are for, never on what was drawn before.

A draw is named by (seed of the world, stream, run or pool, attempt). Two policies that serve the same world in a
different order therefore meet the same durations, failures and start-up times: common random numbers. The mixer is
splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from prefect_intelligent.twin.engine.jit import code, compiled, inlined

# Streams of draws.
STARTUP: Final = code(1)  # how long an attempt's infrastructure takes to start
FAILURE: Final = code(2)  # whether an attempt fails
CRASH: Final = code(3)  # whether it is lost with its infrastructure
FAILURE_TIME: Final = code(4)  # after which share of its work it then ends
POLL: Final = code(5)  # by how much a poll period is stretched
RACE: Final = code(6)  # whether a poll overlooks the claims of the one before
RECLAIM: Final = code(7)  # whether the spot market takes a run's slot
LATE_SERVICE: Final = code(8)  # when, within a period, the server looks for runs that are late

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B: Final = np.uint64(0x94D049BB133111EB)
_S30: Final = np.uint64(30)
_S27: Final = np.uint64(27)
_S31: Final = np.uint64(31)
_S11: Final = np.uint64(11)


@inlined
def mix(value: np.uint64) -> np.uint64:
    """One round of splitmix64."""
    value = value + _GOLDEN
    value = (value ^ (value >> _S30)) * _MIX_A
    value = (value ^ (value >> _S27)) * _MIX_B
    return value ^ (value >> _S31)


@inlined
def stream_key(seed: np.uint64, stream: int, run: int) -> np.uint64:
    """The part of a name that all attempts of a run in a stream share."""
    return mix(mix(mix(seed) ^ np.uint64(stream)) ^ np.uint64(run))


@inlined
def uniform_at(key: np.uint64, attempt: int) -> float:
    """A number in [0, 1) for an attempt of a stream key."""
    return float(mix(key ^ np.uint64(attempt)) >> _S11) * (1.0 / 9007199254740992.0)


@compiled
def uniform(seed: np.uint64, stream: int, run: int, attempt: int) -> float:
    """A number in [0, 1) for that name."""
    return uniform_at(stream_key(seed, stream, run), attempt)


@compiled
def normal(seed: np.uint64, stream: int, run: int, attempt: int) -> float:
    """A standard normal number for that name (Box-Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(seed, stream, run, attempt)))
    return radius * math.cos(2.0 * math.pi * uniform(seed, stream + 64, run, attempt))
