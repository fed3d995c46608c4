"""What a team's pool has is read from its history: workers, limits, shared limits, parents, occupied slots."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.history.adapters.prefect_source import _deployment, _event
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.replay.workers import learned_workers
from simulations.arrivals import DAY_S
from simulations.calibration.families import fit_families
from simulations.calibration.fit import calibrate
from simulations.calibration.goodness import measure
from simulations.calibration.observed import observe_history
from simulations.scenario import read_scenario
from simulations.scenario_file import as_toml
from tests.twin_history import POOL, keep_history

MONDAY_S = 1767571200.0  # 2026-01-05
TEAM = """
purpose = "Workers with limits and queues, parents with children, shared limits, occupied slots."
start_s = 1767571200
hours = 96
[[pools]]
limit = 12
poll_s = 6
prefetch_s = 0
startup_s = 5
queues = [{ name = "orchestrate", priority = 1 }, { name = "load", priority = 2 }, { name = "adhoc", priority = 3 }]
workers = [
    { name = "general", limit = 3 },
    { name = "loader", limit = 2, queues = ["load", "orchestrate"] },
]

[[resources]]
name = "warehouse"
capacity = 12

[[deployments]]
name = "nightly/orchestrate"
queue = "orchestrate"
arrivals = { kind = "interval", every_s = 3600, offset_s = 60 }
duration = { median_s = 60, cv = 0.3 }
calls_at = 0.25

[[deployments]]
name = "load/tables"
queue = "load"
called_by = "nightly/orchestrate"
called_times = 3
duration = { median_s = 240, cv = 0.4 }
resources = ["warehouse", "warehouse"]
limit = 3
limit_group = "warehouse writers"

[[deployments]]
name = "load/primary"
queue = "load"
arrivals = { kind = "interval", every_s = 2400 }
duration = { median_s = 200, cv = 0.4 }
limit = 3
limit_group = "warehouse writers"

[[deployments]]
name = "adhoc/refresh"
queue = "adhoc"
arrivals = { kind = "poisson", per_hour = 45 }
duration = { median_s = 150, cv = 0.6 }
limit = 2
cancels_new = true

