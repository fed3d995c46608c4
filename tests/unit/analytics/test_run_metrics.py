"""The figures of a report add up, budgets are spent in minutes, and health says what it rests on."""

import math

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.analytics.cost_budget import cost_budget
from prefect_intelligent.analytics.error_budget import bad_intervals, error_budget, merge_intervals
from prefect_intelligent.analytics.group_stats import SortedColumn
from prefect_intelligent.analytics.health import (
    WEIGHTS,
    HealthStatus,
    HealthTerm,
    deployment_health,
    group_health,
    health_score,
)
from prefect_intelligent.analytics.run_metrics import analyse
from prefect_intelligent.analytics.trends import find_changes, find_trend
from prefect_intelligent.domain import Prices
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.runs_frame import as_runs

DAY = 86400.0


def table(rows, **constant):
    columns = ["scheduled_s", "started_s", "ended_s", "state", "due_s"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["submitted_s"] = frame["scheduled_s"]
    return as_runs(frame.assign(**({"deployment": "etl/d", "pool": "p", "queue": "q"} | constant)))


def test_money_waiting_and_lateness_of_three_runs():
    runs = table(
        [
            (0.0, 60.0, 3660.0, "COMPLETED", 1860.0),  # waits 60 s, holds an hour, half an hour late
            (0.0, 120.0, 1920.0, "FAILED", 9999.0),  # holds half an hour for nothing
            (0.0, 0.0, 30.0, "COMPLETED", None),  # billed as a minute
        ],
        late_usd_per_hour=4.0,
        failure_usd=7.0,
    )
    prices = Prices(slot_usd_per_hour=1.0, min_billing_s=60.0, idle_fraction=0.5)
    report = analyse(runs, since_s=0.0, until_s=7200.0, prices=prices, slots=2)
    total = report.total
    assert (total.runs, total.ended, total.failed, total.late, total.due) == (3, 3, 1, 1, 2)
    assert (total.wait_p50_s, total.service_p50_s) == (60.0, 1800.0)
    assert total.useful_usd == pytest.approx(1.0 + 30 / 3600)
    assert total.wasted_usd == pytest.approx(0.5)
    assert total.overhead_usd == pytest.approx(30 / 3600)
    assert total.lateness_usd == pytest.approx(2.0)
    assert total.failure_usd == pytest.approx(7.0)
    assert report.utilisation == pytest.approx(5430 / 14400)
    assert report.idle_usd == pytest.approx((14400 - 5430) / 3600 * 0.5)
    assert report.by["hour"]["00"].runs == 3
    assert report.by["queue"]["q"] == total
    assert report.by["pool"]["p"].idle_usd == pytest.approx(report.idle_usd)
    hour = report.by["hour"]["00"]  # held from 60 to 3600, from 120 to 1920 and from 0 to 30, of two slots
    assert hour.idle_usd == pytest.approx((7200 - 3540 - 1800 - 30) / 3600 * 0.5)


def test_one_run_and_no_run_divide_by_nothing():
    runs = table([(0.0, None, None, "PENDING", None)])
    report = analyse(runs, since_s=0.0, until_s=10.0)
    assert report.total.failure_share is None
    assert report.total.on_time_share is None
    assert report.total.wait_p50_s is None
    assert report.utilisation is None
    empty = analyse(runs, since_s=100.0, until_s=200.0)
    assert empty.total.runs == 0
    assert empty.daily == ()
    with pytest.raises(InvalidInputError, match="its end must be after its start"):
        analyse(runs, since_s=5.0, until_s=5.0)


def test_group_quantiles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(500) < 0.1, np.nan, rng.lognormal(size=500))
    codes = rng.integers(-1, 7, 500)
    found = SortedColumn(values).quantiles(codes, 8, (0.5, 0.9))
    for group in range(7):
        own = values[(codes == group) & np.isfinite(values)]
        assert found[group] == pytest.approx(np.quantile(own, (0.5, 0.9)))
    assert np.isnan(found[7]).all()


def test_groups_sum_to_the_total():
    rng = np.random.default_rng(1)
    start = np.sort(rng.uniform(0, 10 * DAY, 2000))
    runs = as_runs(
        pd.DataFrame(
            {
                "deployment": rng.choice(["a/x", "b/x", "c/x"], 2000),
                "version": rng.choice(["v1", "v2", None], 2000),
                "queue": rng.choice(["q1", None], 2000),
                "submitted_s": start,
                "started_s": start + 5,
                "ended_s": start + rng.lognormal(4, 1, 2000),
                "state": rng.choice(["COMPLETED", "FAILED", "CANCELLED"], 2000),
            }
        )
    )
    report = analyse(runs, since_s=0.0, until_s=10 * DAY)
    assert sum(f.runs for f in report.by["deployment"].values()) == 2000
    assert sum(f.useful_usd for f in report.by["deployment"].values()) == pytest.approx(report.total.useful_usd)
    versions = report.by["version"]
    assert set(versions) == {f"{d} {v}" for d in ("a/x", "b/x", "c/x") for v in ("v1", "v2")}
    assert sum(f.runs for f in versions.values()) == int(runs["version"].notna().sum())
    assert len(report.daily) == 10


