"""Writes a data folder with stored state of every kind, by the real code: what an upgrade must be able to read.

    python tests/state/write_state.py tests/state/<commit>

`tests/state/d3fb4ea` was written by this file at commit d3fb4ea, before anything was moved or renamed. It needs
PostgreSQL on this machine (`postgres.sql` is a dump of the same history there).

The folder holds a data folder (`data/`, its databases compressed), `postgres.sql`, and `expected.json`: what Prefect
held when the writer ended, what `restore` must give back, and which events and announcements had not been delivered.
"""

import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fastapi.testclient import TestClient

from prefect_intelligent.analytics.alert_events import raise_alerts
from prefect_intelligent.analytics.alerts import Alert
from prefect_intelligent.dashboard.app import DashboardConfig, create_app
from prefect_intelligent.domain import (
    Deployment,
    Estimate,
    PoolSetting,
    QueueSetting,
    Run,
    RunPhase,
    Terms,
)
from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.domain.deadlines import parse_deadline
from prefect_intelligent.errors import TrackerError, TrackerUnavailableError
from prefect_intelligent.flow import hooks
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import DeploymentFact, EventFact, QueueFact, RunFact, StateFact, TaskRunFact
from prefect_intelligent.history.sync import sync
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import relay_key
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations
from prefect_intelligent.pipelines.live_changes import apply_modification, prepare_modification
from prefect_intelligent.pipelines.pending_events import pending_events
from prefect_intelligent.pipelines.survey import Overrides
from prefect_intelligent.policy import Proposal, parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prevention.engine import prevent
from prefect_intelligent.prevention.evidence import EndedRun, Evidence
from prefect_intelligent.prevention.measures import RuleSettings
from prefect_intelligent.prevention.rules import RULES
from prefect_intelligent.quality.gate import Gate
from prefect_intelligent.quality.model import CheckOutcome, CheckResult, Contract, FailingRows, Severity, Verification
from prefect_intelligent.quality.remediation import EditReport, RemediationPolicy
from prefect_intelligent.recommendations.apply import SCORED, apply_recommendation
from prefect_intelligent.recommendations.evaluate import KIND as RECOMMENDED
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation
from prefect_intelligent.replay.tradeoff_curve import KIND as FRONT
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.controller_state import load_state, request_release
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.steering.manual_overrides import to_rows, values_of
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import plan_restoration, restore
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from prefect_intelligent.testing.pipelines import ProcessKilled
from prefect_intelligent.testing.prevention_actions import InMemoryPreventionActions
from prefect_intelligent.testing.quality import InMemoryDownstream, ScriptedChecker
from prefect_intelligent.testing.runs import FakeRuns
from prefect_intelligent.testing.tracker import InMemoryTracker
from prefect_intelligent.tracking.outbox import Outbox
from prefect_intelligent.tracking.shipper import ship
from tests.pipeline_fakes import Project
from tests.real_prefect import PostgresDatabase

AT_S = 1_750_032_000.0  # 2025-06-16T00:00:00Z
DAY_S = 86_400.0
URL = "http://prefect.invalid/api"
"""The server that the announcements are meant for."""

EDF = parse_policy("edf")
QUICK = GuardSettings(interval_s=0.0, hysteresis=0.0)
BY = "controller host:4242"


class Wants:
    """A policy that wants what it is told to."""

    name = "wants"

    def __init__(self, names, order=(), limits=None, pool_limit=np.inf):
        self.names, self.order, self.limits, self.pool_limit = sorted(names), order, limits or {}, pool_limit

    def propose(self, census):
        score = np.array([-float(self.order.index(n)) if n in self.order else -99.0 for n in self.names])
        limit = np.array([float(self.limits.get(n, np.inf)) for n in self.names])
        return Proposal(score, limit, np.asarray(float(self.pool_limit)))


class Dies:
    """A history in whose process the power fails before a record of one kind is kept."""

    def __init__(self, history, kind):
        self._history, self._kind = history, kind

    def __getattr__(self, name):
        return getattr(self._history, name)

    def append(self, kind, *rest):
        if kind == self._kind:
            raise ProcessKilled
        return self._history.append(kind, *rest)


