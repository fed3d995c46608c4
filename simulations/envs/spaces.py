"""Observation and action spaces of the environments, and conversion between them and a batch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from prefect_intelligent.policy.encoding import Observation
from simulations.envs.batch import Batch

FEATURE_BOUND: Final = 1e4
"""Bound of the features, which are logarithms, shares and small counts and stay far below it."""


def observation_space(batch: Batch) -> spaces.Dict:
    """One world: the features of all its queues in one row, those of its pools, and which queues exist.

    Rows are flat, as stable-baselines3 wants them; `queues` is (queues, len(QUEUE_FEATURES)) joined row by row.
    """
    per_queue, per_pool = batch.features
    queues = batch.pools * batch.width
    return spaces.Dict(
        {
            "queues": spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, (queues * per_queue,), np.float32),
            "pool": spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, (batch.pools * per_pool,), np.float32),
            "mask": spaces.Box(0.0, 1.0, (queues,), np.float32),
        }
    )


def action_space(batch: Batch) -> spaces.MultiDiscrete:
    """One world: for each pool the level of its capacity, then of the place and of the share of every queue."""
    return spaces.MultiDiscrete(np.tile(batch.levels, batch.pools))


def as_dict(batch: Batch, seen: Observation) -> dict[str, npt.NDArray[Any]]:
    """Observations with one row per world, in arrays of their own."""
    return {
        "queues": seen.queues.reshape(batch.n, -1).copy(),
        "pool": seen.pool.reshape(batch.n, -1).copy(),
        "mask": seen.mask.reshape(batch.n, -1).astype(np.float32),
    }


def as_levels(batch: Batch, actions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Actions with one row per pool."""
    return np.asarray(actions, dtype=np.int64).reshape(batch.rows, -1)