def test_a_lasting_change_is_found_and_noise_is_not():
    rng = np.random.default_rng(2)
    flat = [{"day_s": d * DAY, "x": 100 + float(rng.normal(0, 5))} for d in range(40)]
    assert find_changes(flat, "x") == ()
    stepped = [{**row, "x": row["x"] + (60 if row["day_s"] >= 25 * DAY else 0)} for row in flat]
    (change,) = find_changes(stepped, "x")
    assert change.at_s == 25 * DAY
    assert change.after - change.before == pytest.approx(60, abs=8)


def test_idle_hours_sum_to_the_idle_slots_of_the_pool():
    rng = np.random.default_rng(3)
    at = np.sort(rng.uniform(1000.0, 5 * DAY, 800))
    runs = table([(t, t, t + rng.exponential(900.0), "COMPLETED", None) for t in at])
    report = analyse(runs, since_s=1000.0, until_s=5 * DAY + 7777.0, slots=9, prices=Prices(slot_usd_per_hour=1.0))
    assert len(report.by["hour"]) == 24
    assert sum(f.idle_usd for f in report.by["hour"].values()) == pytest.approx(report.idle_usd, rel=1e-3)


def test_a_trend_is_found_and_noise_is_not():
    rng = np.random.default_rng(4)
    flat = [{"day_s": d * DAY, "x": 100 + float(rng.normal(0, 5))} for d in range(20)]
    assert find_trend(flat, "x") is None
    rising = [{**row, "x": row["x"] + 2.0 * d} for d, row in enumerate(flat)]
    rising[7]["x"] = 9e9  # one wild day
    trend = find_trend(rising, "x")
    assert trend.per_day == pytest.approx(2.0, abs=0.5)
    assert trend.days == 20
    assert find_trend(rising[:6], "x") is None
    assert find_trend([{**row, "x": 1.0} for row in flat], "x") is None


def test_ninety_minutes_late_spend_ninety_minutes():
    """A daily pipeline, 99 % over 30 days: a budget of 432 minutes."""
    rows = [(d * DAY, d * DAY, d * DAY + 600, "COMPLETED", d * DAY + 3600) for d in range(30)]
    rows[20] = (20 * DAY, 20 * DAY, 20 * DAY + 3600 + 5400, "COMPLETED", 20 * DAY + 3600)
    runs = table(rows)
    spent = error_budget(bad_intervals(runs, 30 * DAY), 30 * DAY)
    assert spent.budget_s == pytest.approx(432 * 60)
    assert spent.spent_s == pytest.approx(90 * 60)
    assert spent.left == pytest.approx(1 - 90 / 432)
    assert spent.action == ""


def test_a_failure_is_bad_until_the_next_success():
    runs = table(
        [
            (0.0, 0.0, 100.0, "FAILED", None),
            (500.0, 500.0, 600.0, "COMPLETED", None),
            (700.0, 700.0, 800.0, "FAILED", None),
            (900.0, None, None, "SCHEDULED", 950.0),
        ]
    )
    assert bad_intervals(runs, 1000.0) == [(100.0, 600.0), (800.0, 1000.0)]


def test_a_fast_burn_pages_and_a_slow_one_asks():
    now = 30 * DAY
    assert error_budget([(now - 3600, now)], now).action == "page"
    assert error_budget([(now - 7200, now)], now, target=0.95).action == "page"
    slow = [(now - 259200 + k * 6000, now - 259200 + k * 6000 + 100) for k in range(44)]
    assert error_budget(slow, now).action == "ticket"


def test_merging_keeps_time_and_order():
    assert merge_intervals([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5), (5.0, 5.0)]) == [(0.0, 2.5), (3.0, 4.0)]


def hourly(count, **changes):
    rows = [(h * 3600.0, h * 3600.0, h * 3600.0 + 60, "COMPLETED", h * 3600.0 + 600) for h in range(count)]
    for index, row in changes.items():
        rows[int(index[1:])] = row
    return table(rows)


def test_a_healthy_deployment_and_what_its_score_rests_on():
    runs = hourly(200)
    health = deployment_health("etl/d", runs, 200 * 3600.0)
    assert health.status is HealthStatus.HEALTHY
    assert health.gates == ()
    assert health.score is not None
    assert health.score > 97
    by_name = {term.name: term for term in health.terms}
    assert by_name["reliability"].n == 200
    assert by_name["quality"].value is None
    assert by_name["quality"].detail == "no contract"


