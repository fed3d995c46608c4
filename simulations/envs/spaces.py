"""Observation and action spaces of the environments, and conversion between them and the arrays of a batch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Observation

Arrays = dict[str, npt.NDArray[Any]]

FEATURE_BOUND: Final = 1e4
"""Bound of the features, which are logarithms, shares and small counts and stay far below it."""


def observation_space(width: int, pools: int = 1) -> spaces.Dict:
    """One world with so many pools of `width` queues: the features of queues and pools, and which queues exist.

    Every part is a flat row, as stable-baselines3's checker wants it: `queues` is the table
    (pools * width, len(QUEUE_FEATURES)) row by row.
    """
    sizes = {"queues": pools * width * len(QUEUE_FEATURES), "pool": pools * len(POOL_FEATURES)}
    features = {name: spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, (size,), np.float32) for name, size in sizes.items()}
    return spaces.Dict({**features, "mask": spaces.Box(0.0, 1.0, (pools * width,), np.float32)})


def action_space(width: int, pools: int = 1) -> spaces.MultiDiscrete:
    """One world: for each pool the level of its capacity, then of the place and of the share of every queue."""
    levels = [len(CAPACITY_FACTORS), *[len(PLACES)] * width, *[len(SHARES)] * width]
    return spaces.MultiDiscrete(np.tile(levels, pools))


def as_dict(seen: Observation, worlds: int) -> Arrays:
    """Observations with one row per world, in arrays of their own."""
    return {
        "queues": seen.queues.reshape(worlds, -1).copy(),
        "pool": seen.pool.reshape(worlds, -1).copy(),
        "mask": seen.mask.reshape(worlds, -1).astype(np.float32),
    }