def charter(policy, **more):
    return ControllerConfig(**{"policy": policy, "rule": EDF, "guard": QUICK, "by": BY, **more})


def run(name, queue, at_s, due_s):
    return Run(
        id=name,
        deployment=f"{queue}/nightly",
        queue=queue,
        phase=RunPhase.UPCOMING,
        scheduled_s=at_s,
        due_s=due_s,
        late_usd_per_hour=2.0,
        estimate=Estimate(p50_s=60.0, p90_s=120.0),
    )


def make_pool(name, queues, limit):
    pool = InMemoryOrchestrator(queues, pool=PoolSetting(name=name, limit=limit), clock=ManualClock(AT_S))
    for number, queue in enumerate(queues):
        pool.submit(run(f"{queue.name}-0", queue.name, AT_S, AT_S + 600.0 * (number + 1)), works_s=1e6)
    return pool


def steer_warehouse(history):
    """Steered, edited by a person, switched off and on, and killed between a write and its record."""
    queues = [
        QueueSetting(name="bulk", priority=10),
        QueueSetting(name="default", priority=40),
        QueueSetting(name="gold", priority=30, limit=5),
        QueueSetting(name="ml", priority=20, limit=4),
    ]
    pool = make_pool("warehouse", queues, 6)
    names = [queue.name for queue in queues]
    decisions = []

    set_switch(history, "warehouse", "on", AT_S, "somebody")

    def decide(policy, **more):
        pool.clock.sleep(30.0)
        decisions.append(reconcile(pool, history, pool.clock, charter(policy, **more)))

    first = Wants(names, ("gold", "ml", "bulk"), {"bulk": 3, "gold": 4}, 5)
    decide(first, mode="shadow")
    decide(first)
    decide(first)
    pool.edit("ml", lambda queue: replace(queue, limit=2))  # a person's, held from now on
    decide(first)
    pool.edit("ml", lambda queue: replace(queue, limit=1))  # and again
    pool.edit("bulk", lambda queue: replace(queue, limit=9))
    decide(first)
    pool.edit("bulk", lambda queue: replace(queue, limit=3))  # taken back
    decide(first)
    set_switch(history, "warehouse", "off", pool.clock.now_s(), "somebody")
    decide(first)
    set_switch(history, "warehouse", "on", pool.clock.now_s(), "somebody")
    pool.edit("default", lambda queue: replace(queue, limit=7))
    decide(first)
    request_release(history, "warehouse", ["default"], pool.clock.now_s())
    decide(first)
    pool.clock.sleep(30.0)
    with contextlib.suppress(ProcessKilled):
        second = Wants(names, ("ml", "gold", "bulk"), {"bulk": 2, "gold": 4}, 4)
        reconcile(pool, Dies(history, DECISION), pool.clock, charter(second))
    return pool, decisions


def steer_lake(history):
    """Adopted into lanes of its own, steered, restored, started again."""
    pool = InMemoryOrchestrator([QueueSetting(name="own", priority=7, limit=3)], pool="lake", clock=ManualClock(AT_S))
    for name, usd in (("orders/nightly", 5.0), ("report/daily", 50.0)):
        pool.deploy(Deployment(name=name, queue="default", terms=Terms(late_usd_per_hour=usd)))
    before = values_of(*pool.settings())

    set_switch(history, "lake", "on", AT_S, BY)

    def decide(limit):
        pool.clock.sleep(30.0)
        names = [queue.name for queue in pool.settings()[1]]
        reconcile(pool, history, pool.clock, charter(Wants(names, ("own",), {"own": limit})))

    decide(2)
    restore(pool, history, pool.clock, by="somebody")
    assert values_of(*pool.settings()) == before
    set_switch(history, "lake", "on", pool.clock.now_s(), BY)
    adopt(pool, history, pool.clock, plan_adoption(pool.deployments(), pool.settings()[1], "deployment"))
    decide(1)
    return pool, before


