"""A scenario fitted to a history gives back the one that the history came from."""

import json
import time
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import QueueFact, RunFact
from simulations.arrivals import DAY_S, HOUR_S, Bursts, Cron, Interval, Poisson
from simulations.calibrate import main
from simulations.calibration.arrivals import fit_arrivals
from simulations.calibration.durations import fit_duration, ks_distance, quantile
from simulations.calibration.fit import calibrate
from simulations.calibration.goodness import measure
from simulations.calibration.observed import observe_history
from simulations.calibration.triggers import fit_triggers
from simulations.scenario import load_scenario, read_scenario, scenario_names
from simulations.scenario_file import as_toml
from simulations.workload import Duration
from tests.twin_history import POOL, keep_history

DAYS = 14
MONDAY_S = 1767571200.0  # 2026-01-05

TRUTH = """
purpose = "A pool with every kind of arrivals, busy enough that runs wait."
start_s = 1767571200
hours = 336
[[pools]]
limit = 8
poll_s = 6
prefetch_s = 12
startup_s = 5
startup_spread = 0.3
max_slots = 64
queues = [
    { name = "nightly", priority = 1 },
    { name = "hourly", priority = 2, limit = 6 },
    { name = "adhoc", priority = 3 },
]

[[deployments]]
name = "hourly/sync"
queue = "hourly"
late_usd_per_hour = 7.0
failure_usd = 2.0
deadline = "40m"
fails = 0.15
retries = 2
retry_delay_s = 60
arrivals = { kind = "interval", every_s = 3600, offset_s = 300, runs = 4 }
duration = { median_s = 300, cv = 0.5 }

[[deployments]]
name = "nightly/extract"
queue = "nightly"
deadline = "06:00 Europe/Paris"
limit = 5
arrivals = { kind = "cron", cron = "0 1 * * *", timezone = "Europe/Paris", runs = 6 }
duration = { median_s = 420, cv = 0.4 }

[[deployments]]
name = "nightly/load"
queue = "nightly"
after = ["nightly/extract"]
deadline = "2h"
duration = { median_s = 600, cv = 0.3 }

[[deployments]]
name = "adhoc/question"
queue = "adhoc"
arrivals = { kind = "poisson", per_hour = 14, shape = "office", weekend = 0.3 }
duration = { median_s = 240, cv = 0.8 }

[[deployments]]
name = "adhoc/scan"
queue = "adhoc"
crashes = 0.05
arrivals = { kind = "bursts", per_day = 6, size = 12, spread_s = 90 }
duration = { median_s = 200, cv = 0.6, tail = 0.08, tail_shape = 1.5 }
"""


@pytest.fixture(scope="module")
def truth():
    return read_scenario("truth", tomllib.loads(TRUTH))


@pytest.fixture(scope="module")
def fitted(truth, tmp_path_factory):
    """(what was observed, what was fitted to it)."""
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path_factory.mktemp('history')}/h.db"))
    keep_history(store, truth)
    observed = observe_history(store, POOL, since_s=MONDAY_S - DAY_S, until_s=MONDAY_S + 20 * DAY_S)
    model = replace(truth.pools[0], poll_s=99.0, startup_s=99.0, prefetch_s=99.0)
    return observed, calibrate(observed, model)


def source_of(fitted, name):
    return next(each for each in fitted[1].scenario.sources if each.terms.name == name)


def test_the_pool_is_given_back(truth, fitted):
    pool = fitted[1].scenario.pools[0]
    assert pool.limit == 8
    assert {(q.name, q.priority, q.limit) for q in pool.queues} == {
        (q.name, q.priority, q.limit) for q in truth.pools[0].queues
    }
    assert pool.poll_s == pytest.approx(6, rel=0.15)
    assert pool.prefetch_s == pytest.approx(12, abs=1.5)
    assert pool.startup_s == pytest.approx(5, rel=0.05)
    assert pool.startup_spread == pytest.approx(0.3, abs=0.05)


