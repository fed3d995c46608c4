"""Rules, actions, encoder and guard decide the same compiled and interpreted: it is the same source."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefect_intelligent.twin.engine.jit_policies  # noqa: F401  (compiles them)
from prefect_intelligent.policy import (
    RULE_NAMES,
    Census,
    GuardSettings,
    GuardState,
    Proposal,
    backend,
    parse_policy,
    permit,
)
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES, apply_action, unflatten
from prefect_intelligent.policy.encoding import encode
from prefect_intelligent.policy.priority_rules import rank
from prefect_intelligent.testing.strategies import censuses

NAMES = (*RULE_NAMES, "blend+lookahead+share", "fair+fixed:3")


def decided(batch: Census, seed: int) -> list[np.ndarray]:
    """Everything that the functions say about a batch."""
    rng, shape = np.random.default_rng(seed), batch.queues.shape[:-1]
    rules = [parse_policy(name).propose(batch) for name in NAMES]
    pool = rng.integers(0, len(CAPACITY_FACTORS), (shape[0], 1))
    levels = np.concatenate([pool, rng.integers(0, len(PLACES), shape), rng.integers(0, len(SHARES), shape)], axis=-1)
    adjusted = apply_action(rules[-2], batch, unflatten(levels))
    limits = np.array([0.0, 1.0, 2.0, 3.4, 7.0, 40.0, np.inf, np.nan])
    odd = Proposal(rng.normal(size=shape), rng.choice(limits, shape), rng.choice(limits, shape[:-1]))
    state = GuardState(
        own_limit=rng.choice(limits[1:-1], shape),
        order_changed_s=rng.choice([0.0, 990.0], shape[:-1]),
        limit_changed_s=rng.choice([0.0, 990.0], shape),
        pool_changed_s=rng.choice([0.0, 990.0], shape[:-1]),
    )
    found = [part for rule in (*rules, adjusted) for part in (rank(rule.score, batch), rule.limit, rule.pool_limit)]
    for proposal, fallback in ((odd, rules[-2]), (adjusted, None)):
        pins = {"order_pinned": rng.random(shape) < 0.2, "limit_pinned": rng.random(shape) < 0.2}
        rules_of_guard = GuardSettings(queue_max=rng.choice([2.0, np.inf], shape), starvation_s=600.0, **pins)
        age_s = rng.choice([0.0, 301.0], shape[:-1])
        permitted = permit(proposal, batch, state, rules_of_guard, now_s=1000.0, age_s=age_s, fallback=fallback)
        found += [permitted.proposal.score, permitted.proposal.limit, permitted.proposal.pool_limit]
        found += [permitted.queue_notes, permitted.pool_notes, permitted.state.limit_changed_s]
        found += [permitted.state.order_changed_s, permitted.state.pool_changed_s]
    return [*found, *encode(batch, rules[-2])]


@settings(max_examples=40, deadline=None)
@given(batch=censuses(most_queues=6, pools=3), seed=st.integers(0, 2**16))
def test_compiled_and_interpreted_agree(batch: Census, seed: int) -> None:
    fast = decided(batch, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "_compiled", {})
        slow = decided(batch, seed)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
