"""What runs inherit from those that wait for them."""

import math
from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.domain import Estimate, Run, RunPhase
from prefect_intelligent.domain.followers import Follower, inherit


def follower(name, after, *, due_s=None, usd=0.0, p50_s=100.0):
    run = Run(
        id=name,
        deployment=name,
        queue="q",
        phase=RunPhase.UPCOMING,
        scheduled_s=0.0,
        estimate=Estimate(p50_s=p50_s, p90_s=p50_s),
        due_s=due_s,
        late_usd_per_hour=usd,
    )
    return Follower(run=run, after=tuple(after))


def test_the_longest_path_back_from_a_deadline_decides():
    clean = follower("clean", ["a", "b"], p50_s=600.0)
    marts = follower("marts", ["clean"], due_s=5000.0, usd=4.0, p50_s=300.0)
    report = follower("report", ["marts"], due_s=9000.0, usd=30.0, p50_s=200.0)
    found = inherit([report, clean, marts])
    assert found["marts"].due_s == 9000.0 - 200.0
    assert found["clean"].due_s == min(5000.0, found["marts"].due_s) - 300.0
    assert found["a"].due_s == found["clean"].due_s - 600.0
    assert found["a"].usd_per_hour == found["b"].usd_per_hour == (4.0 + 30.0) / 2


def test_what_cannot_be_late_gives_no_price():
    found = inherit([follower("b", ["a"], usd=7.0)])
    assert (found["a"].due_s, found["a"].usd_per_hour) == (math.inf, 0.0)
    assert inherit([]) == {}


def test_followers_that_wait_for_each_other_are_refused():
    with pytest.raises(CycleError):
        inherit([follower("a", ["b"]), follower("b", ["a"])])


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 11), min_size=1, max_size=4), st.floats(0.0, 50.0), st.booleans()), max_size=8
    )
)
def test_prices_are_conserved(lines):
    """The runs that exist carry the prices of all that can be late behind them, each once."""
    lines = [(["r0", *(f"r{one}" if one < 4 else f"f{one - 4}" for one in after if one < 4 + place)], usd, late)
             for place, (after, usd, late) in enumerate(lines)]  # fmt: skip
    followers = [
        follower(f"f{place}", dict.fromkeys(after), due_s=1e4 if late else None, usd=usd)
        for place, (after, usd, late) in enumerate(lines)
    ]
    found = inherit(followers)
    total = sum(one.usd_per_hour for key, one in found.items() if key.startswith("r"))
    assert total == pytest.approx(sum(usd for _, usd, late in lines if late))
