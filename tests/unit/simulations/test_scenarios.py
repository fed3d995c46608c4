"""Every scenario loads, runs to its end, pays what its log says, and shows what its sentence promises."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.domain import ClockDeadline
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.state import CANCELLED, COMPLETED, CRASHED, FAILED
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec
from simulations.arrivals import DAY_S, HOUR_S
from simulations.family import SPLITS
from simulations.play import BudgetedLoop, share_budget
from simulations.run import evaluate, main, summarise
from simulations.scenario import load_scenario, read_scenario, scenario_names, with_load
from simulations.workload import Source, draw_world
from tests.oracles.cost_of_log import cost_of_log

FILES = [name for name in scenario_names() if name != "family"]
SEED = SPLITS["validation"][0]


def played(name, seed=SEED, **changes):
    """The unsteered world of a scenario, with its log."""
    twin = Twin(draw_world(replace(load_scenario(name), **changes), seed), log=True)
    twin.finish()
    return twin


def usd(name, *policies, episodes=4):
    """Mean cost under each policy, in the same worlds."""
    found = [summarise(evaluate(name, parse_policy(policy), episodes)) for policy in policies]
    return [each["cost_usd"] for each in found]


def test_there_are_at_least_twelve_and_each_says_what_it_is_for():
    assert len(FILES) >= 12
    purposes = [load_scenario(name).purpose for name in FILES]
    assert len(set(purposes)) == len(FILES)
    assert all(len(purpose) > 40 and purpose.endswith((".", "?")) for purpose in purposes)


@pytest.mark.parametrize("name", FILES)
def test_every_run_of_a_scenario_ends_and_the_log_tells_the_same_money(name):
    twin = played(name)
    assert twin.done.all()
    log, world = twin.log(), twin.world
    done = log[log["kind"] == kinds.DONE]
    assert sorted(done["run"]) == list(range(int(world.settings["runs"][0])))
    if world.pools["node_min_billing_s"].max() == 0:
        told, counted = cost_of_log(world, log, until_s=float(twin.now_s[0])), twin.cost()
        for part in ("capacity_usd", "lateness_usd", "failure_usd"):
            assert getattr(told, part) == pytest.approx(getattr(counted, part), rel=1e-9, abs=1e-9), part
    again = draw_world(load_scenario(name), SEED)
    for mine, other in zip(again, world, strict=True):
        for field in mine.dtype.names or [...]:
            np.testing.assert_array_equal(mine[field], other[field])


@pytest.mark.parametrize("name", FILES)
def test_a_log_costs_nothing_but_memory(name):
    without = Twin(draw_world(load_scenario(name), SEED))
    without.finish()
    assert without.log().shape == (0,)
    np.testing.assert_array_equal(without.money, played(name).money)


def test_toy_dear_first_is_the_optimum_and_costs_what_the_sentence_says():
    """Two runs, one slot: 1,800 s at 6 dollars an hour late or 600 s at 60; 2,400 slot seconds cost .667 anyway."""
    default, edf = usd("toy", "prefect-default", "edf", episodes=1)
    assert default == pytest.approx(30.669, abs=1e-3)
    assert edf == pytest.approx(1.669, abs=1e-3)
    world = draw_world(load_scenario("toy"), SEED)
    best = min(_lateness(order) for order in ((0, 1), (1, 0)))
    assert edf == pytest.approx(best + float(world.runs["work_s"].sum()) / 3600.0, abs=0.01)


def _lateness(order):
    """Lateness in dollars of the toy served in that order; 0 is bulk, 1 is dear."""
    work, due, price = (1800.0, 600.0), (1800.0, 600.0), (6.0, 60.0)
    now_s = total = 0.0
    for run in order:
        now_s += work[run]
        total += max(0.0, now_s - due[run]) * price[run] / 3600.0
    return total


def test_morning_rush_is_won_by_order_alone():
    default, edf = usd("morning-rush", "prefect-default", "edf")
    assert edf < 0.1 * default


def test_backfill_storm_must_wait_behind_what_is_due():
    default, edf = usd("backfill-storm", "prefect-default", "edf")
    assert edf < 0.2 * default


def test_bursty_adhoc_comes_in_clusters_that_nobody_knows_of():
    world = draw_world(load_scenario("bursty-adhoc"), SEED)
    runs = world.runs[0]
    adhoc = runs[runs["deployment"] < 2]
    assert np.array_equal(adhoc["known_s"], adhoc["scheduled_s"])
    counts = np.histogram(adhoc["scheduled_s"], bins=288)[0]
    assert counts.var() / counts.mean() > 5
    assert np.quantile(adhoc["work_s"], 0.99) > 8 * np.median(adhoc["work_s"])


def test_warehouse_contention_limits_are_worth_more_than_order():
    default, ordered, shared = usd("warehouse-contention", "prefect-default", "atc", "atc+share", episodes=12)
    assert shared < ordered
    assert default - shared > default - ordered


def test_nightly_dag_releases_a_report_when_everything_before_it_is_done_and_it_is_due_at_seven_in_paris():
    scenario = load_scenario("nightly-dag")
    twin = played("nightly-dag")
    runs, state = twin.world.runs[0], twin.state.runs[0]
    names = [source.terms.name for source in scenario.sources]
    of = {name: np.flatnonzero(runs["deployment"] == number) for number, name in enumerate(names)}
    assert {len(of[name]) for name in names[:5]} == {24}
    for source in scenario.sources:
        for above in source.after:
            assert np.all(state["scheduled_s"][of[source.terms.name]] >= state["finished_s"][of[above]] - 1e-6), (
                source.terms.name
            )
    due = np.unique(state["due_s"][of["publish/report"]])
    assert due.tolist() == [1767571200.0 + 6 * HOUR_S]  # 07:00 in Paris in winter


def test_slow_autoscaling_claims_before_there_is_a_node():
    twin = played("slow-autoscaling")
    log = twin.log()
    held = log[log["kind"] == kinds.STARTED]["value"]  # from claim to running
    assert np.median(held) < 60
    policy = parse_policy("atc+reactive")
    scenario = load_scenario("slow-autoscaling")
    steered = Twin(draw_world(scenario, SEED), log=True)
    census = steered.census()
    for minute in range(1, 300):
        census = steered.step(policy.propose(census), scenario.start_s + 60.0 * minute)
    log = steered.log()
    assert log[log["kind"] == kinds.STARTED]["value"].max() > 250  # somebody has waited for a boot of five minutes


def test_spot_interruptions_take_many_runs_at_once_and_they_start_over():
    twin = played("spot-interruptions")
    log = twin.log()
    crashed = log[(log["kind"] == kinds.ENDED) & (log["where"] == CRASHED)]
    instants, counts = np.unique(crashed["at_s"], return_counts=True)
    assert set(instants) <= {at_s for at_s, _ in load_scenario("spot-interruptions").pools[0].reclaims}
    assert counts.max() >= 3  # correlated: not one by one
    assert np.all(twin.state.runs["phase"][0][crashed["run"]] == COMPLETED)
    assert len(np.unique(log[log["kind"] == kinds.PRICED]["value"])) >= 3


def test_retry_storm_a_third_fails_and_comes_again_after_growing_pauses():
    twin = played("retry-storm")
    log = twin.log()
    ended = log[log["kind"] == kinds.ENDED]
    flaky = twin.world.runs["deployment"][0][ended["run"]] == 0
    failed = (ended["where"] != COMPLETED) & flaky
    assert failed.sum() / flaky.sum() > 0.3
    retries = log[log["kind"] == kinds.RETRY]
    pauses = np.unique((retries["value"] - retries["at_s"]).round(3))
    assert pauses.tolist() == [30, 60, 120, 240]


def test_overload_offers_a_fifth_more_than_the_slots_can_do():
    scenario = load_scenario("overload")
    offered = [draw_world(scenario, seed).runs["work_s"].sum() for seed in SPLITS["validation"][:6]]
    assert np.mean(offered) / (8 * scenario.hours * HOUR_S) == pytest.approx(1.2, abs=0.12)
    edf, atc = usd("overload", "edf", "atc")
    assert atc < edf  # with too much to do, value counts


def test_two_pools_never_have_more_slots_than_the_budget():
    scenario = load_scenario("two-pools-budget")
    policy = parse_policy("atc+fixed:14")
    twin = Twin(draw_world(scenario, SEED))
    arena, seen = BudgetedLoop(twin, Regime(interval_s=60.0, pool_factor=4.0), scenario.budget_slots), []
    for minute in range(1, 240):
        arena.step(policy.propose(arena.census), until_s=scenario.start_s + 60.0 * minute)
        seen.append((twin.state.pools["limit"][0].sum(), twin.state.pools["active"][0].sum()))
    limits, active = np.array(seen).T
    assert limits.max() <= 10
    assert limits.max() > 9
    assert active.max() <= 10


def test_a_budget_is_shared_by_what_is_asked_and_never_takes_a_running_slot():
    np.testing.assert_array_equal(share_budget(np.array([8.0, 8.0]), np.array([0.0, 0.0]), 10, 2), [5, 5])
    np.testing.assert_array_equal(share_budget(np.array([2.0, 3.0]), np.array([1.0, 1.0]), 10, 2), [4, 5])
    held = share_budget(np.array([1.0, 14.0]), np.array([7.0, 1.0]), 10, 2)
    assert held[0] == 7
    assert held.sum() <= 10
    assert share_budget(np.array([np.inf]), np.array([2.0]), 6, 1).tolist() == [6]


def test_estimate_error_predictions_are_off_by_more_than_two():
    world = draw_world(load_scenario("estimate-error"), SEED)
    runs = world.runs[0]
    off = [np.log(runs["p50_s"][runs["deployment"] == d] / (m + 3.0)) for d, m in enumerate((300, 420, 600))]
    assert all(np.std(each) == pytest.approx(0.8, abs=0.12) for each in off)


def test_cold_serverless_starts_slowly_merges_queues_bounces_and_bills_a_minute():
    twin = played("cold-serverless")
    log = twin.log()
    started = log[log["kind"] == kinds.STARTED]
    assert np.median(started["value"]) == pytest.approx(45, rel=0.1)
    assert np.sum(log["kind"] == kinds.BOUNCED) > 10
    held = log[log["kind"] == kinds.ENDED]["value"]
    prices = load_scenario("cold-serverless").pools[0].prices
    billed = np.maximum(held, 60.0).sum() * prices.slot_usd_per_hour / 3600.0
    assert twin.cost().capacity_usd == pytest.approx(billed, rel=1e-9)


def test_team_pool_has_waiting_parents_busy_workers_and_runs_that_come_after_a_failure():
    twin = played("team-pool")
    world, runs, log = twin.world, twin.state.runs[0], twin.log()
    names = [source.terms.name for source in load_scenario("team-pool").sources]
    of = {name: np.flatnonzero(world.runs["deployment"][0] == number) for number, name in enumerate(names)}
    parents = world.runs["parent"][0, of["load/tables"]]
    assert np.all(np.bincount(parents)[of["nightly/orchestrate"]] == 4)
    completed = of["nightly/orchestrate"][runs["phase"][of["nightly/orchestrate"]] == COMPLETED]
    assert len(completed) > 5
    for parent in completed:
        children = of["load/tables"][parents == parent]
        assert runs["finished_s"][parent] >= runs["finished_s"][children].max()
        assert runs["started_s"][parent] <= runs["first_claimed_s"][children].min()
    failed = np.flatnonzero(runs["phase"][of["load/primary"]] == FAILED)
    apologies = runs["phase"][of["reports/apology"]]
    assert 0 < len(failed) < len(apologies)
    assert np.array_equal(np.flatnonzero(apologies != CANCELLED), failed)
    first = np.minimum(*(runs["finished_s"][of[name]] for name in ("load/primary", "load/fallback")))
    assert np.all(runs["scheduled_s"][of["reports/daily"]] >= first)
    crashed = log[(log["kind"] == kinds.ENDED) & (log["where"] == CRASHED)]
    assert set(crashed["at_s"]) == {1767607200.0}  # a worker dies, and nothing else does
    assert log["value"][log["kind"] == kinds.CLAIMED].max() <= 6  # so many have its workers; the pool may have 8
    waits = runs["first_claimed_s"] - runs["scheduled_s"]
    assert np.nanmax(waits) > 60
    adhoc = runs["phase"][of["adhoc/refresh"]]
    assert 0 < np.sum(adhoc == CANCELLED) < len(adhoc)  # beyond its limit, or late while it is full


def test_team_pool_is_won_by_order():
    default, edf = usd("team-pool", "prefect-default", "edf")
    assert edf < 0.5 * default


def test_a_deployment_comes_in_one_way_only():
    terms = DeploymentSpec(name="x", queue="q")
    with pytest.raises(InvalidInputError, match="called_by"):
        Source(terms=terms)
    with pytest.raises(InvalidInputError, match="one of the three"):
        Source(terms=terms, after=("a",), called_by="b")
    with pytest.raises(InvalidInputError, match="called_times"):
        Source(terms=terms, called_by="b", called_times=0)


def test_the_family_differs_by_seed_and_repeats_itself():
    first, again, other = (load_scenario("family", seed) for seed in (3, 3, 4))
    assert first == again
    assert first.sources != other.sources


def test_a_deadline_by_the_clock_follows_daylight_saving():
    scenario = load_scenario("nightly-dag")
    assert isinstance(scenario.sources[4].deadline, ClockDeadline)
    spring = replace(scenario, start_s=1774656000.0, hours=48.0)  # 2026-03-28, the night before the change
    world = draw_world(spring, 1)
    reports = world.runs["due_s"][0][world.runs["deployment"][0] == 4]
    assert np.diff(np.unique(reports)).tolist() == [23 * HOUR_S, 24 * HOUR_S]


def test_the_load_is_turned_by_longer_runs():
    scenario = load_scenario("overload")
    normal, double = (draw_world(with_load(scenario, factor), 1).runs["work_s"].sum() for factor in (1.0, 2.0))
    assert double == pytest.approx(2 * normal)


def test_worlds_of_different_scenarios_can_share_a_batch():
    worlds = [draw_world(load_scenario(name), SEED) for name in ("toy", "nightly-dag", "retry-storm")]
    together = Twin(stack(worlds))
    together.finish()
    for row, name in enumerate(("toy", "nightly-dag", "retry-storm")):
        np.testing.assert_allclose(together.money[row], played(name).money[0], rtol=1e-12)


# What is typed wrong


GOOD = {
    "purpose": "A pool.",
    "pools": [{"limit": 1, "queues": [{"name": "q", "priority": 1}]}],
    "deployments": [{"name": "a", "queue": "q", "arrivals": {"kind": "interval", "every_s": 600}}],
}


def with_change(path, value):
    table = json.loads(json.dumps(GOOD))
    at = table
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return table


def test_the_table_that_is_spoilt_below_is_fine():
    assert read_scenario("x", GOOD).sources[0].terms.name == "a"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("purpos",), "x", "did you mean 'purpose'"),
        (("pools", 0, "limt"), 3, "did you mean 'limit'"),
        (("pools", 0, "queues", 0, "prio"), 3, "did you mean 'priority'"),
        (("pools", 0, "prices"), {"sheet": "aws-us-east-1/fargat"}, "did you mean 'aws-us-east-1/fargate'"),
        (("pools", 0, "prices"), {"slot_usd": 1}, "did you mean 'slot_usd_per_hour'"),
        (("pools", 0, "boot_s"), -1.0, "must be a number, 0 or more"),
        (("pools", 0, "limit"), "four", "limit of pool 1: got 'four'; must be a whole number"),
        (("pools", 0, "prices"), 3, "prices of pool 1: got 3; must be a table"),
        (("pools", 0, "spot_prices"), [1], "must be a list"),
        (("pools",), [], "at least one [[pools]]"),
        (("deployments", 0, "que"), "q", "did you mean 'queue'"),
        (("deployments", 0, "queue"), "w", "unknown queue of deployment 'a'"),
        (("deployments", 0, "resources"), ["db"], "unknown resource of deployment 'a'"),
        (("deployments", 0, "arrivals", "evry_s"), 3, "did you mean 'every_s'"),
        (("deployments", 0, "arrivals", "kind"), "intervall", "did you mean 'interval'"),
        (("deployments", 0, "arrivals", "every_s"), -3, "needs a period above 0"),
        (("deployments", 0, "duration"), {"median_s": -5}, "must be seconds above 0"),
        (("deployments", 0, "duration"), {"mediann_s": 5}, "did you mean 'median_s'"),
        (("deployments", 0, "deadline"), "soon", "expected a span"),
        (("deployments", 0, "deadline"), "07:00 Europe/Pariss", "did you mean 'Europe/Paris'"),
        (("deployments", 0, "fails"), 1.5, "must be between 0 and 1"),
        (("deployments", 0, "after"), ["b"], "one of the three: arrivals, upstreams"),
        (("deployments", 0, "called_by"), "b", "one of the three: arrivals, upstreams"),
        (("deployments", 0, "after_when"), "faild", "did you mean 'failed'"),
        (("deployments", 0, "calls_at"), 1.5, "calls_at of deployment 'a': got 1.5; must be between 0 and 1"),
        (("deployments", 0, "limit_group"), "g", "a limit that is shared needs a number"),
        (("pools", 0, "workers"), [{"name": "w", "limt": 3}], "did you mean 'limit'"),
        (("pools", 0, "workers"), [{"name": "w", "queues": ["qq"]}], "did you mean 'q'"),
        (("pools", 0, "workers"), [{"name": "w", "outages": [[5.0, 4.0]]}], "each has a start and a later end"),
        (("pools", 0, "late_loop_s"), -1.0, "must be a number, 0 or more"),
        (("pools", 0, "poll_jitter"), 1.5, "poll_jitter: got 1.5; must be between 0 and 1"),
        (("pools", 0, "reclaims"), [[0.0, 1.5]], "a share, 0 to 1"),
        (("pools", 0, "spot_prices"), [[0.0, 0.1, 3.0]], "an instant in Unix seconds and a price"),
        (("deployments", 0, "retry_backoff"), -2.0, "retry_backoff of 'a': got -2.0; must be a number, 0 or more"),
        (("hours",), -1, "must be above 0"),
        (("hours",), "2", "hours of scenario 'x': got '2'; must be a number"),
        (("start_s",), math.inf, "must be a finite number"),
        (("deployments", 0, "after"), 5, "must be a list"),
        (("deployments", 0, "deadline"), 5, "must be a text"),
        (("deployments", 0, "arrivals"), "cron", "must be a table"),
        (("deployments", 0, "arrivals"), {"kind": "cron", "cron": "0 6 * * *", "timezone": "Europe/Pariss"}, "did you"),
        (("deployments", 0, "arrivals"), {"kind": "cron", "cron": "0 6 * * *", "runs": -1}, "1 or more per firing"),
    ],
)
def test_a_wrong_key_names_the_nearest_and_a_wrong_value_says_what_is_wrong(path, value, message):
    with pytest.raises(InvalidInputError) as refused:
        read_scenario("x", with_change(path, value))
    assert message in str(refused.value)


def chain(*links):
    table = json.loads(json.dumps(GOOD))
    table["deployments"] += [{"name": name, "queue": "q", "after": list(after)} for name, after in links]
    return table


def test_a_cycle_is_printed_and_an_unknown_upstream_named():
    with pytest.raises(InvalidInputError, match="b -> d -> c -> b"):
        read_scenario("x", chain(("b", ["d"]), ("c", ["b"]), ("d", ["c"])))
    with pytest.raises(UnknownNameError, match="upstream of 'b'"):
        read_scenario("x", chain(("b", ["z"])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "mornin-rush"], "did you mean 'morning-rush'"),
        (["--scenario", "gone.toml"], "'gone.toml'; there is no such file"),
        (["--scenario", "gone"], "unknown scenario"),
        (["--policy", "edff"], "did you mean 'edf'"),
        (["--episodes", "0"], "episodes: got 0"),
        (["--load", "-1"], "load: got -1.0; must be above 0"),
        (["--load", "nan"], "load: got nan"),
        (["--scenario", "bad.toml"], "is not a TOML file"),
        (["--scenario", "cycle.toml"], "b -> c -> b"),
    ],
)
def test_the_command_says_it_in_one_line_with_exit_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("purpose = \n")
    (tmp_path / "cycle.toml").write_text(
        'purpose = "x"\n[[pools]]\nqueues = [{ name = "q", priority = 1 }]\n'
        '[[deployments]]\nname = "b"\nqueue = "q"\nafter = ["c"]\n'
        '[[deployments]]\nname = "c"\nqueue = "q"\nafter = ["b"]\n'
    )
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_command_prints_a_table_or_one_object_with_split_and_seeds(capsys):
    words = ["--scenario", "toy", "--policy", "prefect-default", "--policy", "edf", "--episodes", "2"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "split validation, seeds 1000000 to 1000001" in table
    assert "30.669" in table
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    shown = {"scenario": "toy", "split": "validation", "seeds": [1_000_000, 1_000_001], "load": 1.0}
    assert said["context"] == {**shown, "regime": Regime().name}
    edf = said["policies"]["edf"]
    assert edf["cost_usd"] == pytest.approx(1.669, abs=1e-3)
    assert math.isclose(edf["cost_usd"], edf["capacity_usd"] + edf["lateness_usd"] + edf["failure_usd"], rel_tol=1e-9)


def test_splits_do_not_overlap():
    train, validation, test = (SPLITS[name] for name in ("train", "validation", "test"))
    assert train[-1] < validation[0] <= validation[-1] < test[0]
    assert DAY_S == 86400
