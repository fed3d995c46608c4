"""The objective of a period, by hand."""

from dataclasses import dataclass

import pytest

from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.period_cost import period_cost

PRICES = Prices(slot_usd_per_hour=3600.0, idle_fraction=0.5)  # a dollar a slot-second, half of it idle


@dataclass(frozen=True, kw_only=True)
class Ended:
    started_s: float
    finished_s: float
    due_s: float | None = None
    late_usd_per_hour: float = 0.0
    failure_usd: float = 0.0
    failed: bool = False


def test_a_period_costs_its_runs_and_the_slots_that_nothing_held():
    late = Ended(started_s=10, finished_s=40, due_s=30, late_usd_per_hour=7200.0)  # two dollars a second
    failed = Ended(started_s=20, finished_s=30, failed=True, failure_usd=5.0)
    cost = period_cost([late, failed], PRICES, [(0, 2)], begin_s=0, end_s=50)
    held, idle = 30 + 10, 2 * 50 - 40
    assert cost.capacity_usd == pytest.approx(held + 0.5 * idle)
    assert cost.lateness_usd == pytest.approx(2.0 * 10)
    assert cost.failure_usd == 5.0


def test_slots_held_above_a_lowered_limit_are_not_idle_and_save_nothing():
    runs = [Ended(started_s=0, finished_s=20), Ended(started_s=0, finished_s=20)]
    # 2 slots for 10 s, 1 for 10 s while two are held, 1 for another 10 s
    cost = period_cost(runs, PRICES, [(0, 2), (10, 1)], begin_s=0, end_s=30)
    assert cost.capacity_usd == pytest.approx(40 + 0.5 * 10)


def test_an_unlimited_pool_pays_for_what_is_held():
    cost = period_cost([Ended(started_s=5, finished_s=15)], PRICES, [(0, None)], begin_s=0, end_s=60)
    assert cost.capacity_usd == pytest.approx(10)


def test_a_limit_that_comes_and_goes_counts_from_when_it_changes_within_the_period():
    cost = period_cost([], PRICES, [(0, 1), (-5, 4), (10, None), (20, 2), (99, 7)], begin_s=0, end_s=30)
    assert cost.capacity_usd == pytest.approx(0.5 * (4 * 10 + 2 * 10))
