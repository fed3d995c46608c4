"""The objective, with the arithmetic in sight."""

import math

import pytest

from prefect_intelligent.domain import Cost, Prices, run_cost
from prefect_intelligent.domain.objective import busy_usd, idle_usd, lateness_usd, weighted_late_minutes
from prefect_intelligent.errors import InvalidInputError


def test_a_run_costs_its_slot_its_lateness_and_its_failure():
    prices = Prices(slot_usd_per_hour=0.60)
    cost = run_cost(prices, held_s=600, late_s=1800, late_usd_per_hour=40, failed=True, failure_usd=7)
    assert cost.capacity_usd == pytest.approx(0.10)  # 600 / 3600 * 0.60
    assert cost.lateness_usd == pytest.approx(20.0)  # 1800 / 3600 * 40
    assert cost.failure_usd == 7.0
    assert cost.total_usd == pytest.approx(27.10)


def test_a_short_run_is_billed_for_the_minimum():
    assert busy_usd(5, 0.60, 60) == pytest.approx(0.01)  # 60 / 3600 * 0.60


def test_an_idle_slot_costs_its_share():
    assert idle_usd(3600, 0.60, 0.5) == pytest.approx(0.30)
    assert idle_usd(3600, 0.60, 0.0) == 0.0


def test_being_early_earns_nothing():
    assert lateness_usd(-3600, 40, 1) == 0.0


def test_the_dial_scales_lateness_and_nothing_else():
    doubled = run_cost(Prices(lateness_weight=2), held_s=3600, late_s=3600, late_usd_per_hour=1)
    plain = run_cost(Prices(lateness_weight=1), held_s=3600, late_s=3600, late_usd_per_hour=1)
    assert doubled.lateness_usd == 2 * plain.lateness_usd
    assert doubled.capacity_usd == plain.capacity_usd


def test_late_minutes_weigh_their_price_over_the_mean_price():
    usd = lateness_usd(600, 30, 2) + lateness_usd(600, 10, 2)  # ten minutes late at 30 $/h and ten at 10 $/h
    assert weighted_late_minutes(usd, 20, 2) == pytest.approx(10 * 30 / 20 + 10 * 10 / 20)
    assert weighted_late_minutes(0.0, 0.0, 2) == 0.0


def test_costs_add():
    total = Cost(capacity_usd=1) + Cost(lateness_usd=2) + Cost(failure_usd=3)
    assert total == Cost(capacity_usd=1, lateness_usd=2, failure_usd=3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("slot_usd_per_hour", -0.1), ("min_billing_s", math.nan), ("lateness_weight", math.inf), ("idle_fraction", 1.1)],
)
def test_a_price_must_make_sense(field, value):
    with pytest.raises(InvalidInputError, match=field):
        Prices(**{field: value})