def test_failures_in_a_row_degrade_and_one_warns():
    one = hourly(50, _49=(49 * 3600.0, 49 * 3600.0, 49 * 3600.0 + 60, "FAILED", None))
    assert deployment_health("etl/d", one, 49 * 3600.0 + 61).status is HealthStatus.WARNING
    rows = {f"_{h}": (h * 3600.0, h * 3600.0, h * 3600.0 + 60, "FAILED", None) for h in (47, 48, 49)}
    three = hourly(50, **rows)
    health = deployment_health("etl/d", three, 50 * 3600.0)
    assert health.status is HealthStatus.DEGRADED
    assert "the last 3 runs failed" in health.gates
    retried = deployment_health("etl/d", three, 49 * 3600.0 + 61, retrying=True)
    assert "the last 3 runs failed" in retried.gates
    assert retried.status is not HealthStatus.HEALTHY


def test_stale_slow_and_unknown_are_told_apart():
    runs = hourly(50)
    stale = deployment_health("etl/d", runs, 60 * 3600.0)
    assert stale.status is HealthStatus.DEGRADED
    slow_rows = {f"_{h}": (h * 3600.0, h * 3600.0, h * 3600.0 + 400, "COMPLETED", None) for h in range(45, 50)}
    slow = deployment_health("etl/d", hourly(50, **slow_rows), 50 * 3600.0)
    assert any(gate.startswith("durations:") for gate in slow.gates)
    few = deployment_health("etl/d", runs.iloc[:3], 3 * 3600.0)
    assert few.status is HealthStatus.UNKNOWN
    assert few.gates == ("not enough data: 3 ended runs, 5 are needed",)
    assert few.score is None
    none = deployment_health("etl/d", runs.iloc[:0], 0.0)
    assert none.score is None


def test_nobody_waits_for_the_next_run_of_what_has_no_schedule_and_no_output():
    burst = table([(n * 9.0, n * 9.0, n * 9.0 + 60, "COMPLETED", None) for n in range(30)])
    assert deployment_health("backfill/d", burst, 5 * 3600.0).status is HealthStatus.DEGRADED
    health = deployment_health("backfill/d", burst, 5 * 3600.0, awaited=False)
    assert health.status is HealthStatus.HEALTHY
    fresh = next(term for term in health.terms if term.name == "freshness")
    assert (fresh.value, fresh.detail) == (None, "no schedule and no declared output")


@pytest.mark.parametrize("failed", range(0, 40, 3))
@pytest.mark.parametrize("quality", [None, (0.0, 9), (0.5, 9), (0.9, 9), (1.0, 9)])
def test_status_and_score_say_the_same(failed, quality):
    bad = {f"_{h}": (h * 3600.0, h * 3600.0, h * 3600.0 + 60, "FAILED", None) for h in range(5, 5 + failed)}
    health = deployment_health("etl/d", hourly(50, **bad), 50 * 3600.0, quality=quality)
    band = "degraded" if health.score < 50 else "warning" if health.score < 80 else "healthy"
    assert str(health.status) == band, health.gates
    assert bool(health.gates) is (band != "healthy")


def test_what_runs_cost_is_held_against_the_budget_or_their_own_past():
    prices = Prices(slot_usd_per_hour=1.0)
    runs = hourly(240)  # ten days, a minute an hour
    agreed = cost_budget(runs, 10 * DAY, prices, 0.2)
    assert (agreed.budget_usd, agreed.actual_usd) == (pytest.approx(2.0), pytest.approx(4.0))
    health = deployment_health("etl/d", runs, 10 * DAY, cost=agreed)
    term = next(term for term in health.terms if term.name == "cost")
    assert (term.value, term.n, term.detail) == (pytest.approx(0.5), 240, "$4.00 against $2.00 agreed")
    dearer = {f"_{h}": (h * 3600.0, h * 3600.0, h * 3600.0 + 180, "COMPLETED", None) for h in range(180, 240)}
    own = cost_budget(hourly(240, **dearer), 10 * DAY, prices)
    assert own.actual_usd / own.budget_usd == pytest.approx(3.0)
    assert not own.agreed
    assert cost_budget(runs.iloc[:48], 2 * DAY, prices) is None
    assert cost_budget(runs, 10 * DAY, Prices(slot_usd_per_hour=0.0), 0.2) is None
    assert cost_budget(runs.iloc[:0], 0.0, prices, 0.2) is None


def test_the_score_is_a_weighted_geometric_mean_and_a_zero_does_not_erase_it():
    terms = [HealthTerm(name=name, value=0.81, n=1, detail="") for name in WEIGHTS]
    assert health_score(terms) == pytest.approx(81.0)
    assert health_score([]) is None
    half = [
        HealthTerm(name="reliability", value=1.0, n=1, detail=""),
        HealthTerm(name="timeliness", value=0.0, n=1, detail=""),
    ]
    assert health_score(half) == pytest.approx(100 * math.exp(0.25 / 0.55 * math.log(0.01)))


def test_a_queue_is_as_well_as_its_worst_deployment():
    good = deployment_health("etl/a", hourly(50), 50 * 3600.0)
    bad = deployment_health("etl/b", hourly(50), 60 * 3600.0)
    queue = group_health("q", [good, bad])
    assert queue.status is HealthStatus.DEGRADED
    assert queue.gates == ("etl/b: degraded",)
    assert group_health("empty", []).status is HealthStatus.UNKNOWN
