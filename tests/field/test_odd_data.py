"""One odd item never stops the rest: dates at the ends of the calendar, short pages, fat parameters, other clocks."""

import sqlite3
import time
from dataclasses import replace

import pytest

from prefect_intelligent.blocking.adapters.prefect_facts import read_facts
from prefect_intelligent.blocking.chain import findings
from prefect_intelligent.domain import ClockDeadline, RelativeDeadline, RunPhase, Terms
from prefect_intelligent.domain.instants import FIRST_S, LAST_S, iso, unix_s
from prefect_intelligent.history.adapters.prefect_source import PrefectHistory
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact
from prefect_intelligent.history.sync import sync
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.base import to_plan
from prefect_intelligent.policy.census import Q, take_census
from prefect_intelligent.prefect_client import api as prefect_client_api
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.runs import FakeRuns
from tests.real_prefect import RealServer, clone_runs

DAY_S = 86_400.0
EDGES = ("0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.000000")


@pytest.fixture
def store(tmp_path):
    return SqlRuns(open_engine(f"sqlite:///{tmp_path}/history.db"))


@pytest.fixture
def client(prefect_server):
    client = PrefectApi(prefect_server.api_url)
    yield client
    client.close()


def ended(api, deployment, how="COMPLETED"):
    run = api.run(deployment)
    for state in ("PENDING", "RUNNING", how):
        api.set_state(run, state)
    return run


@pytest.mark.server
def test_runs_at_the_ends_of_the_calendar_are_read_with_the_others(own_server: RealServer, store):
    api = own_server.api()
    pool = api.pool()
    deployment = api.deployment(pool, flow="etl")
    client = PrefectApi(own_server.api_url)
    publish_terms(client, "etl/d", Terms(deadline=ClockDeadline(at=_seven(), zone="America/Los_Angeles")))
    columns = ("expected_start_time", "next_scheduled_start_time", "start_time", "end_time")
    done = [ended(api, deployment) for _ in range(2 * len(columns) + 1)]
    live = [api.run(deployment) for _ in range(5)]
    for run in live[2:]:
        api.set_state(run, "RUNNING")
    with sqlite3.connect(own_server.home / "prefect.db", timeout=60) as database:
        for place, run in enumerate(done[:-1]):
            change = f"UPDATE flow_run SET {columns[place // 2]} = ? WHERE id = ?"
            database.execute(change, (EDGES[place % 2], run))
        for place, run in enumerate(live[:4]):
            change = "UPDATE flow_run SET expected_start_time = ?, next_scheduled_start_time = ? WHERE id = ?"
            database.execute(change, (EDGES[place % 2], EDGES[0] if place == 0 else None, run))
    sync(PrefectHistory(client), store, ManualClock(time.time()))
    frame = store.run_frame(pool=pool)
    assert frame["state"].astype(str).tolist().count("COMPLETED") == len(done)
    assert (frame["submitted_s"] > time.time() - DAY_S).all()
    assert ((frame["ended_s"] - frame["started_s"]).dropna() < DAY_S).all()
    orchestrator = PrefectOrchestrator(client, pool)
    for _ in range(2):
        snapshot = orchestrator.observe()
        assert sum(run.phase is RunPhase.RUNNING for run in snapshot.runs()) == 3
        assert all(run.started_s > time.time() - DAY_S for run in snapshot.runs(RunPhase.RUNNING))
    client.close()


def _seven():
    from datetime import time as wall

    return wall(7, 0)


def test_instants_beyond_the_calendar_are_no_error():
    assert iso(-1e18).startswith("0001-01-01")
    assert iso(1e18).startswith("9999-12-31")
    for zone in ("America/Los_Angeles", "Pacific/Kiritimati", "UTC"):
        for at_s in (FIRST_S, LAST_S, -1e15, 1e15):
            assert ClockDeadline(at=_seven(), zone=zone).due_s(at_s) is not None


def test_a_first_sync_finds_runs_that_ended_before_the_first_schedule_and_after_now(store):
    def fact(name, ended_s):
        return RunFact(name, None, "p", "q", "f/d", None, None, "COMPLETED", None, *4 * (ended_s,), *6 * (None,), None)

    source = FakeRuns([fact("old", FIRST_S), fact("future", LAST_S - 1.0)])
    now_s = source.now_s()
    source.runs += [fact(f"r{n}", now_s - n) for n in range(3000)]
    copied = sync(source, store, ManualClock(now_s))
    assert store.counts()["runs"] == 3002
    assert copied.windows < 100


