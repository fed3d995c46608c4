"""What `doctor` says of settings."""

import pytest

from prefect_intelligent.domain import Prices
from prefect_intelligent.steering.preflight import check_idle_price, check_interval, check_steering


@pytest.mark.parametrize(("interval_s", "poll_s", "says"), [(1.0, 10.0, "20"), (19.0, 10.0, "20"), (4.0, 3.0, "6")])
def test_an_interval_below_two_polls_is_worth_knowing(interval_s, poll_s, says):
    found = check_interval(interval_s, poll_s)
    assert found.level == "note"
    assert f"set interval_s to {says} or more" in found.advice


def test_an_interval_of_two_polls_is_fine():
    assert check_interval(20.0, 10.0) is None


@pytest.mark.parametrize(("position", "level"), [("on", "fine"), ("off", "note"), ("unset", "note")])
def test_who_steers_is_said_and_is_no_problem(position, level):
    assert check_steering(position, led=False).level == level


def test_what_an_unused_slot_costs_is_said():
    for limit, prices in ((4, Prices(idle_fraction=0.0)), (None, Prices(idle_fraction=1.0))):
        found = check_idle_price(limit, prices)
        assert found.level == "fine"
        assert "no rule lowers" in found.what
    assert "$0.05 an hour" in check_idle_price(4, Prices(slot_usd_per_hour=0.1, idle_fraction=0.5)).what
