"""What the encoder promises for any census."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.policy import Census, P, Q, parse_policy
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Observation, encode
from prefect_intelligent.testing.strategies import censuses

BASE = parse_policy("atc+lookahead+share")


def observe(census: Census) -> Observation:
    return encode(census, BASE.propose(census))


@settings(max_examples=40, deadline=None)
@given(batch=censuses(pools=2))
def test_features_are_finite_named_and_zero_where_no_queue_is(batch: Census) -> None:
    seen = observe(batch)
    assert seen.queues.shape == (*batch.queues.shape[:-1], len(QUEUE_FEATURES))
    assert seen.pool.shape == (2, len(POOL_FEATURES))
    assert seen.queues.dtype == seen.pool.dtype == np.float32
    assert np.isfinite(seen.queues).all()
    assert np.isfinite(seen.pool).all()
    assert (seen.queues[~seen.mask] == 0).all()
    assert np.abs(seen.queues).max() < 50


@settings(max_examples=40, deadline=None)
@given(census=censuses(), data=st.data())
def test_listing_queues_in_another_order_lists_their_rows_in_that_order(census: Census, data: st.DataObject) -> None:
    turned = np.array(data.draw(st.permutations(range(census.queues.shape[-2]))))
    one, other = observe(census), observe(Census(census.queues[turned], census.pool))
    assert np.allclose(one.queues[turned], other.queues, atol=1e-5)
    assert np.allclose(one.pool, other.pool, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(batch=censuses(pools=3))
def test_a_pool_is_seen_the_same_alone_and_in_a_padded_batch(batch: Census) -> None:
    together = observe(batch)
    for i in range(3):
        count = int(batch.present[i].sum())
        alone = observe(Census(batch.queues[i, :count], batch.pool[i]))
        assert np.allclose(alone.queues, together.queues[i, :count], atol=1e-5)
        assert np.allclose(alone.pool, together.pool[i], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(census=censuses(), days=st.integers(1, 5))
def test_the_day_does_not_matter(census: Census, days: int) -> None:
    later = Census(census.queues.copy(), census.pool.copy())
    later.pool[P.HOUR] += 24.0 * days
    assert np.allclose(observe(census).pool, observe(later).pool, atol=1e-5)


def test_money_is_seen_relative_to_the_price_of_a_slot() -> None:
    table, pool = np.zeros((1, len(Q))), np.zeros(len(P))
    table[0, [Q.PRESENT, Q.WAITING, Q.USD_PER_HOUR]] = 1, 1, 8.0
    pool[P.SLOT_USD_PER_HOUR] = 0.2
    dearer = Census(table * np.where(np.arange(len(Q)) == Q.USD_PER_HOUR, 10.0, 1.0), pool.copy())
    dearer.pool[P.SLOT_USD_PER_HOUR] = 2.0
    price = QUEUE_FEATURES.index("price")
    assert observe(Census(table, pool)).queues[0, price] == np.float32(np.log1p(40.0))
    assert observe(dearer).queues[0, price] == np.float32(np.log1p(40.0))