def restore_mill(history):
    """Steered and restored, then a recommendation applied: hooks leave it alone, nothing is to be put back."""
    queues = [QueueSetting(name="bulk", priority=50), QueueSetting(name="gold", priority=90, limit=1)]
    pool = make_pool("mill", queues, 6)
    set_switch(history, "mill", "on", AT_S, "somebody")
    pool.clock.sleep(30.0)
    reconcile(pool, history, pool.clock, charter(Wants([q.name for q in pool.settings()[1]], ("gold",), {}, 2)))
    restore(pool, history, pool.clock, by="somebody")
    change = ProposedChange(
        kind="queue-limit", subject="gold", title="Raise gold to 3", evidence="it waits", limits={"gold": 3}
    )
    row = Recommendation(change=change, saving_usd_per_day=12.5, interval=(8.0, 17.0), days=14).row()
    history.append(RECOMMENDED, "mill", pool.clock.now_s(), {"rows": [row], "last": "14d"})
    apply_recommendation(row, pool, history, pool.clock)
    scored = {"title": row["title"], "promised_usd_per_day": 12.5, "real_usd_per_day": 11.0}
    history.append(SCORED, "mill", pool.clock.now_s(), {**scored, "interval": [9.0, 13.0], "days": 7})
    return pool


def prevent_failures(history):
    """A deployment that keeps failing is held; one of another rule is only recorded."""
    names = [f"job/{number}" for number in range(6)]
    ended = {
        name: [
            EndedRun(name, "v1", "abc"[hour % 3], AT_S - (48 - hour) * 3600.0, AT_S - (48 - hour) * 3600.0 + 360.0,
                  name == "job/3" and hour > 44, "ValueError: x" if name == "job/3" and hour > 44 else None, 1, 2.0)
            for hour in range(48)
        ]
        for name in names
    }  # fmt: skip
    actions = InMemoryPreventionActions(deployments={name: {"memory": 2.0} for name in names})
    settings = {name: RuleSettings(mode="auto", again=True) for name in RULES}
    evidence = Evidence(now_s=AT_S, ended=ended, longest_s=lambda _: 600.0)
    assert prevent(evidence, history, actions, "warehouse", settings=settings)
    return actions


class Editor:
    """A `DatasetEditor` that says it has done it."""

    def edit(self, dataset, table, edits, *, run_id, at_s, budget_rows=None, dry_run=False):
        return EditReport(quarantined=1, by_check={edit.check.id: 1 for edit in edits}, quarantine="q")

    def keep_good(self, dataset, table):
        return True

    def restore_good(self, dataset, table, run_id):
        return True


def check_data(history):
    """Passed, remedied, blocked with a deployment held, and an error of the checker."""
    contract = Contract(source="t", text="dataset: ds/main/t", dataset="ds/main/t", tree={"columns": []})
    data = Dataset(kind=DataKind.DUCKDB, location="w.duckdb", table="t")
    clock = ManualClock(AT_S)

    def verified(outcome, severity=Severity.MAJOR, errors=()):
        values = {
            "kind": "invalid",
            "column": "a",
            "rows": FailingRows(predicate="x"),
            "rows_tested": 100,
            "rows_failed": 1,
        }
        check = CheckResult(
            id="c", name="c", outcome=outcome, at_s=clock.now_s(), severity=severity, value=1.0, **values
        )
        return Verification(
            dataset="ds/main/t", contract="h", checks=(check,), started_s=clock.now_s(), duration_s=0.1, errors=errors
        )

    good, bad = verified(CheckOutcome.PASSED), verified(CheckOutcome.FAILED)
    blocking = verified(CheckOutcome.FAILED, Severity.CRITICAL)
    found = []
    for results in ((good,), (bad, good), (blocking,), (verified(CheckOutcome.PASSED, errors=("no such file",)),)):
        clock.sleep(600.0)
        gate = Gate(
            checker=ScriptedChecker(*results),
            editor=Editor(),
            clock=clock,
            history=history,
            downstream=InMemoryDownstream(known=["mart/nightly"]),
            policy=RemediationPolicy(downstream=("mart/nightly",)),
        )
        run_id = str(uuid.uuid4())
        found.append(gate.run(contract, data, run_id=run_id, producer=run_id).to_record(run_id, clock.now_s(), run_id))
    return found