def test_every_kind_of_arrivals_is_recognised(fitted):
    hourly = source_of(fitted, "hourly/sync").arrivals
    assert isinstance(hourly, Interval)
    assert (hourly.every_s, hourly.offset_s, hourly.runs, hourly.known) == (3600, 300, 4, True)
    nightly = source_of(fitted, "nightly/extract").arrivals
    assert isinstance(nightly, Cron)
    assert (nightly.cron, nightly.timezone, nightly.runs) == ("0 1 * * *", "Europe/Paris", 6)
    asked = source_of(fitted, "adhoc/question").arrivals
    assert isinstance(asked, Poisson)
    assert asked.per_hour == pytest.approx(14, rel=0.1)
    assert asked.weekend == pytest.approx(0.3, rel=0.3)
    shape = np.array(asked.shape, dtype=float)
    assert shape[9:17].mean() > 4 * shape[:6].mean()
    scan = source_of(fitted, "adhoc/scan").arrivals
    assert isinstance(scan, Bursts)
    assert scan.per_day == pytest.approx(6, rel=0.25)
    assert scan.size == pytest.approx(12, rel=0.3)
    assert scan.spread_s == pytest.approx(90, rel=0.2)


def test_durations_failures_dependencies_and_terms_are_given_back(fitted):
    hourly, load = source_of(fitted, "hourly/sync"), source_of(fitted, "nightly/load")
    assert hourly.duration.median_s == pytest.approx(300, rel=0.05)
    assert hourly.duration.cv == pytest.approx(0.5, abs=0.06)
    assert hourly.terms.fails == pytest.approx(0.15, abs=0.03)
    assert hourly.terms.retries == 2
    assert hourly.terms.retry_delay_s == pytest.approx(60, abs=1)
    assert (hourly.terms.late_usd_per_hour, hourly.terms.failure_usd, str(hourly.deadline)) == (7.0, 2.0, "40m")
    assert load.after == ("nightly/extract",)
    assert load.arrivals is None
    extract = source_of(fitted, "nightly/extract")
    assert (extract.terms.limit, str(extract.deadline)) == (5, "06:00 Europe/Paris")
    scan = source_of(fitted, "adhoc/scan")
    assert scan.terms.crashes == pytest.approx(0.05, abs=0.03)
    assert scan.duration.tail > 0 or scan.duration.samples  # the heavy tail is not lost
    observed = fitted[0].runs
    lasted = (observed["ended_s"] - observed["started_s"])[observed["deployment"] == "adhoc/scan"]
    assert quantile(scan.duration, 0.99) == pytest.approx(float(lasted.quantile(0.99)), rel=0.4)
    assert hourly.estimate_noise > 0


def test_waits_in_the_twin_are_those_observed(fitted):
    """All runs together, within what two weeks of heavy-tailed bursts leave to chance."""
    observed, calibrated = fitted
    found = measure(observed, calibrated, worlds=6)
    assert max(each.fit.ks for each in found) < 0.12
    for each in found:
        assert each.runs_per_day.error == pytest.approx(0.0, abs=0.25), each.fit.name
        assert each.duration_p50_s.error == pytest.approx(0.0, abs=0.05), each.fit.name
        assert each.duration_p95_s.error == pytest.approx(0.0, abs=0.2), each.fit.name
    by_name = {each.fit.name: each for each in found}
    for name in ("nightly/extract", "nightly/load", "hourly/sync"):
        assert by_name[name].wait_p50_s.fitted == pytest.approx(by_name[name].wait_p50_s.observed, rel=0.25, abs=10)


def test_what_is_written_is_read_back_and_says_what_is_thin(fitted):
    text = as_toml(fitted[1].scenario, ["from a test"])
    again = read_scenario(fitted[1].scenario.name, tomllib.loads(text))
    assert again == fitted[1].scenario
    assert text.startswith("# from a test\n")


@pytest.mark.parametrize("name", [name for name in scenario_names() if name != "family"])
def test_every_scenario_survives_its_file(name):
    scenario = load_scenario(name)
    assert read_scenario(name, tomllib.loads(as_toml(scenario))) == scenario


