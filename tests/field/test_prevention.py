"""Prevention acts on proof: beats missed at the run's own pace, causes by what they mean, and never the work twice."""

import json
import time
import uuid

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.history.failure_signature import signature
from prefect_intelligent.prefect_client.heartbeats import EVENT, _by_servers_clock
from prefect_intelligent.prevention.causes import is_transient, ran_out_of_memory
from tests.real_prefect import iso


@pytest.fixture
def prevent(prefect_api, monkeypatch, tmp_path, capsys):
    """One pass on a pool, as JSON; `hung-run` acts and starts again."""
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect-intelligent.toml").write_text('[prevention.hung-run]\nmode = "auto"\nagain = true\n')

    def one_pass(pool):
        capsys.readouterr()
        assert main(["prevent", "--pool", pool, "--json"]) in (0, 1)
        return json.loads(capsys.readouterr().out)

    return one_pass


def at_work(api, deployment, *ages_s):
    """A running run that sent heartbeats so many seconds ago."""
    run = api.run(deployment)
    api.set_state(run, "RUNNING")
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    beats = [
        {"id": str(uuid.uuid4()), "occurred": iso(time.time() - age_s), "event": EVENT, "resource": resource}
        for age_s in ages_s
    ]
    api.call("POST", "/events", beats)
    wanted = {"event": {"name": [EVENT]}, "resource": {"id": [resource["prefect.resource.id"]]}}
    wanted["occurred"] = {"since": iso(time.time() - 86_000.0)}
    deadline = time.monotonic() + 120
    while api.call("POST", "/events/filter", {"filter": wanted})["total"] < len(beats):
        assert time.monotonic() < deadline, "the server has not written the heartbeats"
        time.sleep(0.2)
    return run


def started_long_ago(api, prefect_server, run):
    """Move the begin of a run back by hours, so that its heartbeats lie after it."""
    import sqlite3

    with sqlite3.connect(prefect_server.home / "prefect.db", timeout=60) as database:
        long_ago = "2020-01-01 00:00:00.000000"
        key = (run,)
        database.execute(f"UPDATE flow_run SET created = '{long_ago}', start_time = '{long_ago}' WHERE id = ?", key)
        running = "flow_run_id = ? AND type = 'RUNNING'"
        database.execute(f"UPDATE flow_run_state SET timestamp = '{long_ago}' WHERE {running}", key)


def runs_of(api, deployment):
    return api.call("POST", "/flow_runs/count", {"deployments": {"id": {"any_": [deployment]}}})


@pytest.mark.server
@pytest.mark.parametrize(
    ("every_s", "silent_s", "lost"),
    [(600.0, 310.0, False), (600.0, 1700.0, False), (180.0, 500.0, False), (180.0, 600.0, True), (30.0, 200.0, False),
     (30.0, 330.0, True), (3600.0, 9000.0, False)],
)  # fmt: skip
def test_silence_is_counted_in_heartbeats(api, prefect_server, prevent, every_s, silent_s, lost):
    pool = api.pool()
    deployment = api.deployment(pool)
    run = at_work(api, deployment, *(silent_s + every_s * n for n in range(4)))
    started_long_ago(api, prefect_server, run)
    steps = prevent(pool)["steps"]
    assert [step["subject"] for step in steps] == ([f"run:{run}"] if lost else [])
    assert api.read_run(run)["state_type"] == ("CANCELLING" if lost else "RUNNING")
    assert runs_of(api, deployment) == 1


@pytest.mark.server
def test_one_heartbeat_says_nothing_of_when_the_next_is_due(api, prefect_server, prevent):
    pool = api.pool()
    run = at_work(api, api.deployment(pool), 4000.0)
    started_long_ago(api, prefect_server, run)
    assert prevent(pool)["steps"] == []
    assert api.read_run(run)["state_type"] == "RUNNING"