def press_buttons(history):
    """Somebody acknowledges an alert and turns the switch in the dashboard."""
    with TestClient(
        create_app(DashboardConfig(pool="warehouse", build=dict, interval_s=3600.0, actions=history))
    ) as browser:
        own = {"x-csrf-token": browser.get("/api/session").json()["csrf"], "origin": "http://testserver"}
        for action, content in (("acknowledge", b"new-cause:x"), ("steer-off", b""), ("steer-on", b"")):
            assert browser.post(f"/api/actions/{action}", headers=own, content=content).status_code == 200


def change_pipelines(history, blobs):
    """Versions kept, tagged, deployed, rolled back and collected; automations; a change that was cut off."""
    project = Project(blobs)
    project.history, project.clock = history, ManualClock(AT_S)
    project.versions = replace(project.versions, history=history, clock=project.clock)
    project.rollout.keep_current("clean/p", "me")
    first = project.version("v1")
    project.rollout.swap(first)
    project.clock.jump(60)
    second = project.version("v2")
    project.rollout.swap(second)
    project.versions.tag(first, "stable")
    project.rollout.roll_back("clean/p", "stable")
    forgotten = project.version("v0")
    project.clock.jump(60)
    project.version("v9")
    project.versions.collect([first.id, second.id], keep=1)
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))
    project.clock.jump(60)
    third = project.version("v3")
    apply_modification(project.rollout, prepare_modification(project.rollout, project.model, Overrides(), third))
    held = dict(project.server.resources)
    project.clock.jump(60)
    project.server.die_at = project.server.writes + 1
    with contextlib.suppress(ProcessKilled):
        project.rollout.swap(second)
    return {
        "resources": held,
        "cut_off": {"deployment": "clean/p", "version": second.id},
        "versions": [version.id for version in project.versions.all("clean/p")],
        "gone": forgotten.id,
        "tags": project.versions.tags(),
    }


def copy_runs(store, crowded):
    """Two days of runs; the first is packed where it holds enough runs."""
    rng = np.random.default_rng(7)
    clock = ManualClock(AT_S)
    source = FakeRuns()
    source.clock_s = AT_S
    start_s = AT_S - 2 * DAY_S
    for number in range(crowded + 40):
        day_s = start_s if number < crowded else start_s + DAY_S
        submitted = day_s + float(rng.uniform(0, DAY_S - 900.0)) // 1
        failed = number % 29 == 3
        source.runs.append(
            RunFact(
                run_id=str(uuid.UUID(int=number + 1)),
                name=f"run-{number}",
                pool="warehouse",
                queue=("gold", "ml", "bulk")[number % 3],
                deployment=f"etl/d{number % 5}",
                version="v1" if number % 2 else None,
                host=f"host-{number % 4}",
                state="FAILED" if failed else "COMPLETED",
                cause="ValueError: column <n>" if failed else None,
                scheduled_s=submitted,
                submitted_s=submitted,
                started_s=submitted + 5.0,
                ended_s=submitted + 65.0 + number % 300,
                due_s=submitted + 300.0 if number % 3 else None,
                size=None,
                expected_s=120.0,
                attempts=2 if failed else 1,
                late_usd_per_hour=2.0,
                failure_usd=1.5 if failed else None,
                message="ValueError: column 17" if failed else None,
            )
        )
    last = source.runs[-1]
    live = {"state": "RUNNING", "started_s": AT_S - 60.0, "ended_s": None, "cause": None, "attempts": 1}
    source.runs.append(last._replace(run_id=str(uuid.UUID(int=9999)), submitted_s=AT_S - 90.0, **live))
    for number, known in enumerate(source.runs[-12:-1]):
        source.tasks.append(
            TaskRunFact(str(uuid.UUID(int=20000 + number)), known.run_id, "load", "COMPLETED", known.started_s,
                        known.ended_s, 1)
        )  # fmt: skip
        for name, at_s in (
            ("Scheduled", known.submitted_s),
            ("Running", known.started_s),
            ("Completed", known.ended_s),
        ):
            event = f"prefect.flow-run.{name}"
            key = str(uuid.UUID(int=30000 + 10 * number + len(name)))
            payload = json.dumps({"occurred": at_s})
            source.event_rows.append(EventFact(key, at_s, event, f"prefect.flow-run.{known.run_id}", payload))
            source.state_rows.append(StateFact(known.run_id, at_s, name.upper(), name))
    for number in range(5):
        details = json.dumps({"schedules": [], "tags": ["etl"], "terms": {"outputs": [f"t{number}"]}})
        row = DeploymentFact(str(uuid.UUID(int=40000 + number)), f"etl/d{number}", "warehouse", "gold", "v1", False,
                             AT_S - DAY_S, details)  # fmt: skip
        source.deployment_rows.append(row)
    source.queue_rows = [QueueFact("warehouse", "", AT_S - DAY_S, None, 6, False)]
    source.queue_rows += [QueueFact("warehouse", name, AT_S - DAY_S, 10, None, False) for name in ("gold", "ml")]
    sync(source, store, clock, task_runs=True)
    clock.sleep(300.0)
    source.queue_rows = [row._replace(at_s=clock.now_s(), limit=4) for row in source.queue_rows]
    copied = sync(source, store, clock, task_runs=True)
    return {"runs": dict(store.counts()), "queue_changes": copied.queue_changes, "at_s": clock.now_s()}


