"""Which workers come and go; checked on every fleet that Hypothesis can think of."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.capacity.fleet_plan import FleetBounds, FleetMember, plan_fleet
from prefect_intelligent.errors import InvalidInputError


def member(name, **more):
    return FleetMember(name=name, slots=1, **more)


def test_workers_are_started_at_once_and_within_the_bounds():
    assert plan_fleet([], 3, FleetBounds(most=8)).start == 3
    assert plan_fleet([], 30, FleetBounds(most=8)).start == 8
    assert plan_fleet([], 0, FleetBounds(least=2)).start == 2
    assert plan_fleet([], 5, FleetBounds(slots_each=2)).start == 3
    assert plan_fleet([member("a")], 3, FleetBounds()).start == 2


def test_only_idle_workers_that_have_been_idle_for_long_end_the_longest_idle_first():
    fleet = [member("a", busy=1), member("b", idle_s=50), member("c", idle_s=90), member("d", idle_s=5)]
    assert plan_fleet(fleet, 1, FleetBounds(keep_s=30)).drain == ("c", "b")
    assert plan_fleet(fleet, 3, FleetBounds(keep_s=30)).drain == ("c",)
    assert plan_fleet(fleet, 0, FleetBounds(least=3, keep_s=30)).drain == ("c",)


def test_a_worker_that_drains_goes_on_before_another_is_started():
    fleet = [member("a", busy=1, draining=True), member("b", draining=True), member("c", busy=1)]
    plan = plan_fleet(fleet, 3, FleetBounds())
    assert (plan.resume, plan.start) == (("a", "b"), 0)
    plan = plan_fleet(fleet, 2, FleetBounds())
    assert (plan.resume, plan.start) == (("a",), 0)


def test_those_that_drain_count_against_the_most():
    fleet = [member(str(n), busy=1, draining=True) for n in range(3)]
    plan = plan_fleet(fleet, 5, FleetBounds(most=4))
    assert len(plan.resume) == 3
    assert plan.start == 1


members = st.lists(
    st.builds(
        lambda busy, draining, idle_s, slots: FleetMember(
            name="", slots=slots, busy=min(busy, slots), draining=draining, idle_s=0.0 if busy else idle_s
        ),
        st.integers(0, 3),
        st.booleans(),
        st.floats(0, 500),
        st.integers(1, 3),
    ),
    max_size=12,
)
bounds = st.builds(
    lambda least, more, slots_each, keep_s: FleetBounds(
        least=least, most=max(1, least + more), slots_each=slots_each, keep_s=keep_s
    ),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(1, 3),
    st.floats(0, 100),
)


@given(members, st.integers(0, 60), bounds)
def test_no_plan_takes_a_worker_from_a_run_or_breaks_a_bound(fleet, slots, bound):
    fleet = [FleetMember(**{f: getattr(m, f) for f in m.__slots__} | {"name": str(n)}) for n, m in enumerate(fleet)]
    by_name = {m.name: m for m in fleet}
    plan = plan_fleet(fleet, slots, bound)
    assert all(by_name[name].busy == 0 and not by_name[name].draining for name in plan.drain)
    assert all(by_name[name].idle_s >= bound.keep_s for name in plan.drain)
    assert all(by_name[name].draining for name in plan.resume)
    serving = sum(not m.draining for m in fleet)
    after = serving + max(plan.start, 0) + len(plan.resume) - len(plan.drain)
    wanted = min(max(math.ceil(slots / bound.slots_each), bound.least), bound.most)
    if plan.start > 0:
        assert len(fleet) + plan.start <= bound.most
        assert after <= wanted
    if plan.drain:
        assert after >= wanted
    if serving < wanted:
        assert after > serving or len(fleet) >= bound.most


@pytest.mark.parametrize(
    ("bound", "says"),
    [
        ({"least": -1}, "--least: got -1; must be 0 or more"),
        ({"most": 0}, "--most: got 0; must be 1 or more"),
        ({"least": 3, "most": 2}, "--most: got 2; is below --least"),
        ({"slots_each": 0}, "--slots-each: got 0"),
        ({"keep_s": math.nan}, "--keep: got nan"),
    ],
)
def test_bounds_that_cannot_be(bound, says):
    with pytest.raises(InvalidInputError, match=says):
        FleetBounds(**bound)
