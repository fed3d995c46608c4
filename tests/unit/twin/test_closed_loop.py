"""The closed loop counts what the guard permits against its promise, where it is asked to, and nothing else changes."""

import numpy as np
import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import P
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.simulator import Twin
from simulations.family import Family

REGIME = Regime(interval_s=120.0, pool_factor=4.0)
FAMILY = Family(queues=(3, 3), slots=(3, 4), load=(0.9, 1.2), hours=2.0)


def loop(regime: Regime = REGIME, *, audit: bool, guarded: bool = True) -> ClosedLoop:
    twin = Twin(stack([FAMILY.world(seed) for seed in range(3)]))
    return ClosedLoop(twin, regime, parse_policy("atc+reactive"), audit=audit, guarded=guarded)


def nothing_runs(loop: ClosedLoop) -> Proposal:
    """Limits of 0 for every queue, and half a slot for the pool."""
    shape = loop.census.present.shape
    return Proposal(np.zeros(shape), np.zeros(shape), np.full(shape[0], 0.5))


def test_what_no_guard_prevents_is_counted_in_each_world():
    bare = loop(audit=True, guarded=False)
    bare.step(parse_policy("edf").propose(bare.census))
    assert not bare.violations.any()
    bare.step(nothing_runs(bare))
    assert (bare.violations >= 1).all()


def test_the_guard_lets_nothing_pass_whoever_decides():
    guarded = loop(audit=True)
    for step in range(30):
        if step % 3 == 0:
            guarded.step(nothing_runs(guarded))
        elif step % 3 == 1:
            guarded.follow()
        else:
            guarded.act(np.zeros_like(guarded.twin.buffers.actions))
    assert not guarded.violations.any()


def test_an_audit_changes_nothing_else():
    money = []
    for audit in (True, False):
        played = loop(audit=audit)
        money.append(played.play(parse_policy("edf+reactive")))
    assert np.array_equal(money[0], money[1])


def test_violations_that_nobody_counts_are_not_zero():
    plain = loop(audit=False)
    with pytest.raises(InvalidInputError, match="audit=True"):
        _ = plain.violations
    with pytest.raises(InvalidInputError, match="audit=True"):
        _ = loop(audit=True).fork(np.array([0])).violations


@pytest.mark.parametrize("factor", [1.0, 2.0, np.inf])
def test_no_limit_goes_beyond_what_people_gave_the_pool_times_the_factor(factor: float) -> None:
    bounded = loop(Regime(pool_factor=factor), audit=False)
    given = bounded.twin.world.pools["limit"][:, 0]
    seen = []
    for _ in range(60):
        wanted = bounded.rule
        bounded.step(Proposal(wanted.score, wanted.limit, np.full(3, 1e6)))
        seen.append(bounded.twin.state.pools["limit"][:, 0].copy())
    most = np.minimum(factor * given, bounded.twin.world.pools["max_slots"][:, 0])
    assert (np.max(seen, axis=0) <= most).all()
    assert (np.array(seen)[-1] == most).any()
    assert np.array_equal(bounded.census[P.MOST], most)
