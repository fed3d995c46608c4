"""The levers and the learned policy, for any pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.policy import Census, P, Q, RulePolicy
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, Levels, apply_action, flatten, neutral, unflatten
from prefect_intelligent.policy.encoding import encode
from prefect_intelligent.policy.learned import LearnedPolicy
from prefect_intelligent.policy.network import Network, weight_shapes
from prefect_intelligent.policy.priority_rules import rank
from prefect_intelligent.testing.policies import check_policy
from prefect_intelligent.testing.strategies import censuses

BASE = RulePolicy(priority="blend", capacity="lookahead", limits="share")


def learned(seed: int, scale: float = 0.3, margin: float = 0.0) -> LearnedPolicy:
    rng = np.random.default_rng(seed)
    weights = {
        name: (np.ones(shape) if name.endswith(".std") else rng.normal(0, scale, shape)).astype(np.float32)
        for name, shape in weight_shapes(16).items()
    }
    return LearnedPolicy(name="learned", base=BASE, network=Network(weights), margin=margin)


@settings(max_examples=30, deadline=None)
@given(batch=censuses(pools=3), seed=st.integers(0, 1000))
def test_a_network_of_any_weights_makes_a_well_behaved_policy(batch: Census, seed: int) -> None:
    check_policy(learned(seed), batch, tolerance=1e-4)


@settings(max_examples=20, deadline=None)
@given(batch=censuses(pools=2))
def test_a_network_without_an_opinion_is_the_rule(batch: Census) -> None:
    wanted, rule = learned(0, scale=0.0).propose(batch), BASE.propose(batch)
    there = batch.present
    assert np.array_equal(rank(wanted.score, batch), rank(rule.score, batch))
    assert np.array_equal(wanted.limit[there], rule.limit[there])
    assert np.array_equal(wanted.pool_limit, rule.pool_limit)


@settings(max_examples=20, deadline=None)
@given(batch=censuses(pools=2), where=st.sampled_from([Q.WAITING, Q.HEAD_WAIT_S, Q.ESTIMATE_S]))
def test_numbers_that_are_none_leave_the_rule_and_spoil_no_other_pool(batch: Census, where: Q) -> None:
    policy = learned(1)
    sane = policy.propose(batch)
    batch.queues[0, 0, where] = np.nan
    spoilt, rule = policy.propose(batch), BASE.propose(batch)
    assert np.array_equal(rank(spoilt.score, batch)[0], rank(rule.score, batch)[0])
    assert np.array_equal(spoilt.limit[0], rule.limit[0])
    assert np.array_equal(spoilt.limit[1], sane.limit[1])
    assert np.array_equal(spoilt.score[1], sane.score[1])


@settings(max_examples=20, deadline=None)
@given(batch=censuses(pools=2))
def test_neutral_levels_change_nothing_and_survive_flattening(batch: Census) -> None:
    rule = BASE.propose(batch)
    levels = unflatten(flatten(neutral(batch)))
    same = apply_action(rule, batch, levels)
    assert np.array_equal(rank(same.score, batch), rank(rule.score, batch))
    assert np.array_equal(same.limit, rule.limit)
    assert np.array_equal(same.pool_limit, rule.pool_limit)


def test_levers_do_what_they_say() -> None:
    table, pool = np.zeros((3, len(Q))), np.zeros(len(P))
    table[:, Q.PRESENT], table[:, Q.RANK], table[:, Q.LIMIT] = 1, [0, 1, 2], np.inf
    pool[P.LIMIT], pool[P.MOST] = 10, np.inf
    census = Census(table, pool)
    rule = RulePolicy(priority="prefect-default").propose(census)
    levels = Levels(np.array(6), np.array([0, 1, 2]), np.array([0, 1, 2]))  # x2; last, kept, first; quarter, half, all
    wanted = apply_action(rule, census, levels)
    assert rank(wanted.score, census).tolist() == [2, 1, 0]
    assert wanted.pool_limit == 20
    assert wanted.limit.tolist() == [5, 10, np.inf]


@pytest.mark.parametrize(
    ("most", "factor", "slots"),
    [(12, 2.0, 20), (12, 0.5, 5), (10, 0.5, 10), (6, 0.5, 10), (6, 2.0, 12), (6, 1.0, 10)],
)
def test_factors_apply_to_what_the_pool_may_get_and_never_give_away_what_it_lacks(
    most: float, factor: float, slots: float
) -> None:
    table, pool = np.zeros((1, len(Q))), np.zeros(len(P))
    table[:, Q.PRESENT], table[:, Q.LIMIT] = 1, np.inf
    pool[P.LIMIT], pool[P.MOST] = 10, most
    census = Census(table, pool)
    rule = RulePolicy(priority="prefect-default").propose(census)  # wants 10 slots
    level = np.array(CAPACITY_FACTORS.index(factor))
    assert apply_action(rule, census, neutral(census)._replace(capacity=level)).pool_limit == slots


@settings(max_examples=10, deadline=None)
@given(batch=censuses(pools=2), seed=st.integers(0, 100))
def test_absent_queues_contribute_nothing(batch: Census, seed: int) -> None:
    policy = learned(seed)
    _, seen, gains = policy.predict(batch)
    noisy = encode(batch, BASE.propose(batch))
    noisy.queues[~noisy.mask] = 99.0
    again = policy.network.gains(noisy)
    assert np.allclose(gains.capacity, again.capacity, atol=1e-5)
    assert (again.place[~seen.mask] == 0).all()
    assert (again.share[~seen.mask] == 0).all()
