"""What a server remembers is copied once, goes on where it stopped, and comes back as typed frames."""

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import DeploymentFact, EventFact, QueueFact, RunFact, StateFact, TaskRunFact
from prefect_intelligent.history.run_parameters import pack
from prefect_intelligent.history.sync import sync
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.runs import FakeRuns

NOW = 1_750_000_000.0


def fact(number: int, ended_s: float | None, **changes) -> RunFact:
    base = RunFact(
        run_id=f"r{number:06d}",
        name=None,
        pool="main",
        queue=f"q{number % 3}",
        deployment=f"etl/d{number % 5}",
        version="v1",
        host=None,
        state="COMPLETED" if ended_s else "RUNNING",
        cause=None,
        scheduled_s=(ended_s or NOW) - 100.0,
        submitted_s=(ended_s or NOW) - 100.0,
        started_s=(ended_s or NOW) - 60.0,
        ended_s=ended_s,
        due_s=None,
        size=None,
        expected_s=None,
        attempts=1,
        late_usd_per_hour=1.0,
        failure_usd=None,
        message=None,
    )
    return base._replace(**changes)


@pytest.fixture
def store(tmp_path):
    return SqlRuns(open_engine(f"sqlite:///{tmp_path}/history.db"))


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(NOW - 30 * 86400, NOW - 100, 5000))
    return FakeRuns([fact(number, float(end)) for number, end in enumerate(ends)])


def test_everything_is_copied_once(source, store):
    source.runs.append(fact(9999, None))
    copied = sync(source, store, ManualClock(NOW))
    assert (copied.runs, copied.live_runs) == (5000, 1)
    assert store.counts()["runs"] == 5001
    again = sync(source, store, ManualClock(NOW + 10))
    assert again.runs <= 3  # the overlap
    assert store.counts()["runs"] == 5001


def test_a_copy_that_breaks_goes_on_where_it_stopped(source, store):
    source.fails_after = 20
    with pytest.raises(OrchestratorUnavailableError):
        sync(source, store, ManualClock(NOW))
    half = store.counts()["runs"]
    assert 0 < half < 5000
    source.fails_after = None
    source.calls = 0
    rest = sync(source, store, ManualClock(NOW))
    assert rest.runs < 5000
    assert store.counts()["runs"] == 5000


def test_windows_stay_small_when_everything_ends_at_once(store):
    source = FakeRuns([fact(number, NOW - 5000.0 + number * 0.001) for number in range(9000)])
    windows = []
    sync(source, store, ManualClock(NOW), progress=lambda runs, at_s: windows.append(runs))
    assert max(np.diff([0, *windows])) <= 2000
    assert store.counts()["runs"] == 9000


def test_a_live_run_is_replaced_when_it_ends(store):
    source = FakeRuns([fact(1, None)])
    sync(source, store, ManualClock(NOW))
    source.runs[0] = fact(1, NOW + 50, state="FAILED", cause="ValueError: <n>", message="ValueError: 17")
    sync(source, store, ManualClock(NOW + 100))
    frame = store.run_frame()
    assert frame["state"].tolist() == ["FAILED"]
    assert frame["failed"].tolist() == [True]
    assert store.failures(since_s=NOW)[0]["message"] == "ValueError: 17"


def test_a_frame_has_names_and_times_and_filters(source, store):
    sync(source, store, ManualClock(NOW))
    frame = store.run_frame(since_s=NOW - 10 * 86400, pool="main")
    assert 1000 < len(frame) < 2500
    assert frame["deployment"].cat.categories.tolist() == [f"etl/d{i}" for i in range(5)]
    assert (frame["ended_s"] - frame["started_s"]).to_numpy() == pytest.approx(60.0)
    assert frame["submitted_s"].is_monotonic_increasing
    assert store.run_frame(pool="other").empty
    assert store.run_frame(until_s=0.0).empty


def test_packed_days_read_as_their_rows_do_and_are_given_up_when_a_run_changes(store, monkeypatch):
    rng = np.random.default_rng(5)
    ends = rng.uniform(NOW - 4 * 86400, NOW, 6000)
    facts = [
        fact(
            n,
            float(end),
            cause="KeyError" if n % 9 == 0 else None,
            pool="main" if n % 4 else None,
            size=float(n),
            parameters=None if n % 5 == 0 else pack({"rows": float(n), "mode": "ä" * (n % 3)}),
        )
        for n, end in enumerate(ends)
    ]
    store.put(runs=facts)
    spans = [{}, {"since_s": NOW - 2.3 * 86400}, {"until_s": NOW - 1.5 * 86400, "pool": "main"}, {"pool": "other"}]
    spans += [{"parameters": True}, {"parameters": True, "extra": False, "pool": "main"}]
    spans += [{"extra": False}, {"since_s": NOW - 2.5 * 86400, "until_s": NOW - 2.4 * 86400}]
    by_row = [store.run_frame(**span) for span in spans]
    assert store.pack(NOW) == 4  # of the five days that they touch the last one goes on
    assert store.pack(NOW) == 0
    for span, rows in zip(spans, by_row, strict=True):
        pd.testing.assert_frame_equal(store.run_frame(**span), rows)
    moved = next(f for f in facts if NOW - 3 * 86400 < f.submitted_s < NOW - 2 * 86400)
    store.put(runs=[moved._replace(submitted_s=moved.submitted_s - 86400.0, state="FAILED")])
    frame = store.run_frame(parameters=True)
    assert frame["parameters"].notna().sum() == 4800
    assert len(frame) == 6000
    assert (frame["state"] == "FAILED").sum() == 1
    assert store.pack(NOW) == 2  # the day it was in and the day it went to


def test_task_runs_events_states_deployments_and_queues_come_along(store):
    source = FakeRuns([fact(1, NOW - 50)])
    source.tasks = [TaskRunFact("t1", "r000001", "load", "COMPLETED", NOW - 90, NOW - 60, 1)]
    source.event_rows = [EventFact("e1", NOW - 60, "prefect.flow-run.Running", "prefect.flow-run.r000001", "{}")]
    source.state_rows = [StateFact("r000001", NOW - 60, "RUNNING", "Running")]
    source.deployment_rows = [DeploymentFact("d1", "etl/d1", "main", "q1", "v1", False, NOW, "{}")]
    source.queue_rows = [QueueFact("main", "", NOW, None, 4, False), QueueFact("main", "q1", NOW, 1, None, False)]
    copied = sync(source, store, ManualClock(NOW), task_runs=True)
    assert (copied.task_runs, copied.events, copied.states, copied.deployments) == (1, 1, 1, 1)
    assert copied.queue_changes == 2
    assert store.task_run_frame()["name"].tolist() == ["load"]
    assert store.state_frame(since_s=NOW - 61)["state"].tolist() == ["RUNNING"]
    assert store.event_frame(prefix="prefect.flow-run.")["event_id"].tolist() == ["e1"]
    assert store.event_frame(prefix="other.").empty
    source.queue_rows[1] = QueueFact("main", "q1", NOW + 5, 1, 3, False)
    assert sync(source, store, ManualClock(NOW + 10)).queue_changes == 1
    assert store.queue_frame()["limit"].tolist()[-1] == 3


def test_an_empty_server_is_no_error(store):
    assert sync(FakeRuns(), store, ManualClock(NOW)).runs == 0
    assert store.run_frame().empty
    assert store.deployment_frame().empty