@pytest.mark.parametrize("seed", range(8))
def test_a_distribution_is_found_again_whatever_its_parameters(seed):
    rng = np.random.default_rng(seed)
    true = Duration(
        median_s=float(np.exp(rng.uniform(2, 8))), cv=float(rng.uniform(0.1, 1.5)), tail=float(rng.choice([0, 0.05]))
    )
    seconds = true.draw(800, rng)
    found, label = fit_duration(seconds)
    assert ks_distance(seconds, found) < 0.06
    assert quantile(found, 0.5) == pytest.approx(float(np.median(seconds)), rel=0.06)
    assert quantile(found, 0.95) == pytest.approx(float(np.quantile(seconds, 0.95)), rel=0.25)
    assert label in ("lognormal", "lognormal with tail", "as recorded")


def test_durations_of_two_kinds_are_kept_as_recorded_and_one_value_is_constant():
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(60, 2, 300), rng.normal(3000, 50, 300)])
    found, label = fit_duration(both)
    assert label == "as recorded"
    assert ks_distance(both, found) < 0.02
    assert fit_duration(np.full(30, 42.0)) == (Duration(median_s=42.0, cv=0.0), "constant")


@pytest.mark.parametrize("seed", range(6))
def test_random_arrivals_are_not_taken_for_bursts_nor_bursts_for_random(seed):
    rng = np.random.default_rng(seed)
    span = {"start_s": MONDAY_S, "end_s": MONDAY_S + 14 * DAY_S, "origin_s": MONDAY_S}
    rate = float(rng.uniform(1, 20))
    flat = Poisson(per_hour=rate).times(MONDAY_S, span["end_s"], rng)
    (stream,) = fit_arrivals(flat, (), **span)
    assert stream.label == "ad hoc"
    assert stream.arrivals.per_hour == pytest.approx(rate, rel=0.2)
    size = float(rng.uniform(4, 40))
    burst = Bursts(per_day=5, size=size, spread_s=60).times(MONDAY_S, span["end_s"], rng)
    (stream,) = fit_arrivals(burst, (), **span)
    assert stream.label == "bursts"
    assert stream.arrivals.size == pytest.approx(size, rel=0.5)


def test_a_rhythm_that_nobody_scheduled_is_found_and_what_comes_beside_a_schedule_is_kept_apart():
    span = {"start_s": MONDAY_S, "end_s": MONDAY_S + 14 * DAY_S, "origin_s": MONDAY_S}
    hourly = MONDAY_S + 120 + HOUR_S * np.arange(14 * 24)
    (stream,) = fit_arrivals(hourly + np.random.default_rng(0).uniform(0, 0.5, len(hourly)), (), **span)
    assert (stream.label, stream.arrivals.every_s, stream.arrivals.offset_s) == ("interval", 3600, 120)
    weekdays = np.array([MONDAY_S + day * DAY_S + 6 * HOUR_S for day in range(14) if day % 7 < 5])
    assert fit_arrivals(weekdays, (), **span)[0].arrivals == Cron(cron="0 6 * * 1-5", known=False)
    extra = np.random.default_rng(1).uniform(MONDAY_S, span["end_s"], 40)
    known, others = fit_arrivals(np.append(hourly, extra), [{"cron": "2 * * * *"}], **span)
    assert (known.label, known.runs, known.note) == ("schedule", 336, "")
    assert (others.label, others.runs) == ("ad hoc", 40)


def test_a_run_behind_the_later_of_two_has_both_as_upstreams_and_chance_makes_none():
    rng = np.random.default_rng(3)
    base = np.arange(60) * DAY_S / 2
    a, b = base + rng.uniform(0, 7200, 60), base + rng.uniform(0, 7200, 60)
    joined = np.sort(np.maximum(a, b) + rng.uniform(0, 5, 60))
    loose = np.sort(rng.uniform(0, base[-1], 60))
    done = {"a": np.sort(a), "b": np.sort(b), "joined": joined + 600, "loose": loose + 60}
    found = fit_triggers({"joined": joined, "loose": loose}, done, float(base[-1]))
    assert {name: set(above) for name, above in found.items()} == {"joined": {"a", "b"}}


