"""How a policy is run is a value: its defaults are the settings', it survives JSON, and differences are told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.bundle import IDLE_FRACTION, SHIPPED, read_bundle, write_bundle
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.settings import PoolSettings, PriceSettings, Settings
from prefect_intelligent.wiring.regime import outside_regime, pool_regime


def test_the_default_is_what_a_controller_does_without_a_setting() -> None:
    settings = Settings()
    guard = GuardSettings(**settings.guard.model_dump())
    assert Regime().to_dict() == Regime(interval_s=settings.interval_s, guard=guard, pool_factor=1.0).to_dict()


@pytest.mark.parametrize("factor", [1.0, 4.0, math.inf])
def test_it_survives_json(factor: float) -> None:
    regime = Regime(interval_s=60.0, guard=GuardSettings(step_slots=8.0), pool_factor=factor)
    again = Regime.from_dict(json.loads(json.dumps(regime.to_dict(), allow_nan=False)))
    assert again.to_dict() == regime.to_dict()
    assert again.pool_factor == factor


@pytest.mark.parametrize("values", [{"interval_s": 0.0}, {"interval_s": math.nan}, {"pool_factor": 0.5}])
def test_what_cannot_be_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        Regime(**values)
    with pytest.raises(InvalidInputError, match="is not one"):
        Regime.from_dict({"interval_s": 20.0})


def test_differences_are_told_and_smaller_bounds_are_none() -> None:
    trained = Regime(pool_factor=2.0)
    assert Regime(pool_factor=1.0).outside(trained) == ()
    told = replace(trained, interval_s=60.0, pool_factor=4.0, guard=GuardSettings(step_slots=8.0)).outside(trained)
    assert told == (
        "a decision every 60 s, not 20 s",
        "guard.step_slots 8, not 4",
        "a pool limit up to 4 times the given, not 2",
    )


def test_a_controller_says_when_it_runs_a_bundle_outside_its_regime() -> None:
    assert outside_regime(Settings(policy="general", interval_s=60.0), "etl") == ()
    priced = PriceSettings(idle_fraction=1.0)
    assert outside_regime(Settings(policy="shipped", prices=priced), "etl", 4) == ()
    told = outside_regime(
        Settings(policy="planner:shipped", interval_s=60.0, prices=priced, pools={"etl": {"most_slots": 8}}), "etl", 4
    )
    assert told == ("a decision every 60 s, not 20 s", "a pool limit up to 2 times the given, not 1")


def test_a_pool_in_which_an_unused_slot_costs_nothing_is_told_from_days_on_which_it_does(tmp_path: Path) -> None:
    (told,) = outside_regime(Settings(policy="shipped"), "etl", 4)
    assert told.startswith("an unused slot costs nothing")
    scaled = {"etl": PoolSettings(capacity="scaled")}
    assert outside_regime(Settings(policy="shipped", pools=scaled), "etl", 4) == ()
    free = replace(read_bundle(SHIPPED), evaluation={IDLE_FRACTION: 0.0})
    write_bundle(free, tmp_path)
    assert outside_regime(Settings(policy=str(tmp_path)), "etl", 4) == ()
    (told,) = outside_regime(Settings(policy=str(tmp_path), pools=scaled), "etl", 4)
    assert told.startswith("an unused slot costs something")


def test_a_pool_may_get_what_people_gave_it_also_while_steering_has_lowered_its_limit() -> None:
    queues = [QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2)]
    assert pool_regime(Settings(), "etl", queues, 8).guard.pool_max == 8
    assert math.isinf(float(pool_regime(Settings(), "etl", queues, None).guard.pool_max))
    own = Settings(pools={"etl": {"most_slots": 12, "least_slots": 2, "queues": {"b": {"most": 3}}}})
    guard = pool_regime(own, "etl", queues, 8).guard
    assert (guard.pool_min, guard.pool_max, guard.queue_max.tolist()) == (2, 12, [math.inf, 3])


def test_regimes_written_before_a_figure_was_there_are_read() -> None:
    written = Regime().to_dict()
    del written["guard"]["lower_after_s"]
    assert Regime.from_dict(written).to_dict() == Regime().to_dict()
    del written["guard"]["ttl_s"]
    with pytest.raises(InvalidInputError, match="is not one"):
        Regime.from_dict(written)
