"""What holds in every world of the twin, whatever the policy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.state import CANCELLED, COMPLETED, FAILED
from prefect_intelligent.twin.simulator import Twin
from simulations.family import Family
from simulations.foreign.nodes import day_in_simpy, day_in_twin, random_capacity_world
from tests.oracles.cost_of_log import cost_of_log

FAMILY = Family(queues=(1, 5), slots=(2, 6), hours=3.0)
POLICIES = ("prefect-default", "edf", "atc+reactive", "atc+lookahead+share")
relaxed = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def played(twin: Twin, policy: str, hours: float = 3.0) -> Twin:
    """The twin after its day under a policy and the time it takes to finish."""
    rule, census = parse_policy(policy), twin.census()
    now_s = twin.now_s.copy()
    for _ in range(int(hours * 30)):
        now_s += 120.0
        census = twin.step(rule.propose(census), now_s)
    twin.finish()
    return twin


@relaxed
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(POLICIES))
def test_every_run_ends_once_and_the_log_tells_the_same_money(seed: int, policy: str) -> None:
    world = FAMILY.world(seed)
    twin = played(Twin(world, log=True), policy)
    log = twin.log()
    assert twin.done.all()
    done = log[log["kind"] == kinds.DONE]
    assert sorted(done["run"]) == list(range(world.runs.shape[1]))
    assert set(done["where"]) <= {COMPLETED, FAILED, CANCELLED}
    assert np.all(np.diff(log["at_s"]) >= 0)
    by_log, counted = cost_of_log(world, log, until_s=float(twin.now_s[0])), twin.cost()
    for part in ("capacity_usd", "lateness_usd", "failure_usd"):
        assert getattr(by_log, part) == pytest.approx(getattr(counted, part), rel=1e-9, abs=1e-9), part


@relaxed
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(POLICIES))
def test_the_same_world_gives_the_same_log_bit_for_bit(seed: int, policy: str) -> None:
    first, second = (played(Twin(FAMILY.world(seed), log=True), policy).log() for _ in range(2))
    assert first.tobytes() == second.tobytes()


@relaxed
@given(seed=st.integers(0, 10_000), policy=st.sampled_from(POLICIES))
def test_a_restored_state_goes_on_as_it_did(seed: int, policy: str) -> None:
    twin = Twin(FAMILY.world(seed))
    twin.advance(twin.now_s + 3600.0)
    saved = twin.save()
    fork = twin.fork(0, 3)
    ends = []
    for each in (twin, twin, fork):
        if each is twin:
            twin.restore(saved)
        played(each, policy, 1.0)
        ends.append(each.money[0].tolist())
    assert ends[0] == ends[1] == ends[2]
    assert np.all(fork.money == fork.money[0])


@relaxed
@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=4, unique=True))
def test_a_world_does_not_notice_its_neighbours_in_the_batch(seeds: list[int]) -> None:
    together = played(Twin(stack([FAMILY.world(seed) for seed in seeds])), "atc+reactive")
    for row, seed in enumerate(seeds):
        alone = played(Twin(FAMILY.world(seed)), "atc+reactive")
        np.testing.assert_allclose(alone.money[0], together.money[row], rtol=1e-12)


@relaxed
@given(seed=st.integers(0, 10_000), limits=st.lists(st.integers(0, 3), min_size=5, max_size=5), pool=st.integers(1, 4))
def test_claims_respect_the_limits_in_force(seed: int, limits: list[int], pool: int) -> None:
    twin = Twin(FAMILY.world(seed), log=True)
    twin.world.deployments["retry_in_process"] = 0  # these would resume without asking for a slot
    width = twin.world.queues.shape[1]
    wanted = Proposal(np.zeros((1, width)), np.array([limits[:width]], dtype=float), np.array([float(pool)]))
    twin.plan(wanted)
    twin.advance(twin.now_s + 3 * 3600.0)
    log = twin.log()
    active = np.zeros(width, dtype=int)
    for entry in log:
        if entry["run"] < 0:
            continue
        queue = twin.world.runs["queue"][0, entry["run"]]
        if entry["kind"] == kinds.ENDED:
            active[queue] -= 1
        elif entry["kind"] == kinds.CLAIMED:
            active[queue] += 1
            assert active[queue] <= limits[queue]
            assert active.sum() <= pool
    assert np.array_equal(active, twin.state.queues["active"][0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_bought_slots_cost_what_a_model_of_nodes_in_simpy_says(seed: int) -> None:
    world = random_capacity_world(seed)
    here, there = day_in_twin(world), day_in_simpy(world)
    assert here.usd == pytest.approx(there.usd, rel=1e-9)
    np.testing.assert_allclose(here.starts_s, there.starts_s, rtol=0, atol=1e-6)
