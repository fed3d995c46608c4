"""What an unused slot costs follows from which capacity is in force, and the twin has capacity that boots."""

import pytest

from prefect_intelligent.domain import PoolSetting, QueueSetting
from prefect_intelligent.settings import PoolSettings, PriceSettings, Settings
from prefect_intelligent.wiring.capacity import BOOT, boot_s
from prefect_intelligent.wiring.history import open_history
from prefect_intelligent.wiring.replay import pool_model


def of(prices=None, **own):
    settings = Settings(pools={"p": PoolSettings(**own)}, prices=PriceSettings(**(prices or {})))
    return settings.prices_of("p").idle_fraction


@pytest.mark.parametrize(
    ("capacity", "idle_fraction"), [(None, 0.0), ("fixed", 0.0), ("serverless", 0.0), ("scaled", 1.0)]
)
def test_an_unused_slot_costs_what_is_paid_for_it(capacity, idle_fraction):
    assert of(capacity=capacity) == idle_fraction


def test_a_fraction_that_was_given_overrules_the_kind_of_capacity():
    assert of(capacity="scaled", idle_fraction=0.3) == 0.3
    assert of(prices={"idle_fraction": 0.7}, capacity="serverless") == 0.7


def model(settings):
    return pool_model(settings, PoolSetting(name="p", limit=4, type="process"), (QueueSetting(name="q", priority=1),))


def test_scaled_capacity_boots_in_the_twin_as_long_as_workers_took(tmp_path):
    settings = Settings(data_dir=tmp_path, pools={"p": PoolSettings(capacity="scaled")})
    assert boot_s(settings, "p") == 0.0
    assert list(tmp_path.iterdir()) == []  # looking makes no history
    history = open_history(settings)
    for seconds in (3.0, 100.0, 5.0):
        history.append(BOOT, "p", 1.0, {"seconds": seconds})
    history.append(BOOT, "p", 1.0, {"damaged": True})
    history.append(BOOT, "other", 1.0, {"seconds": 900.0})
    assert model(settings).boot_s == boot_s(settings, "p") == 5.0
    assert model(settings).follows_demand
    said = Settings(data_dir=tmp_path, pools={"p": PoolSettings(capacity="scaled", boot_s=60.0)})
    assert model(said).boot_s == 60.0


def test_other_capacity_does_not_boot(tmp_path):
    for capacity, owned in ((None, True), ("fixed", True), ("serverless", False)):
        found = model(Settings(data_dir=tmp_path, pools={"p": PoolSettings(capacity=capacity)}))
        assert (found.owned, found.boot_s, found.follows_demand) == (owned, 0.0, False)
