"""Observation and action space of one pool with n queues, for the learner."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES


def observation_space(n: int) -> spaces.Dict:
    """Features per queue and of the pool, and which queues exist."""
    return spaces.Dict(
        {
            "queues": spaces.Box(-np.inf, np.inf, (n, len(QUEUE_FEATURES)), np.float32),
            "pool": spaces.Box(-np.inf, np.inf, (len(POOL_FEATURES),), np.float32),
            "mask": spaces.Box(0, 1, (n,), np.float32),
        }
    )


def action_space(n: int) -> spaces.MultiDiscrete:
    """The level of the pool, then of the place and of the share of every queue."""
    return spaces.MultiDiscrete([len(CAPACITY_FACTORS)] + [len(PLACES)] * n + [len(SHARES)] * n)
