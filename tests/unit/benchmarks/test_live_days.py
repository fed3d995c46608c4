"""Live days without a server: fast time, the days, the twin's side, the figures."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.live.__main__ import CROWDED, SHORT_DAY, main
from benchmarks.live.arms import AGENT, DEFAULT, RULE, Arm, choose_arms
from benchmarks.live.day import draw_day, shape_day
from benchmarks.live.fast_time import FastTime, move_instants
from benchmarks.live.figures import PairedDay, figures_of, kept_up, speed_error
from benchmarks.live.real_day import LiveDay
from benchmarks.live.twin_day import play_arm, repeat_day, twin_costs
from prefect_intelligent.domain import Cost
from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import Settings
from simulations.scenario import load_scenario
from simulations.workload import Scenario
from tests import real_prefect

FAST = FastTime(begin_s=2_000_000_000.0, day_begin_s=1_767_582_000.0, factor=40.0)


def morning(hours: float = 1.0) -> Scenario:
    return shape_day(load_scenario("morning-rush"), begin_h=1.75, hours=hours)


def test_an_instant_comes_back_from_the_day_where_it_was():
    assert FAST.in_day(FAST.begin_s) == FAST.day_begin_s
    assert FAST.in_day(FAST.begin_s + 3.0) == FAST.day_begin_s + 120.0
    assert FAST.on_clock(FAST.in_day(1_999_999_000.25)) == pytest.approx(1_999_999_000.25, abs=1e-6)


def test_all_instants_of_an_answer_are_moved_and_nothing_else_is():
    at = iso(FAST.begin_s + 0.5)
    answer = {
        "start": at.replace("+00:00", "Z"),
        "state": [{"timestamp": at, "name": "Late", "retries": 2}],
        "text": f"started at {at}",
        "deadline": "07:00 Europe/Paris",
        "day": "2026-01-05",
        "none": None,
    }
    moved = move_instants(answer, FAST.in_day)
    assert unix_s(moved["start"]) == unix_s(moved["state"][0]["timestamp"]) == FAST.day_begin_s + 20.0
    assert {**moved, "start": 0, "state": 0} == {**answer, "start": 0, "state": 0}
    assert moved["state"][0] | {"timestamp": at} == answer["state"][0]
    assert unix_s(move_instants(moved, FAST.on_clock)["start"]) == pytest.approx(unix_s(at), abs=1e-5)


def test_a_day_is_a_part_of_its_scenario_in_which_nothing_fails():
    day = draw_day(morning(), seed=3, factor=40.0)
    begin_s = load_scenario("morning-rush").start_s + 1.75 * 3600.0
    assert min(run.scheduled_s for run in day.runs) >= begin_s
    assert max(run.scheduled_s for run in day.runs) < begin_s + 3600.0
    assert {run.queue for run in day.runs} == {"ingest", "marts", "backfill"}
    assert not day.world.deployments["fails"].any()
    assert [run.work_s for run in day.runs] == [run.work_s for run in draw_day(morning(), seed=3, factor=40.0).runs]


def test_a_burst_is_submitted_run_by_run_and_in_time_and_the_twin_knows_it_from_then_on():
    day = draw_day(morning(), seed=0, factor=40.0)
    known = [run for run in day.runs if run.queue != "backfill"]
    burst = [run for run in day.runs if run.queue == "backfill"]
    assert all(math.isinf(run.submitted_s) for run in known)
    assert len(burst) == 80
    gaps = np.diff(sorted(run.submitted_s for run in burst))
    assert gaps == pytest.approx(2.0)  # 50 ms of the clock at factor 40
    assert max(run.submitted_s for run in burst) == pytest.approx(burst[0].scheduled_s - 2.0)
    assert day.world.runs["known_s"][0].tolist() == [run.submitted_s for run in day.runs]


@pytest.mark.parametrize("name", ["warehouse-contention", "nightly-dag", "two-pools-budget", "bursty-adhoc"])
def test_a_scenario_that_the_worker_cannot_play_is_refused_with_the_reason(name: str):
    with pytest.raises(InvalidInputError, match="which the worker of live days does not do"):
        shape_day(load_scenario(name))


@pytest.mark.parametrize(("begin_h", "hours"), [(0.0, 11.0), (9.5, 1.0), (-1.0, 2.0), (10.0, None), (1.0, 0.0)])
def test_a_part_that_the_scenario_does_not_have_is_refused(begin_h: float, hours: float | None):
    with pytest.raises(InvalidInputError, match="has 10 hours"):
        shape_day(load_scenario("morning-rush"), begin_h=begin_h, hours=hours)


@pytest.mark.parametrize("policy", [None, "atc", "atc+reactive+share"])
def test_the_cost_of_a_day_in_the_twin_is_what_the_twin_itself_has_charged(policy: str | None):
    day, arm = draw_day(morning(), seed=1, factor=40.0), Arm(name="any", policy=policy)
    twin = repeat_day(day, 3)
    play_arm(twin, day, arm)
    costs = twin_costs(day, arm, worlds=3)
    assert [cost.capacity_usd for cost in costs] == pytest.approx(twin.money[:, 0].tolist(), rel=1e-6)
    assert [cost.lateness_usd for cost in costs] == pytest.approx(twin.money[:, 1].tolist(), rel=1e-6)
    assert len({cost.total_usd for cost in costs}) == 3, "the worlds differ in their polls"


def test_a_policy_that_looks_ahead_is_played_in_the_twin_by_the_decision_step_of_a_controller():
    day = draw_day(shape_day(load_scenario(SHORT_DAY)), seed=0, factor=40.0)
    rule = twin_costs(day, Arm(name="rule", policy="atc"), worlds=1)
    (planned,) = twin_costs(day, Arm(name="agent", policy="planner:atc"), worlds=1)
    assert planned.capacity_usd > 0.0
    assert planned.lateness_usd <= 1.5 * rule[0].lateness_usd


def test_the_day_that_is_played_unless_one_is_named_can_be_played_and_its_order_costs_money():
    day = draw_day(shape_day(load_scenario(CROWDED)), seed=0, factor=50.0)
    assert 60 <= len(day.runs) <= 120
    default, rule = (
        np.mean([c.lateness_usd for c in twin_costs(day, Arm(name="x", policy=p), 4)]) for p in (None, "atc")
    )
    assert default > rule > 0.0


def test_controllers_of_the_arms_have_the_settings_of_the_product_and_the_bound():
    pool = morning().pools[0]
    default, rule, agent = choose_arms("shipped", 1.0)
    assert (default.policy, rule.policy, agent.policy) == (None, Settings().policy, "shipped")
    assert (rule.regime.pool_factor, rule.regime.interval_s) == (1.0, Settings().interval_s)
    settings = rule.settings("p", pool, Settings().folder)
    assert settings.pools["p"].most_slots is None
    assert settings.prices_of("p") == pool.prices
    assert settings.guard == Settings().guard
    assert settings.interval_s == Settings().interval_s
    twice = choose_arms("shipped", 2.0)[1]
    assert twice.regime.pool_factor == 2.0
    assert twice.settings("p", pool, Settings().folder).pools["p"].most_slots == 12


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scenario", "mornin-rush"], "morning-rush"),
        (["--scenario", "nightly-dag"], "deployments that wait for others"),
        (["--hours", "9"], "has 1 hours"),
        (["--agent", "no-such-policy"], "no-such-policy"),
    ],
)
def test_what_cannot_be_played_is_said_before_a_server_is_started(arguments, says, capsys, monkeypatch):
    monkeypatch.setattr(real_prefect, "open_server", None)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.startswith("error: ")
    assert shown.out == ""


@pytest.mark.parametrize("arguments", [["--days", "0"], ["--factor", "-1"], ["--factor", "inf"], ["--bound", "0"]])
def test_a_number_out_of_range_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def live(usd: float) -> LiveDay:
    return LiveDay(
        cost=Cost(lateness_usd=usd),
        runs=(),
        lasted_s=3600.0,
        clock_s=60.0,
        decisions=0,
        decided_first_s=None,
        decided_every_s=None,
        decision_took_s=None,
        polled_every_s=10.0,
        held_longer_s=0.0,
        submitted_late=0,
    )


def pair(seed: int, default: float, rule: float, agent: float) -> PairedDay:
    usd = {DEFAULT: default, RULE: rule, AGENT: agent}
    return PairedDay(
        seed=seed,
        live={arm: live(cost) for arm, cost in usd.items()},
        twin={arm: [Cost(lateness_usd=0.5 * cost), Cost(lateness_usd=1.5 * cost)] for arm, cost in usd.items()},
    )


def test_ratios_are_paired_and_the_error_is_that_of_single_days():
    days = [pair(0, 40.0, 20.0, 10.0), pair(1, 4.0, 2.0, 2.0)]
    figures = figures_of(days)
    assert figures["live_days"] == 2
    assert figures["live_ratio_vs_rule"] == pytest.approx(math.sqrt(0.5 * 1.0))
    assert figures["live_ratio_vs_rule_lo"] == pytest.approx(0.5)
    assert figures["live_ratio_vs_rule_hi"] == pytest.approx(1.0)
    assert figures["live_ratio_vs_default"] == pytest.approx(math.sqrt(0.25 * 0.5))
    assert figures["live_vs_twin_error"] == pytest.approx(0.0)
    # One day a tenth dearer and one a tenth cheaper than in the twin: no bias, but an error.
    off = [
        replace(days[0], live={**days[0].live, RULE: live(22.0)}),
        replace(days[1], live={**days[1].live, RULE: live(1.8)}),
    ]
    figures = figures_of(off)
    assert figures["live_vs_twin_error_rule"] == pytest.approx(0.1)
    assert figures["live_vs_twin_error"] == pytest.approx(0.1 / 3)
    assert figures["live_vs_twin_bias_rule"] == pytest.approx(math.sqrt(1.1 * 0.9) - 1.0)


def test_a_machine_that_cannot_keep_up_is_told():
    days = [pair(0, 40.0, 20.0, 10.0)]
    assert kept_up(days, poll_s=10.0, interval_s=20.0) == 1.0
    assert kept_up(days, poll_s=7.0, interval_s=20.0) == 0.0
    seldom = replace(live(20.0), decisions=9, decided_every_s=26.0)
    once = replace(live(10.0), decisions=1)
    late = [replace(days[0], live={DEFAULT: live(40.0), RULE: seldom, AGENT: once})]
    assert kept_up(late, poll_s=10.0, interval_s=20.0) == pytest.approx(1 / 3)
    assert kept_up(late, poll_s=10.0, interval_s=21.0) == pytest.approx(2 / 3)


def test_the_error_of_fast_time_is_relative_to_factor_1():
    assert speed_error([live(10.0), live(2.0)], [live(11.0), live(1.8)]) == pytest.approx(0.1)
