"""What is proposed would change something."""

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.domain import PoolSetting, Prices
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.recommendations.candidates import propose
from prefect_intelligent.recommendations.model import ReplayInput


def history(seed, period_s):
    """Three deployments whose runs start together, every `period_s`, forty times."""
    rng = np.random.default_rng(seed)
    starts = period_s * np.arange(40.0)
    rows = [
        {
            "deployment": name,
            "queue": "default",
            "pool": "p",
            "state": "COMPLETED",
            "scheduled_s": at,
            "submitted_s": at,
            "started_s": at + rng.uniform(0, 60),
            "ended_s": at + 60 + rng.exponential(300),
        }
        for at in starts
        for name in ("a/x", "b/x", "c/x")
    ]
    return as_runs(pd.DataFrame(rows))


def shifts(runs, **more):
    inputs = ReplayInput(runs=runs, pool=PoolSetting(name="p", limit=4), queues=(), prices=Prices(), **more)
    return [shift for change in propose(inputs, runs) for shift in change.shift_s.values()]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("period_s", [900.0, 1800.0, 3600.0, 7200.0])
def test_no_schedule_is_moved_by_its_own_period(seed, period_s):
    found = shifts(history(seed, period_s))
    assert all(abs(shift) < period_s for shift in found)
    assert bool(found) is (period_s > 1800.0)


def test_a_daily_schedule_is_moved_by_all_of_them():
    assert {abs(shift) for shift in shifts(history(0, 86_400.0))} == {1800.0, 3600.0, 7200.0}


def test_what_has_no_schedule_is_not_moved():
    runs = history(0, 86_400.0)
    assert shifts(runs, scheduled=frozenset({"other/x"})) == []
    assert len(shifts(runs, scheduled=frozenset({"a/x"}))) == 6


def limits(runs, **more):
    """Proposed limits of a pool of 4, and what to do by hand for each."""
    inputs = ReplayInput(runs=runs, pool=PoolSetting(name="p", limit=4), queues=(), prices=Prices(), **more)
    return {change.pool_limit: change.by_hand for change in propose(inputs, runs) if change.kind == "pool-limit"}


def test_more_slots_than_the_pool_was_given_need_most_slots():
    found = limits(history(0, 3600.0))
    assert {limit for limit, by_hand in found.items() if by_hand == ""} == {limit for limit in found if limit < 4}
    assert found[8].startswith("needs most_slots: ")
    assert "pools.p.most_slots = 8" in found[8]
    allowed = limits(history(0, 3600.0), most_slots=8)
    assert {limit for limit, by_hand in allowed.items() if by_hand} == {limit for limit in found if limit > 8}