def write_history(url, blobs, crowded):
    """Everything that the history database holds; returns what is expected of it, and records for the spool."""
    history = open_history(url)
    warehouse, decisions = steer_warehouse(history)
    lake, lake_before = steer_lake(history)
    mill = restore_mill(history)
    prevent_failures(history)
    checked = check_data(history)
    press_buttons(history)
    alerts = [
        Alert(key=f"hung-run:r{n}", rule="hung-run", subject=f"r{n}", severity="page", summary="s", since_s=AT_S)
        for n in (1, 2)
    ]
    raise_alerts(alerts, warehouse, history, AT_S)
    raise_alerts(alerts[:1], warehouse, history, AT_S + 60.0)
    points = [{"name": "wants", "dial": 1.0, "capacity_usd": 9.0, "lateness_usd": 3.0, "here": True}]
    history.append(FRONT, "warehouse", AT_S, {"points": points, "note": "Replay of the last 14d"})
    pipelines = change_pipelines(history, blobs)
    copied = copy_runs(SqlRuns(open_engine(url)), crowded)
    expected = {
        "pools": {
            pool.pool: {
                "at_s": pool.clock.now_s(),
                "in_force": to_rows(values_of(*pool.settings())),
                "originals": to_rows(read_baseline(history, pool.pool)),
                "restores": [
                    [change.queue, change.field, change.after] for change in plan_restoration(pool, history).changes
                ],
                "held": [list(key) for key in load_state(history, pool.pool).known.overrides],
                "homes": {found.name: found.queue for found in pool.deployments()},
            }
            for pool in (warehouse, lake, mill)
        },
        "before": {"lake": to_rows(lake_before)},
        "pipelines": pipelines,
        "copied": copied,
    }
    records = [("decision", decision.to_dict(), f"decision:{decision.pool}:{decision.at_s}") for decision in decisions]
    records += [("quality", record, f"quality:{record['run_id']}") for record in checked]
    return expected, records


def finish(folder, number, state):
    """What Prefect does at the start and end of a run of a flow above which `@intelligent` stands."""
    flow = SimpleNamespace(name="load", fn=None)
    terms = Terms(
        deadline=parse_deadline("30m"), late_usd_per_hour=3.0, outputs=("mart",), batch="day", contract="mart.yaml"
    )
    setattr(flow, hooks.TERMS_ATTRIBUTE, terms)
    hooks._published.add("load")
    at = datetime.fromtimestamp(AT_S + number, UTC)
    flow_run = SimpleNamespace(
        id=uuid.UUID(int=50000 + number),
        name=f"calm-{number}",
        deployment_id=uuid.UUID(int=60000),
        parameters={"day": f"2025-06-{number:02d}"},
        job_variables={"env": {"PREFECT_INTELLIGENT_PIPELINE": "v7"}},
        run_count=1,
        start_time=at,
        expected_start_time=at,
        work_pool_name=None,
        work_queue_name=None,
    )

    def enter(name):
        return SimpleNamespace(type=SimpleNamespace(value=name.upper()), name=name, timestamp=at)

    hooks.report_running(flow, flow_run, enter("Running"))
    (hooks.report_completed if state == "Completed" else hooks.report_failed)(flow, flow_run, enter(state))


