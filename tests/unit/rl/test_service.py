"""The controller itself, played against the twin, does what its rule does in the closed loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cma")

from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.model.stacking import stack
from rl.service import Service, pool_of
from rl.simulators import play
from simulations.family import Family
from simulations.scenario import load_scenario

REGIME = Regime(interval_s=60.0, pool_factor=2.0)
DAYS = stack([Family(hours=1.0, queues=(count, count), load=(0.8, 1.0)).world(count) for count in (2, 4)])
WHOLE_DAYS = stack([Family(hours=8.0, queues=(count, count), load=(0.7, 1.1)).world(count) for count in (3, 7)])


@pytest.mark.parametrize("name", ["edf", "atc+reactive+share", "general"])
def test_a_controller_with_a_rule_costs_what_the_rule_costs_in_the_loop(name: str) -> None:
    """To the cent over a whole day: it never takes what it has written itself for a person's."""
    rule = parse_policy(name)
    served = play(WHOLE_DAYS, Service(policy=rule, rule=rule), REGIME)
    looped = play(WHOLE_DAYS, rule, REGIME)
    assert served.finished.all()
    np.testing.assert_allclose(served.cost_usd, looped.cost_usd, rtol=1e-9)


def test_a_controller_with_a_planner_plays_a_day_to_its_end() -> None:
    rule = parse_policy("atc+reactive+share")
    config = PlannerConfig(budget_s=math.inf, every_s=600.0, round_futures=2, most_futures=2)
    planner = Planner(inner=rule, base=rule, config=config)
    day = type(DAYS)(*(table[:1] for table in DAYS))
    served = play(day, Service(policy=planner, rule=rule, look_ahead=config), replace(REGIME, interval_s=120.0))
    assert served.finished.all()
    assert served.cost_usd[0] < 1.5 * play(day, rule, replace(REGIME, interval_s=120.0)).cost_usd[0]


def test_an_operator_tells_of_the_workers_what_the_world_has() -> None:
    world = load_scenario("team-pool").world(1)
    told = pool_of(world)
    assert [worker.limit for worker in told.workers] == [3, 2, 1]
    assert [worker.queues for worker in told.workers] == [
        ("queue-00", "queue-01", "queue-02", "queue-03"), ("queue-01", "queue-02"), ("queue-00", "queue-03"),
    ]  # fmt: skip
    assert pool_of(load_scenario("morning-rush").world(1)).workers == ()
