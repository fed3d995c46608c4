"""Every composed rule is a well-behaved policy, whatever the pool looks like."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from prefect_intelligent.policy import RULE_NAMES, Census, P, Q, parse_policy
from prefect_intelligent.policy.priority_rules import rank
from prefect_intelligent.testing.policies import check_policy
from prefect_intelligent.testing.strategies import censuses


@settings(max_examples=20, deadline=None)
@given(batch=censuses(pools=3))
def test_every_rule_conforms_and_its_ranks_are_a_permutation_with_absent_queues_last(batch: Census) -> None:
    there = batch.present.sum(-1, keepdims=True)
    for name in (*RULE_NAMES, "blend+lookahead+share", "fair+fixed:3"):
        policy = parse_policy(name)
        check_policy(policy, batch)
        places = rank(policy.propose(batch).score, batch)
        assert (np.sort(places, axis=-1) == np.arange(places.shape[-1])).all(), name
        assert ((places < there) == batch.present).all(), name


@settings(max_examples=30, deadline=None)
@given(census=censuses())
def test_default_changes_nothing(census: Census) -> None:
    wanted = parse_policy("prefect-default").propose(census)
    assert np.array_equal(rank(wanted.score, census), census[Q.RANK])
    assert np.array_equal(wanted.limit, census[Q.LIMIT])
    assert np.array_equal(wanted.pool_limit, census[P.LIMIT])
