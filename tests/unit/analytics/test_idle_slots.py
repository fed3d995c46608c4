"""What slots have cost depends on how many there were, and since when."""

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.analytics.run_metrics import analyse
from prefect_intelligent.domain import Change, Prices
from prefect_intelligent.domain.slot_account import SlotAccount, slot_account
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import QueueFact
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.steering.pool_limits import read_pool_limits, record_pool_limits
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.wiring.analytics import read_slots

HOUR = 3600.0
PRICES = Prices(slot_usd_per_hour=1.0, idle_fraction=1.0)


def runs(*rows):
    columns = ("deployment", "pool", "state", "submitted_s", "started_s", "ended_s")
    return as_runs(pd.DataFrame([("a/x", "p", "COMPLETED", *row) for row in rows], columns=columns))


def test_slots_are_paid_for_from_instant_to_instant():
    account = SlotAccount(at_s=np.array([10.0, 20.0, 40.0]), slots=np.array([2.0, 0.0, 3.0]))
    assert account.paid_s(np.array([0.0, 15.0, 30.0, 50.0])).tolist() == [10.0, 10.0, 30.0]
    assert account.now == 3.0


def test_any_cut_of_a_span_sums_to_the_whole():
    rng = np.random.default_rng(3)
    account = SlotAccount(at_s=np.sort(rng.uniform(0, 100, 9)), slots=rng.integers(0, 5, 9).astype(float))
    edges = np.sort(rng.uniform(-20, 150, 30))
    assert account.paid_s(edges).sum() == pytest.approx(account.paid_s(edges[[0, -1]])[0])


def test_a_young_pool_is_not_billed_for_the_time_before_it():
    """35 minutes old, asked about seven days."""
    now = 100 * 24 * HOUR
    account = slot_account([(now - 60.0, 4.0)], first_run_s=now - 2100.0)
    report = analyse(
        runs((now - 2100.0, now - 2100.0, now - 300.0)),
        since_s=now - 7 * 24 * HOUR,
        until_s=now,
        prices=PRICES,
        slots=account,
    )
    assert report.idle_usd == pytest.approx((4 * 2100.0 - 1800.0) / HOUR)
    assert sum(row.idle_usd for row in report.by["hour"].values()) <= report.idle_usd + 1e-9


def test_idle_costs_follow_the_limit_over_time_and_not_the_limit_of_this_second():
    limits = [(0.0, 1.0), (10 * HOUR, 8.0), (11 * HOUR, 1.0)]
    found = [
        analyse(runs((0.0, 0.0, HOUR)), since_s=0.0, until_s=20 * HOUR, prices=PRICES, slots=slot_account(known, None))
        for known in (limits, [*limits, (20 * HOUR - 1.0, 2.0)])
    ]
    assert found[0].idle_usd == pytest.approx(26.0)
    assert found[1].idle_usd == pytest.approx(26.0, abs=1e-3)


@pytest.mark.parametrize("limits", [[], [(5.0, None)]])
def test_without_a_limit_no_slot_is_idle(limits):
    account = slot_account(limits, 0.0)
    assert (account.limited, account.now, account.begun_s) == (False, None, 0.0)
    report = analyse(runs((0.0, 0.0, HOUR)), since_s=-9.0, until_s=24 * HOUR, prices=PRICES, slots=account)
    assert (report.idle_usd, report.utilisation, report.days) == (None, None, 1.0)
    assert report.usd_per_day == pytest.approx(1.0)


def test_of_a_pool_of_which_nothing_is_known_there_is_no_account():
    assert slot_account([], None) is None


def test_a_limit_that_was_taken_away_cost_while_it_was_there():
    account = slot_account([(0.0, 4.0), (5.0, None)], 0.0)
    assert account.paid_s(np.array([0.0, 99.0])).tolist() == [20.0]
    assert account.now is None


def test_slots_held_above_a_lowered_limit_are_not_set_off_against_idle_ones():
    account = slot_account([(0.0, 2.0), (10.0, 1.0)], None)
    begins, ends = np.array([0.0, 0.0]), np.array([20.0, np.inf])
    assert account.idle_s(np.array([0.0, 15.0, 30.0]), begins, ends).tolist() == [0.0, 0.0]
    assert account.idle_s(np.array([0.0, 15.0, 30.0]), begins[:1], ends[:1]).tolist() == [10.0, 10.0]


def test_time_without_a_limit_pays_for_nothing_idle():
    account = slot_account([(0.0, None), (10.0, 2.0)], None)
    assert account.paid_s(np.array([0.0, 10.0, 20.0])).tolist() == [0.0, 20.0]


def test_limits_that_steering_writes_between_two_copies_count(tmp_path):
    url = f"sqlite:///{tmp_path}/h.db"
    store, history = SqlRuns(open_engine(url)), open_history(url)
    store.put_queues([QueueFact("p", "", 100.0, None, 4, False), QueueFact("p", "q", 100.0, 1, 9, False)])
    change = Change(queue=None, field="limit", before=4, after=1)
    record_pool_limits(history, "p", 200.0, [change, Change(queue="q", field="limit", before=None, after=7)])
    account = read_slots(store, history, "p")
    assert (account.at_s.tolist(), account.slots.tolist()) == ([100.0, 200.0], [4.0, 1.0])
    assert read_slots(store, history, None) is None
    assert read_slots(store, history, "other") is None


def test_an_unlimited_pool_is_recorded_as_such():
    history = InMemoryHistory()
    record_pool_limits(history, "p", 5.0, [Change(queue=None, field="limit", before=4, after=None)])
    assert read_pool_limits(history, "p") == [(5.0, None)]