@pytest.mark.server
def test_a_clock_that_is_ahead_loses_no_run(api, client, store):
    pool = api.pool()
    deployment = api.deployment(pool)
    for wrong_s in (600.0, 600.0, 0.0):
        run = ended(api, deployment, "FAILED")
        sync(PrefectHistory(client), store, ManualClock(time.time() + wrong_s), events=False)
        assert run in {row["run_id"] for row in store.failures(since_s=0.0)}


def test_a_cursor_from_a_clock_that_was_ahead_goes_back(store):
    source = FakeRuns()
    now_s = source.now_s()
    store.put(cursor=("runs", now_s + 600.0))
    source.runs.append(
        RunFact("r", None, "p", "q", "f/d", None, None, "COMPLETED", None, *4 * (now_s - 400.0,), *7 * (None,))
    )
    assert sync(source, store, ManualClock(now_s + 600.0)).runs == 1


@pytest.mark.server
def test_the_clocks_are_compared_by_the_date_of_the_answers(client, monkeypatch):
    client.call("GET", "/admin/version")
    assert abs(client.skew_s) < 30.0
    real = time.time
    monkeypatch.setattr(prefect_client_api.time, "time", lambda: real() + 600.0)
    client._quickest_s = 1e9  # as if that answer had been slow
    client.call("GET", "/admin/version")
    assert client.skew_s == pytest.approx(600.0, abs=30.0)
    assert client.now_s() == pytest.approx(real(), abs=30.0)


@pytest.mark.server
def test_the_length_of_pages_is_learned_from_the_server(tmp_path_factory, store):
    server = RealServer(tmp_path_factory.mktemp("short"), settings={"PREFECT_SERVER_API_DEFAULT_LIMIT": "30"}).start()
    try:
        api = server.api()
        pool = f"pool-{id(api)}"
        api.pool(pool)
        deployment = api.deployment(pool, "default")
        clone_runs(server, api.run(deployment), 99)
        clone_runs(server, ended(api, deployment), 99)
        client = PrefectApi(server.api_url)
        snapshot = PrefectOrchestrator(client, pool).observe()
        assert len(snapshot.queue("default").waiting) == 100
        assert sync(PrefectHistory(client), store, ManualClock(time.time())).runs == 100
        client.close()
    finally:
        server.stop()


@pytest.mark.server
def test_fat_parameters_make_pages_short(own_server: RealServer):
    api = own_server.api()
    pool = api.pool()
    run = api.run(api.deployment(pool, "default"), parameters={"text": "x" * 400_000})
    clone_runs(own_server, run, 199)
    client = PrefectApi(own_server.api_url, timeout_s=5.0)
    orchestrator = PrefectOrchestrator(client, pool)
    largest = 0
    real = client._receive

    def receive(*words):
        nonlocal largest
        answer = real(*words)
        largest = max(largest, len(answer.content))
        return answer

    client._receive = receive
    for _ in range(3):
        assert len(orchestrator.observe().queue("default").waiting) == 200
    assert largest <= prefect_client_api._MOST_BYTES
    before, client.calls = client.calls, 0
    orchestrator.observe()
    assert client.calls <= 8 < before
    client.close()