[[deployments]]
name = "adhoc/question"
queue = "adhoc"
arrivals = { kind = "poisson", per_hour = 40 }
duration = { median_s = 120, cv = 0.6 }
"""


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path_factory.mktemp('history')}/h.db"))
    keep_history(store, read_scenario("team", tomllib.loads(TEAM)))
    return observe_history(store, POOL, since_s=MONDAY_S - DAY_S, until_s=MONDAY_S + 6 * DAY_S)


@pytest.fixture(scope="module")
def fitted(observed):
    return calibrate(observed, replace(read_scenario("team", tomllib.loads(TEAM)).pools[0], workers=()))


def test_workers_have_the_limits_and_queues_that_they_had(fitted):
    assert {(each.name, each.limit, each.queues) for each in fitted.scenario.pools[0].workers} == {
        ("general", 3, ()),
        ("loader", 2, ("load", "orchestrate")),
    }


def learned(observed, workers, limit=None):
    limit = observed.pool.limit if limit is None else limit
    return learned_workers(observed.passages, workers, observed.queues, limit, 6.0)


def test_polls_are_measured_where_a_worker_had_room(fitted):
    assert 3.0 < fitted.scenario.pools[0].poll_s < 8.0  # 6, and two workers poll one of the queues


def test_workers_that_come_and_go_are_taken_as_one(observed):
    renamed = {run: f"{name}-{number // 60}" for number, (run, name) in enumerate(observed.workers.items())}
    workers, doubt = learned(observed, renamed)
    assert workers == ()
    assert "too few stay" in doubt
    assert learned(observed, {}) == ((), None)


def test_a_worker_without_a_limit_gets_none(observed):
    everyone = dict.fromkeys(observed.workers, "one")
    # The five slots of both workers: the pool may as well have been full.
    assert learned(observed, everyone, limit=5) == ((), None)


def test_limits_of_deployments_are_those_of_the_server(fitted):
    terms = {source.terms.name: source.terms for source in fitted.scenario.sources}
    assert {(t.limit, t.limit_group, t.cancels_new) for n, t in terms.items() if n.startswith("load/")} == {
        (3, "warehouse writers", False)
    }
    refresh = terms["adhoc/refresh"]
    assert (refresh.limit, refresh.limit_group, refresh.cancels_new) == (2, None, True)
    assert terms["adhoc/question"].limit is None


def test_parents_and_their_children_are_found(fitted):
    sources = {source.terms.name: source for source in fitted.scenario.sources}
    tables, parent = sources["load/tables"], sources["nightly/orchestrate"]
    assert (tables.called_by, tables.called_times, tables.arrivals) == ("nightly/orchestrate", 3, None)
    assert parent.terms.calls_at == pytest.approx(0.25, abs=0.05)
    assert parent.duration.median_s == pytest.approx(60, rel=0.2)  # not the minutes for which it waits
    assert all(s.called_by is None for name, s in sources.items() if name != "load/tables")


def test_runs_that_only_happen_to_lie_inside_others_have_no_parent(observed):
    rng = np.random.default_rng(0)
    runs = observed.runs[observed.runs["deployment"].isin(["adhoc/question", "load/primary"])].copy()
    long = runs["deployment"] == "load/primary"
    runs.loc[long, "ended_s"] = runs.loc[long, "started_s"] + 2300.0  # nearly always one at work
    assert fit_families(runs, (), observed.span_s) == {}
    moved = runs["deployment"] == "adhoc/question"
    runs.loc[moved, "scheduled_s"] += rng.uniform(-60, 60, moved.sum())
    assert fit_families(runs, (), observed.span_s) == {}


def test_occupied_slots_become_resources(fitted):
    assert [(r.name, r.capacity) for r in fitted.scenario.resources] == [("warehouse", 12.0)]
    terms = {source.terms.name: source.terms.resources for source in fitted.scenario.sources}
    assert terms.pop("load/tables") == ("warehouse", "warehouse")
    assert set(terms.values()) == {()}


def test_the_scenario_is_written_read_and_waits_as_the_pool_did(observed, fitted):
    again = read_scenario(fitted.scenario.name, tomllib.loads(as_toml(fitted.scenario)))
    assert again == fitted.scenario
    for each in measure(observed, fitted, worlds=2):
        assert each.wait_p50_s.fitted == pytest.approx(each.wait_p50_s.observed, rel=0.5, abs=20.0), each.fit.name
        assert each.runs_per_day.error == pytest.approx(0.0, abs=0.15)


def test_events_tell_by_their_labels_who_took_what():
    run = {"prefect.resource.id": "prefect.flow-run.abc", "prefect.resource.role": "flow-run"}
    taken = {
        "id": "1",
        "occurred": "2026-01-05T00:00:00Z",
        "event": "prefect.worker.submitted-flow-run",
        "resource": {"prefect.resource.id": "prefect.worker.process.w", "prefect.resource.name": "w"},
        "related": [{"prefect.resource.id": "prefect.work-pool.p", "prefect.resource.role": "work-pool"}, run],
        "payload": {},
    }
    assert json.loads(_event(taken).payload) == {"name": "w", "run_id": "abc"}
    resource = {"prefect.resource.id": "prefect.concurrency-limit.l", "prefect.resource.name": "db"}
    resource |= {"slots-acquired": "2", "limit": "5"}
    held = taken | {"event": "prefect.concurrency-limit.acquired", "resource": resource, "related": [run]}
    assert json.loads(_event(held).payload) == {"name": "db", "run_id": "abc", "slots": "2", "limit": "5"}
    assert json.loads(_event(taken | {"event": "other", "payload": {"a": 1}}).payload) == {"a": 1}


def test_a_deployment_fact_tells_its_limit_and_strategy():
    row = {
        "id": "d",
        "name": "d",
        "updated": "2026-01-05T00:00:00Z",
        "global_concurrency_limit": {"name": "writers", "limit": 3},
        "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
    }
    details = json.loads(_deployment(row, "f", None).details)
    assert (details["concurrency_limit"], details["limit_name"], details["collision_strategy"]) == (
        3, "writers", "CANCEL_NEW",
    )  # fmt: skip
