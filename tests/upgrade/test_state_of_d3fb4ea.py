"""What commit d3fb4ea has stored is opened and carried on with: nothing is lost, nothing is done twice."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text

from prefect_intelligent.analytics.alert_events import open_alerts
from prefect_intelligent.analytics.frames import decision_frame, quality_frame
from prefect_intelligent.cli import main
from prefect_intelligent.domain import Deployment, PoolSetting, QueueSetting
from prefect_intelligent.history.adapters.migrations import HEAD
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.sync import sync
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.pipelines.adapters import event_relay
from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.event_names import ARRIVED, BATCH, FRESH, PIPELINE
from prefect_intelligent.pipelines.pending_events import pending_events
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.version import PULL_STEP
from prefect_intelligent.policy import Proposal, parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prevention.engine import read_measures
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.recommendations.apply import last_applied, undo_last
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.controller_state import load_state
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import read_switch
from prefect_intelligent.steering.manual_overrides import from_rows, to_rows, values_of
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import plan_restoration, restore
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from prefect_intelligent.testing.pipelines import FakePipelineServer
from prefect_intelligent.testing.runs import FakeRuns
from prefect_intelligent.testing.tracker import InMemoryTracker
from prefect_intelligent.tracking.outbox import Outbox
from prefect_intelligent.tracking.shipper import ship
from tests.stored_state import AT_S, EXPECTED, FOLDER, load_postgres, unpack

UNDELIVERED = EXPECTED["undelivered"]
EDF = parse_policy("edf")
OPEN = """
import sys
from pathlib import Path
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.tracking.outbox import Outbox
url, folder = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
history = open_history(url)
history.append("decision", "other", 0.0, {})
Outbox(Path(folder) / "outbox.db").close()
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data folder as commit d3fb4ea has left it; that of everything in this process."""
    folder = unpack(tmp_path / "data")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(folder))
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request, data, monkeypatch):
    """The history that commit d3fb4ea has left."""
    if request.param == "sqlite":
        return f"sqlite:///{data}/history.db"
    found = request.getfixturevalue("postgres_database")
    load_postgres(found)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", found)
    return found


@pytest.fixture
def history(url):
    return open_history(url)


def pool_as_it_was(name):
    """The pool as Prefect held it when d3fb4ea ended."""
    expected = EXPECTED["pools"][name]
    values = from_rows(expected["in_force"])
    queues = [
        QueueSetting(name=queue, priority=values[queue, "priority"], limit=values[queue, "limit"])
        for queue in sorted({queue for queue, _ in values if queue is not None})
    ]
    setting = PoolSetting(name=name, limit=values[None, "limit"])
    pool = InMemoryOrchestrator(queues, pool=setting, clock=ManualClock(expected["at_s"] + 30.0))
    for deployment, queue in expected["homes"].items():
        pool.deploy(Deployment(name=deployment, queue=queue))
    return pool


class Wants:
    """A policy that wants every queue at one run at once, and the pool at three."""

    name = "wants"

    def propose(self, census):
        count = len(census.queues)
        return Proposal(-np.arange(count, dtype=float), np.ones(count), np.asarray(3.0))


def carry_on(pool, history, policy=EDF):
    pool.clock.sleep(30.0)
    config = ControllerConfig(policy=policy, rule=EDF, guard=GuardSettings(interval_s=0.0, hysteresis=0.0))
    return reconcile(pool, history, pool.clock, config)


@pytest.mark.parametrize("name", ["warehouse", "lake", "mill"])
def test_the_settings_to_go_back_to_are_known_and_restore_gives_them_back(history, name):
    expected, pool = EXPECTED["pools"][name], pool_as_it_was(name)
    originals = from_rows(expected["originals"])
    assert read_baseline(history, name) == originals
    planned = [[change.queue, change.field, change.after] for change in plan_restoration(pool, history).changes]
    assert planned == expected["restores"]
    restore(pool, history, pool.clock, by="me")
    found = values_of(*pool.settings())
    lanes = {key for key in originals if (key[0] or "").startswith("pi-")}  # of an adoption, which is undone
    assert {key: found.get(key) for key in originals.keys() - lanes} == {
        key: value for key, value in originals.items() if key not in lanes
    }
    assert not lanes & found.keys()
    assert {deployment.queue for deployment in pool.deployments()} <= {"default"}


@pytest.mark.parametrize("name", ["warehouse", "lake", "mill"])
def test_a_controller_steers_on_and_takes_none_of_our_values_for_a_persons(history, name):
    """In `warehouse` the last one died between its writes and their record."""
    expected, pool = EXPECTED["pools"][name], pool_as_it_was(name)
    passes = load_state(history, name).passes
    carry_on(pool, history, Wants())
    state = load_state(history, name)
    assert state.passes == passes + 1
    by_recommend = [["gold", "limit"]] if name == "mill" else []  # a person has applied a recommendation
    assert [list(key) for key in state.known.overrides] == expected["held"] + by_recommend
    if name == "mill":  # it was restored: somebody has to start a controller
        assert read_switch(history, name) == "unset"
        return
    for policy in (Wants(), EDF):
        carry_on(pool, history, policy)
    changed = to_rows(values_of(*pool.settings()))
    assert changed != expected["in_force"]
    assert all((value, key) in ((row[2], tuple(row[:2])) for row in changed) for value, key in kept(expected))
    restore(pool, history, pool.clock, by="me")
    originals, found = from_rows(expected["originals"]), values_of(*pool.settings())
    assert {key: found[key] for key in originals if key in found} == {
        key: value for key, value in originals.items() if key in found
    }


def kept(expected):
    """Values that a person has set, which are left alone."""
    values = from_rows(expected["in_force"])
    return [(values[tuple(key)], tuple(key)) for key in expected["held"]]


def test_a_recommendation_that_was_applied_can_be_taken_back(history):
    pool = pool_as_it_was("mill")
    assert last_applied("mill", history)["title"] == "Raise gold to 3"
    undo_last(pool, history, pool.clock)
    assert values_of(*pool.settings())["gold", "limit"] == 1


def test_a_change_of_pipelines_that_was_cut_off_is_finished_with_the_present_pull_step(history, tmp_path):
    expected, clock = EXPECTED["pipelines"], ManualClock(AT_S + 3600.0)
    server = FakePipelineServer(expected["resources"])
    versions = VersionStore(history, FsspecBlobStore(str(tmp_path / "blobs")), clock)
    deployment = expected["cut_off"]["deployment"]
    before = server.read(f"deployment:{deployment}")
    assert [version.id for version in versions.all(deployment)] == expected["versions"]
    assert versions.tags() == expected["tags"]
    assert versions.current(deployment, before).id in expected["versions"]
    transactions = Transactions(server, history, clock)
    assert transactions.pending()
    assert transactions.recover() == "deploy"
    assert transactions.recover() is None
    after = server.read(f"deployment:{deployment}")
    assert versions.current(deployment, after).id == expected["cut_off"]["version"]
    assert [list(step) for step in after["pull_steps"]] == [[PULL_STEP]]


def test_the_measure_in_force_the_alerts_and_the_results_of_checks_are_known(history):
    assert [str(measure.measure.lever) for measure in read_measures(history, "warehouse").values()] == ["hold"]
    assert open_alerts(history, "warehouse").keys() == {"hung-run:r1", "hung-run:r2"}
    outcomes = ["passed", "remedied", "blocked", "error"]
    assert [result["outcome"] for result in past_results(history, "ds/main/t")] == outcomes
    assert len(quality_frame(history)) == 4
    assert len(decision_frame(history)) == EXPECTED["kinds"]["decision"]


def test_every_kind_of_record_is_read_as_often_as_it_was_written(history, url):
    counts = {kind: len(history.records(kind)) for kind in EXPECTED["kinds"]}
    assert counts == EXPECTED["kinds"]
    with open_engine(url).connect() as connection:
        assert connection.execute(text("SELECT version_num FROM pi_schema_version")).scalars().all() == [HEAD]


def test_runs_are_read_and_copied_on(url, data):
    store = SqlRuns(open_engine(url))
    runs, rows = store.counts()["runs"], EXPECTED["copied"]["runs"]
    assert store.counts() == {**rows, "runs": runs}
    frame = store.run_frame()
    assert len(frame) == runs == (rows["runs"] if url.startswith("sqlite") else 81)
    assert set(frame["queue"].unique()) == {"gold", "ml", "bulk"}
    assert len(store.task_run_frame()) == len(store.state_frame()) / 3 == 11
    assert len(store.queue_frame()) == 6
    reached = store.cursor("runs")
    assert reached == EXPECTED["copied"]["at_s"]
    source = FakeRuns()
    source.clock_s = reached + 3600.0
    sync(source, store, ManualClock(reached + 3600.0))
    assert store.cursor("runs") == reached + 3600.0
    assert store.counts()["runs"] == runs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["explain", "--pool", "warehouse"], "gold"),
        (["report", "--pool", "warehouse", "--last", "4000d", "--json"], '"runs": '),
        (["health", "--pool", "warehouse", "--last", "4000d", "--json"], "etl/d0"),
        (["quality", "history", "ds/main/t", "--json"], "remedied"),
        (["dashboard", "--pool", "warehouse", "--audit"], "steer-off"),
    ],
)
def test_the_commands_that_look_back_read_it(url, capsys, words, says):
    assert main(words) in (0, 1)
    assert says in capsys.readouterr().out


def test_what_was_not_delivered_is_shipped_once(data):
    spool, outbox, tracker = Spool(data / "spool"), Outbox(data / "outbox.db"), InMemoryTracker()
    clock, checked = ManualClock(AT_S + 3600.0), []
    first = ship(spool, outbox, tracker, clock, check=lambda entry: checked.append(entry.id), archive_all=True)
    second = ship(spool, outbox, tracker, clock, check=lambda entry: checked.append(entry.id), archive_all=True)
    waited = [*UNDELIVERED["waiting"], *UNDELIVERED["spooled"]]
    asked = [event for event in waited if event.startswith("check:")]
    assert (first.collected, first.sent, first.problem) == (len(UNDELIVERED["spooled"]), len(waited) - len(asked), "")
    assert (second.collected, second.sent, second.archived) == (0, 0, 0)
    assert checked == asked
    archived = [event for events in tracker.files.values() for event in events]
    assert sorted(archived) == sorted({*UNDELIVERED["sent"], *waited} - {*asked})
    drawn = {place for stream, _, _, place, _ in tracker.points if stream.startswith("decisions/")}
    assert min(drawn) == len(UNDELIVERED["sent"]) + len(UNDELIVERED["refused"]) + 1  # what was sent is not sent again
    assert (second.status.waiting, second.status.refused, second.status.torn) == (0, len(UNDELIVERED["refused"]), 1)


class Server:
    """Takes events as Prefect does: one with a known id is the same event."""

    def __init__(self):
        self.events = {}

    def within(self, seconds):
        return nullcontext()

    def call(self, method, route, body=None, **options):
        if route == "/events":
            self.events |= {event["id"]: event for event in body}
        return {"events": []}


def test_what_was_not_announced_is_announced_once(data, monkeypatch):
    box, server = pending_events(UNDELIVERED["server"], data), Server()
    (line, *_) = (line for line in (box.folder / "active").read_text().splitlines() if line)
    written_s = json.loads(line)["at_s"]
    monkeypatch.setattr(event_relay, "time", SimpleNamespace(time=lambda: written_s + 60.0, monotonic=time.monotonic))
    assert event_relay.deliver(server, box) == len(UNDELIVERED["letters"]) == 3
    assert event_relay.deliver(server, box) == 0
    told = sorted((event["event"], event["resource"][BATCH]) for event in server.events.values())
    assert told == [(ARRIVED, f"2025-06-0{n}") for n in (1, 2, 3)] + [(FRESH, f"2025-06-0{n}") for n in (1, 2)]
    assert {event["resource"][PIPELINE] for event in server.events.values()} == {"v7"}


def test_two_processes_open_it_at_once(url, data):
    command = [sys.executable, "-c", OPEN, url, str(data)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    history = open_history(url)
    assert len(history.records("decision", "other")) == 2
    assert {kind: len(history.records(kind)) for kind in EXPECTED["kinds"] if kind != "decision"} == {
        kind: count for kind, count in EXPECTED["kinds"].items() if kind != "decision"
    }
    assert Outbox(data / "outbox.db").status().waiting == len(UNDELIVERED["waiting"])


@pytest.mark.postgres
def test_the_writer_still_runs_so_that_it_can_write_what_the_next_version_has_to_read(postgres_database, tmp_path):
    command = [sys.executable, "-W", "ignore", str(FOLDER.parent / "write_state.py"), str(tmp_path / "now")]
    # First on the path: one of the libraries installs a package that is called `tests`, too.
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(FOLDER.parents[2])}, check=True)
    written = json.loads((tmp_path / "now" / "expected.json").read_text())
    switches = EXPECTED["kinds"]["switch"] + 3  # since then each pool is switched on first
    assert written["kinds"].pop("pool-limit") > 0  # a kind of version 0.3
    assert written["kinds"] == EXPECTED["kinds"] | {"switch": switches}
    assert written["pools"] == EXPECTED["pools"]
    assert {path.name for path in (tmp_path / "now").iterdir()} == {path.name for path in FOLDER.iterdir()}
