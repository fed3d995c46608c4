"""Checks permitted settings against the guard's rules; evaluation and the promotion gate count the violations."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q


def guard_violations(settings: Proposal, census: Census) -> Array:
    """Number of permitted settings per pool that are below what is running or invalid, shape (...,); should be 0.

    Args:
        settings: The permitted settings.
        census: The census on which they were decided.
    """
    present = census.present
    below = present & (settings.limit < np.minimum(census[Q.ACTIVE], census[Q.LIMIT]))
    invalid = present & ~((settings.limit >= 0) & np.isfinite(settings.score))
    pool = (settings.pool_limit < np.minimum(census[P.ACTIVE], census[P.LIMIT])) | ~(settings.pool_limit >= 1)
    count: Array = (below | invalid).sum(-1) + np.asarray(pool, dtype=float)
    return count
