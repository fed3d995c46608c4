"""Checks that any policy must pass, for our tests and for users who write their own policies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Census, Q


def check_policy(policy: Policy, batch: Census, *, tolerance: float = 1e-6) -> None:
    """Run every check below on a batch of pools.

    Args:
        policy: The policy to check.
        batch: A batch with one leading dimension, padded or not, e.g. from `testing.strategies.censuses(pools=3)`.
        tolerance: Relative difference up to which two numbers are equal; floating point sums depend on order.

    Raises:
        AssertionError: A check fails; the message names the policy and the check.
    """
    check_bounds(policy, batch)
    check_pure(policy, batch)
    check_batch_equals_single(policy, batch, tolerance)
    check_queue_order(policy, batch, tolerance)
    check_padding(policy, batch, tolerance)


def check_bounds(policy: Policy, batch: Census) -> None:
    """Shapes are right, scores finite, limits 0 or more (infinity is unlimited), pool limits likewise."""
    wanted = policy.propose(batch)
    shape, there = batch.queues.shape[:-1], batch.present
    assert wanted.score.shape == wanted.limit.shape == shape, f"{policy.name}: score or limit has the wrong shape"
    assert wanted.pool_limit.shape == shape[:-1], f"{policy.name}: pool_limit has the wrong shape"
    assert np.isfinite(wanted.score[there]).all(), f"{policy.name}: a score is not finite"
    assert (wanted.limit[there] >= 0).all(), f"{policy.name}: a limit is below 0 or not a number"
    assert (wanted.pool_limit >= 0).all(), f"{policy.name}: a pool limit is below 0 or not a number"


def check_pure(policy: Policy, batch: Census) -> None:
    """The census is not written to, and asking twice gives the same answer."""
    before = Census(batch.queues.copy(), batch.pool.copy())
    first, second = policy.propose(batch), policy.propose(batch)
    untouched = np.array_equal(before.queues, batch.queues) and np.array_equal(before.pool, batch.pool)
    assert untouched, f"{policy.name}: propose writes to its census"
    _assert_same(policy, "asked twice", first, second, batch.present, 0.0)


def check_batch_equals_single(policy: Policy, batch: Census, tolerance: float) -> None:
    """Each pool of a batch gets what it gets alone."""
    together = policy.propose(batch)
    for i in range(len(batch.pool)):
        alone = policy.propose(Census(batch.queues[i], batch.pool[i]))
        ours = Proposal(together.score[i], together.limit[i], together.pool_limit[i])
        _assert_same(policy, "alone and in a batch", alone, ours, batch.present[i], tolerance)


def check_queue_order(policy: Policy, batch: Census, tolerance: float) -> None:
    """Listing the queues in another order lists the answers in that order and changes nothing else."""
    turned = np.arange(batch.queues.shape[-2])[::-1]
    wanted = policy.propose(batch)
    other = policy.propose(Census(batch.queues[..., turned, :], batch.pool))
    back = Proposal(other.score[..., turned], other.limit[..., turned], other.pool_limit)
    _assert_same(policy, "queues listed in another order", wanted, back, batch.present, tolerance)


def check_padding(policy: Policy, batch: Census, tolerance: float) -> None:
    """Absent queues change nothing for those that exist."""
    count = batch.queues.shape[-2]
    blank = np.zeros((*batch.queues.shape[:-2], 3, len(Q)))
    wanted = policy.propose(batch)
    other = policy.propose(Census(np.concatenate([batch.queues, blank], axis=-2), batch.pool))
    cut = Proposal(other.score[..., :count], other.limit[..., :count], other.pool_limit)
    _assert_same(policy, "absent queues added", wanted, cut, batch.present, tolerance)


def _assert_same(
    policy: Policy, case: str, one: Proposal, two: Proposal, there: npt.NDArray[np.bool_], tolerance: float
) -> None:
    """Two proposals agree where queues exist."""
    for field in ("score", "limit", "pool_limit"):
        a, b = getattr(one, field), getattr(two, field)
        if field != "pool_limit":
            a, b = a[there], b[there]
        assert np.allclose(a, b, rtol=tolerance, atol=tolerance), f"{policy.name}: {field} differs: {case}"
