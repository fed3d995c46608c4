"""The twin's native census equals the one taken from the equivalent snapshot."""

import numpy as np
import pytest

from prefect_intelligent.policy.census import P, Q, take_census
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.to_snapshot import snapshot_of
from simulations.family import Family
from simulations.scenario import load_scenario
from simulations.workload import draw_world

FAMILY = Family(queues=(1, 8), slots=(2, 6), load=(0.6, 1.3), hours=4.0)


@pytest.mark.parametrize(
    ("source", "policy"), [(FAMILY, "prefect-default"), (FAMILY, "atc+reactive+share"), ("team-pool", "atc+share")]
)
def test_every_column_of_every_queue_is_that_of_the_snapshot(source: Family | str, policy: str) -> None:
    drawn = load_scenario(source) if isinstance(source, str) else source
    twin = Twin(stack([drawn.world(seed) for seed in range(6)]))
    rule, census = parse_policy(policy), twin.census()
    seen = np.zeros(len(Q), dtype=bool)
    for step in range(1, 40):
        census = twin.step(rule.propose(census), twin.world.settings["start_s"] + 410.0 * step)
        if step % 3:
            continue
        for row in range(twin.n_worlds):
            slow = take_census(snapshot_of(twin, row))
            there = census.queues[row][census.present[row]]
            np.testing.assert_allclose(census.pool[row], slow.pool, rtol=1e-9, err_msg=f"pool {row}")
            for column in Q:
                np.testing.assert_allclose(
                    there[:, column], slow.queues[:, column], rtol=1e-9, atol=1e-9, err_msg=f"{column.name} in {row}"
                )
            seen |= (there != 0).any(axis=0)
    if source == FAMILY:
        never = {column.name for column in Q if not seen[column]}
        assert never <= {"PAUSED"}, f"no world of the test fills {never}"


@pytest.mark.parametrize("seed", range(4))
def test_runs_inherit_from_their_followers_alike(seed: int) -> None:
    spec = load_scenario("nightly-dag")
    twin = Twin(stack([draw_world(spec, seed)]))
    rule, census = parse_policy("atc+reactive+share"), twin.census()
    begin_s, followed, deepest = float(twin.world.settings["start_s"][0]), 0.0, 0
    for step in range(1, 60):
        census = twin.step(rule.propose(census), begin_s + 600.0 * step)
        snapshot = snapshot_of(twin)
        slow = take_census(snapshot)
        np.testing.assert_allclose(census.pool[0], slow.pool, rtol=1e-9)
        np.testing.assert_allclose(census.queues[0][census.present[0]], slow.queues, rtol=1e-9, atol=1e-9)
        followed = max(followed, float(slow.pool[P.FOLLOWING_WORK_S]))
        deepest = max(deepest, len({each.run.deployment for each in snapshot.followers}))
    assert followed > 0
    assert deepest >= 3  # clean, marts and report behind the extracts


def test_absent_queues_are_all_zero() -> None:
    family = Family(queues=(1, 1), hours=1.0)
    census = Twin(stack([family.world(1), Family(queues=(5, 5), hours=1.0).world(2)])).census()
    assert census.queues.shape[1:] == (5, len(Q))
    assert not census.queues[0, 1:].any()
    assert census.pool.shape == (2, len(P))