@pytest.mark.server
@pytest.mark.parametrize(
    ("state", "message", "again"),
    [
        ("CANCELLED", "Flow run was cancelled successfully.", True),
        ("CRASHED", "Flow run process exited with non-zero status code -9.", True),
        ("CANCELLED", "Flow run cancellation timed out; marked this flow run as Cancelled.", False),
        ("CANCELLED", None, False),
        ("CRASHED", "marked as zombie by an automation", False),
    ],
)
def test_a_run_is_started_again_once_its_process_is_known_to_be_dead(
    api, prefect_server, prevent, state, message, again
):
    pool = api.pool()
    deployment = api.deployment(pool)
    run = at_work(api, deployment, *(2000.0 + 60.0 * n for n in range(4)))
    started_long_ago(api, prefect_server, run)
    assert [step["subject"] for step in prevent(pool)["steps"]] == [f"run:{run}"]
    prevent(pool)
    assert runs_of(api, deployment) == 1  # it may be alive
    body = {"state": {"type": state, "message": message}, "force": True}
    api.call("POST", f"/flow_runs/{run}/set_state", body)
    passes = [prevent(pool) for _ in range(3)]
    assert runs_of(api, deployment) == 1 + again, passes


def test_the_pace_of_heartbeats_survives_a_lost_one():
    assert Heartbeats.of([0.0, 60.0, 120.0, 240.0, 300.0]).every_s == 60.0
    assert Heartbeats.of([0.0]).missed(1e6) is None
    assert not Heartbeats.of([0.0, 600.0]).silent(600.0 + 1800.0)
    assert Heartbeats.of([0.0, 600.0]).silent(600.0 + 1801.0)
    assert not Heartbeats.of([0.0, 30.0, 60.0, 900.0]).silent(900.0 + 1200.0)  # it was silent for long before


def test_the_clock_of_the_machine_that_sends_them_does_not_matter():
    behind = {1000.0 + 180.0 * n: 1600.0 + 180.0 * n for n in range(4)}
    assert _by_servers_clock(behind) == [1600.0, 1780.0, 1960.0, 2140.0]
    at_once = {1000.0 + 180.0 * n: 9000.0 for n in range(4)}
    assert _by_servers_clock(at_once) == list(at_once)
    assert _by_servers_clock({5.0: 600.0}) == [5.0]


@pytest.mark.parametrize(
    "message",
    [
        "MemoryError: ",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 8. GiB for an array",
        "Flow run process exited with non-zero status code -9.",
        "Flow run infrastructure exited with non-zero status code 137. Process was killed",
        "Flow run infrastructure exited with non-zero status code 247. Process was terminated.",
        "container exited with code 137",
        "the process was killed with exit code 137",
        "Job failed: OOMKilled",
        "java.lang.OutOfMemoryError: Java heap space",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: worker out of memory",
    ],
)
def test_what_needs_more_memory(message):
    assert ran_out_of_memory(signature(message))
    assert not is_transient(signature(message))


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: Zoom API says no room left",
        "RuntimeError: bathroom sensor 137 is offline",
        "ValueError: mushroom classes 1370",
        "Flow run process exited with non-zero status code 1.",
        "container exited with code 1370",
        "ValueError: column OOM is missing",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ValueError: no such exit code: 9",
    ],
)
def test_what_more_memory_does_not_mend(message):
    assert not ran_out_of_memory(signature(message))


@pytest.mark.parametrize(
    "message",
    [
        "httpx.ReadTimeout: slow",
        "TimeoutError: the statement timed out",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "httpx.HTTPStatusError: Server error '503 Service Unavailable' for url 'http://a/b'",
        "httpx.HTTPStatusError: Client error '429 Too Many Requests' for url 'http://a/b'",
        "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: http://a/b",
        "OperationalError: server is temporarily unavailable",
        "botocore.exceptions.ClientError: rate limit exceeded",
        "sqlite3.OperationalError: database is locked",
        "socket.gaierror: Temporary failure in name resolution",
    ],
)
def test_what_passes_by_itself(message):
    assert is_transient(signature(message))


@pytest.mark.parametrize(
    "message",
    [
        "ValueError: timeout must be positive",
        "RuntimeError: contemporary art table is empty",
        "TypeError: TemporaryDirectory() got an unexpected keyword",
        "ValueError: order 503 has no price",
        "KeyError: 'unavailable'",
        "RuntimeError: the interest rate limit of 5 % is wrong",
        "httpx.HTTPStatusError: Client error '404 Not Found' for url 'http://a/b'",
        "PermissionError: connection refused by policy",
    ],
)
def test_what_does_not_pass_by_itself(message):
    assert not is_transient(signature(message))