def fact(number, **changes):
    at = time.time() - 3600.0 * (number + 1)
    values = {
        "run_id": f"r{number}", "name": None, "pool": "etl", "queue": "q", "deployment": "load/daily", "version": None,
        "host": None, "state": "COMPLETED", "cause": None, "scheduled_s": at, "submitted_s": at, "started_s": at + 5,
        "ended_s": at + 65 + number, "due_s": None, "size": None, "expected_s": None, "attempts": 1,
        "late_usd_per_hour": None, "failure_usd": None, "message": None,
    }  # fmt: skip
    return RunFact(**(values | changes))


@pytest.fixture
def history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/h.db"
    store = SqlRuns(open_engine(url))
    store.put_queues([QueueFact("etl", "", time.time() - 9e5, None, 4, False)])
    return store, url


def test_the_command_writes_a_scenario_that_runs_and_says_where_data_is_thin(history, tmp_path, capsys):
    store, url = history
    store.put(runs=[fact(number) for number in range(6)])
    assert main(["--history", url, "-o", "my.toml", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (row,) = said["deployments"]
    assert (row["name"], row["runs"], row["duration_p50_s"]["observed"]) == ("load/daily", 6, 62.5)
    assert "durations from 6 runs only" in row["notes"]
    assert any("cannot show a week" in note for note in said["notes"])
    assert any("start-up: 0 seen" in note for note in said["notes"])
    assert "durations from 6 runs only" in (tmp_path / "my.toml").read_text()
    assert load_scenario("my.toml").pools[0].limit == 4
    assert main(["--history", url, "-o", "my.toml"]) == 0
    table = capsys.readouterr().out
    assert "observed > fitted" in table
    assert "load/daily" in table


def test_what_could_not_be_fitted_is_marked_and_said(history, tmp_path, capsys):
    """Runs that waited three hours in a pool with room: something that the history does not show made them wait."""
    store, url = history
    facts = [fact(number) for number in range(40)]
    store.put(runs=[each._replace(started_s=each.started_s + 1e4, ended_s=each.ended_s + 1e4) for each in facts])
    assert main(["--history", url, "-o", "my.toml", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)["unfit"]
    assert any(each.startswith("load/daily: p95 of the wait in seconds 10,005 observed") for each in said)
    assert list(load_scenario("my.toml").unfit) == said
    assert main(["--history", url, "-o", "my.toml"]) == 1
    assert "Not fitted: load/daily" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pool", "etk"], "did you mean 'etl'"),
        (["--pool", "etl"], "0 ended runs"),
        (["--days", "0"], "--days"),
        (["--hours", "-1"], "--hours"),
        (["--worlds", "0"], "--worlds"),
        (["-o", "gone/my.toml"], "its folder does not exist"),
        (["-o", "my.txt"], "must end in .toml"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_and_nothing_is_written(history, tmp_path, capsys, words, message):
    before = sorted(tmp_path.iterdir())
    assert main(["--history", history[1], "-o", "my.toml", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_history_and_several_pools_are_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--history", f"sqlite:///{tmp_path}/none.db", "-o", "my.toml"]) == 2
    assert "there is none; run `prefect-intelligent sync`" in capsys.readouterr().err
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path}/h.db"))
    assert main(["--history", f"sqlite:///{tmp_path}/h.db", "-o", "my.toml"]) == 2
    assert "nothing to calibrate on" in capsys.readouterr().err
    store.put(runs=[fact(1), fact(2, pool="ml")])
    assert main(["--history", f"sqlite:///{tmp_path}/h.db", "-o", "my.toml"]) == 2
    assert "name one of etl, ml" in capsys.readouterr().err
    assert not (tmp_path / "my.toml").exists()