def write_spool(data, records):
    """Shipped, refused, waiting, left in a closed segment, in the active file, and torn; announcements undelivered."""
    hooks._api_url = lambda: URL
    liveness.mark_alive(relay_key(URL), 60.0, data)
    spool, outbox = Spool(data / "spool"), Outbox(data / "outbox.db")
    for kind, record, event_id in records[:6]:
        spool.append(kind, record, event_id=event_id, at_s=AT_S)
    tracker = InMemoryTracker()
    tracker.faults.fail(TrackerError("the server refuses it"), on="log")
    ship(spool, outbox, tracker, ManualClock(AT_S), batch=1)
    for number in (1, 2):
        finish(data, number, "Completed")
    for kind, record, event_id in records[6:]:
        spool.append(kind, record, event_id=event_id, at_s=AT_S + 1.0)
    tracker.faults.fail(TrackerUnavailableError("the server is away"), on="log", times=100)
    ship(spool, outbox, tracker, ManualClock(AT_S), batch=100)
    retrained = {"retrain_id": "r1", "pool": "warehouse", "promoted": False, "saving_usd": 1.25}
    spool.append("retraining", retrained, event_id="retraining:r1", at_s=AT_S + 2.0)
    spool.seal()
    finish(data, 3, "Failed")
    with (data / "spool" / "active").open("a") as active:
        active.write('\n{"id":"torn","at_s":1750032')
    outbox.close()
    (data / "spool" / "ship.lock").unlink(missing_ok=True)
    shutil.rmtree(data / "beacons")
    return described(data)


def described(data):
    """What has been delivered and what has not."""
    with sqlite3.connect(data / "outbox.db") as outbox:
        rows = outbox.execute("SELECT id, state FROM events ORDER BY number").fetchall()
    left = []
    for path in sorted((data / "spool").iterdir()):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                left.append(json.loads(line)["id"])
    letters = [
        json.loads(line)["id"]
        for path in sorted(pending_events(URL, data).folder.iterdir())
        for line in path.read_text().splitlines()
        if line
    ]
    named = {0: "waiting", 1: "sent", 2: "refused"}
    return {
        **{name: [event for event, state in rows if state == code] for code, name in named.items()},
        "spooled": left,
        "letters": letters,
        "server": URL,
    }


def pack(path):
    """A SQLite database as one compressed file, without its log and its free pages."""
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with (
        path.with_name(f"{path.name}.gz").open("wb") as packed,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as out,
    ):
        out.write(path.read_bytes())
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def dump_postgres(blobs):
    """The same history on PostgreSQL, as statements."""
    database = PostgresDatabase()
    try:
        write_history(database.dsn, blobs, 40)
        command = ["pg_dump", "--inserts", "--rows-per-insert=50", "--no-owner", "--no-privileges", database.dsn]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    finally:
        database.drop()
    noise = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")  # comments, and what psql alone understands
    return "".join(f"{line}\n" for line in text.splitlines() if line and not line.startswith(noise))


def main(folder):
    """Write it all into an empty folder."""
    data = folder.resolve() / "data"
    data.mkdir(parents=True)
    os.chdir("/")  # hooks keep the working directory with what they ask for
    os.environ["PREFECT_INTELLIGENT_DATA_DIR"] = str(data)
    with tempfile.TemporaryDirectory() as blobs:
        expected, records = write_history(f"sqlite:///{data}/history.db", f"{blobs}/a", 520)
        expected["undelivered"] = write_spool(data, records)
        (data.parent / "postgres.sql").write_text(dump_postgres(f"{blobs}/b"))
    with sqlite3.connect(data / "history.db") as history:
        expected["kinds"] = dict(history.execute("SELECT kind, count(*) FROM pi_records GROUP BY kind").fetchall())
    pack(data / "history.db")
    pack(data / "outbox.db")
    (data.parent / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
