"""Whether settings that the guard let pass keep its promises: evaluation and the promotion gate count what does not."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census, P, Q


def guard_violations(settings: Proposal, census: Census) -> Array:
    """Settings per pool that would hurt running work or are no settings at all, shape (...,); it should be 0.

    Args:
        settings: What was permitted.
        census: What it was decided on.
    """
    there = census.present
    below = there & (settings.limit < np.minimum(census[Q.ACTIVE], census[Q.LIMIT]))
    spoilt = there & ~((settings.limit >= 0) & np.isfinite(settings.score))
    pool = (settings.pool_limit < np.minimum(census[P.ACTIVE], census[P.LIMIT])) | ~(settings.pool_limit >= 1)
    count: Array = (below | spoilt).sum(-1) + np.asarray(pool, dtype=float)
    return count