@pytest.mark.server
def test_five_thousand_late_runs_cost_little_more_than_a_thousand(own_server: RealServer):
    api = own_server.api()
    calls = []
    for count in (1000, 5000):
        pool = api.pool(limit=8)
        for number in range(20):
            queue = api.queue(pool, f"q{number}", priority=5 + number) and f"q{number}"
            clone_runs(own_server, api.run(api.deployment(pool, queue)), count // 20 - 1, spread_s=2 * DAY_S)
        client = PrefectApi(own_server.api_url, timeout_s=60.0)
        orchestrator = PrefectOrchestrator(client, pool)
        for _ in range(3):
            client.calls = 0
            snapshot = orchestrator.observe()
            calls.append(client.calls)
            listed = sum(len(queue.waiting) for queue in snapshot.queues)
            assert listed + sum(queue.beyond for queue in snapshot.queues) == count
            assert listed <= 2000
        client.close()
    first, second = calls[:3], calls[3:]
    assert all(many <= 3 * few for few, many in zip(first, second, strict=True))


def test_a_run_that_cannot_be_read_is_left_out(caplog):
    from prefect_intelligent.history.reading import read_each
    from prefect_intelligent.steering.adapters.live_runs import read_record

    good = {
        "id": "a", "deployment_id": None, "work_queue_id": "q", "state_type": "SCHEDULED", "state": None,
        "created": "2026-01-01T00:00:00Z", "expected_start_time": None, "next_scheduled_start_time": None,
    }  # fmt: skip
    assert [run.id for run in read_each("run", [{**good, "created": "soon"}, good, {}], read_record)] == ["a"]
    assert "soon" in caplog.text


@pytest.mark.server
def test_what_was_made_today_for_last_month_is_not_late(api, client, store):
    pool = api.pool(limit=2)
    api.queue(pool, "backfill", priority=5)
    api.queue(pool, "nightly", priority=6)
    names = {}
    for queue, terms in (
        ("backfill", Terms(deadline=RelativeDeadline(within_s=4 * 3600.0), late_usd_per_hour=100.0)),
        ("nightly", Terms(deadline=RelativeDeadline(within_s=1800.0), late_usd_per_hour=100.0)),
    ):
        names[queue] = api.deployment(pool, queue, flow=f"{queue}-{pool}")
        publish_terms(client, f"{queue}-{pool}/d", terms)
    old = [api.run(names["backfill"], in_s=-30 * DAY_S + n) for n in range(10)]
    night = api.run(names["nightly"], in_s=-1.0)
    snapshot = PrefectOrchestrator(client, pool).observe()
    census = take_census(snapshot)
    assert census[Q.LATE].sum() == census[Q.ACCRUING_USD_PER_HOUR].sum() == 0
    assert census[Q.HEAD_WAIT_S].max() < 3600.0
    runs = {run.id: run for run in snapshot.runs()}
    assert runs[old[0]].due_s > runs[night].due_s > time.time()
    assert [run.id for run in snapshot.queue("backfill").waiting] == old  # as Prefect serves them
    for rule in ("edf", "atc"):
        order = to_plan(snapshot, parse_policy(rule).propose(census)).order
        assert order.index("nightly") < order.index("backfill")
    for run in old:
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            api.set_state(run, state)
    sync(PrefectHistory(client), store, ManualClock(time.time()), events=False)
    frame = store.run_frame(pool=pool)
    assert (frame["due_s"].dropna() > time.time()).all()
    assert (frame["scheduled_s"] > time.time() - DAY_S).all()


@pytest.mark.server
def test_a_retry_by_a_dead_process_waits_for_nobody(api, client, prefect_server):
    pool = api.pool()
    deployment = api.deployment(pool, "default", flow=f"etl-{pool}")
    run = api.run(deployment, empirical_policy={"retries": 1, "retry_delay": 0})
    for state in ("PENDING", "RUNNING", "FAILED"):
        api.set_state(run, state)
    stored = api.read_run(run)
    assert (stored["state_name"], stored["empirical_policy"]["retry_type"]) == ("AwaitingRetry", "in_process")
    assert run not in api.polled(pool)
    snapshot = PrefectOrchestrator(client, pool).observe()
    assert list(snapshot.runs()) == []
    facts = read_facts(client, pool)
    assert run not in [one.blocker.subject for one in findings(facts)]  # it may still be about to
    (stuck,) = findings(replace(facts, at_s=unix_s(stored["next_scheduled_start_time"]) + 7200.0, heartbeats_s=()))
    assert (stuck.blocker.subject, stuck.runs) == (run, 1)
    assert f"of etl-{pool}/d is to be tried again by its own process since 2 h" in stuck.blocker.what
    # the way out that `doctor` names
    api.set_state(run, "CANCELLING")
    assert api.read_run(run)["state_type"] == "CANCELLED"
    again = api.run(deployment, in_s=-1.0)
    assert api.polled(pool) == [again]
    assert [found.id for found in PrefectOrchestrator(client, pool).observe().runs()] == [again]
    api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED"}, "force": True})
    assert api.polled(pool) == [again]  # what `prefect flow-run retry` does is no way out
