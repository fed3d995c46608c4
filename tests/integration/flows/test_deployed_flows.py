"""Decorated flows through Prefect's own ways of deploying them, and their terms on the way to the controller."""

import json
import subprocess
import sys
import time
import uuid

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import parse_deadline
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import TAG, read_terms, variable_name
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from tests.real_prefect import Process, start_worker

pytestmark = [pytest.mark.server]

SOURCE = '''
import sys
from prefect import flow
from prefect_intelligent import intelligent, publish

def mine(flow, flow_run, state):
    """The user's own hook."""

@intelligent(deadline="20m", late_usd_per_hour=NUMBER, inputs=["raw"])
@flow(name="NAME", on_completion=[mine])
def work(n: int = 1):
    return n

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        work.serve(name="served")
    else:
        work.from_source(source=sys.argv[2], entrypoint="work.py:work").deploy(
            name="deployed", work_pool_name=sys.argv[3], work_queue_name="lane"
        )
        publish(work)
'''


@pytest.fixture
def name():
    return f"work-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def source(tmp_path, name):
    path = tmp_path / "work.py"
    path.write_text(SOURCE.replace("NAME", name).replace("NUMBER", "33"))
    return path


@pytest.fixture
def client(prefect_server):
    return PrefectApi(prefect_server.api_url)


def script(prefect_server, *words):
    command = [sys.executable, *map(str, words)]
    found = subprocess.run(command, env=prefect_server.env(), capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr


def states(folder, wanted):
    """States in the spool; Prefect runs hooks after the state is set, so they may take a moment."""
    deadline = time.monotonic() + 240
    while True:
        spool = Spool(folder / "spool")
        spool.seal()
        entries = [entry for segment in spool.segments() for entry in spool.read(segment)[0]]
        found = {entry.record["state"] for entry in entries}
        if found == wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.mark.worker
@pytest.mark.slow
def test_a_flow_deployed_from_source_brings_its_terms_before_its_first_run(
    prefect_server, api, client, workers, source, name, tmp_path
):
    pool = api.pool()
    api.queue(pool, "lane", priority=30)
    script(prefect_server, source, "deploy", tmp_path, pool)
    orchestrator = PrefectOrchestrator(client, pool)
    (found,) = orchestrator.deployments()
    assert (found.name, found.queue, found.declared) == (f"{name}/deployed", "lane", True)
    assert (found.terms.deadline, found.terms.late_usd_per_hour) == (parse_deadline("20m"), 33)
    key = api.call("GET", f"/deployments/name/{name}/deployed")["id"]
    run = api.run(key)
    (seen,) = orchestrator.observe().runs()
    assert seen.due_s == pytest.approx(seen.scheduled_s + 1200)
    worker = start_worker(prefect_server, pool, PREFECT_INTELLIGENT_DATA_DIR=str(tmp_path / "data"))
    workers.callback(worker.kill)
    assert api.wait([run])[0]["state_type"] == "COMPLETED", worker.tail()
    wanted = {"RUNNING", "COMPLETED"}
    assert states(tmp_path / "data", wanted) == wanted


@pytest.mark.slow
def test_a_served_flow_publishes_its_terms_at_its_first_run(
    prefect_server, api, client, workers, source, name, tmp_path
):
    env = prefect_server.env(PREFECT_INTELLIGENT_DATA_DIR=str(tmp_path / "data"), PREFECT_RUNNER_POLL_FREQUENCY="1")
    served = Process([sys.executable, str(source), "serve"], env, tmp_path / "serve.log", tmp_path)
    workers.callback(served.kill)
    deadline = time.monotonic() + 180
    found = None
    while found is None and time.monotonic() < deadline:
        time.sleep(0.5)
        found = client.call("GET", f"/deployments/name/{name}/served", absent_ok=True)
    assert found is not None, served.tail()
    assert read_terms(client).of(name, "served") is None
    assert api.wait([api.run(found["id"])])[0]["state_type"] == "COMPLETED", served.tail()
    assert read_terms(client).of(name, "served").late_usd_per_hour == 33
    wanted = {"RUNNING", "COMPLETED"}
    assert states(tmp_path / "data", wanted) == wanted


@pytest.fixture
def command(prefect_api, capsys):
    """Runs `prefect-intelligent` in this process; gives exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def test_terms_are_published_and_shown_on_the_command_line(command, client, source, name):
    code, shown, _ = command("terms", "publish", f"{source}:work")
    assert code == 0
    assert f"{name}: deadline 20m" in shown
    assert read_terms(client).of(name, "d") is None
    assert "1 of 1 were new" in command("terms", "publish", f"{source}:work", "--apply")[1]
    assert "0 of 1 were new" in command("terms", "publish", f"{source}:work", "--apply")[1]
    assert f"{name}: deadline 20m" in command("terms", "show")[1]
    _, shown, _ = command("terms", "show", "--json")
    assert json.loads(shown)["terms"][name]["late_usd_per_hour"] == 33
    source.write_text(SOURCE.replace("NAME", name).replace("NUMBER", "5"))
    assert command("terms", "publish", f"{source}:work", "--deployment", "cheap", "--apply")[0] == 0
    agreed = read_terms(client)
    assert (agreed.of(name, "cheap").late_usd_per_hour, agreed.of(name, "d").late_usd_per_hour) == (5, 33)


@pytest.mark.parametrize(
    ("number", "entrypoint", "says"),
    [
        ("-3", "work.py:work", "late_usd_per_hour: got -3.0; must be a number of US dollars, 0 or more"),
        ("3", "work.py:nothing", "cannot be loaded, expected FILE.py:FLOW"),
        ("3", "no_such_file.py:work", "cannot be loaded, expected FILE.py:FLOW"),
        ("3, deadline='7 o clock'", "work.py:work", "error:"),
    ],
)
def test_bad_input_is_one_line_and_code_two_and_nothing_is_written(
    command, client, source, name, number, entrypoint, says
):
    source.write_text(SOURCE.replace("NAME", name).replace("NUMBER", number))
    code, _, complaint = command("terms", "publish", source.parent / entrypoint, "--apply")
    assert code == 2
    assert says in complaint
    assert complaint.count("\n") == 1
    assert read_terms(client).of(name, "d") is None


def test_a_variable_that_somebody_has_broken_is_named_and_harms_no_other(command, api, client, source, name):
    command("terms", "publish", f"{source}:work", "--apply")
    broken = f"prefect_intelligent_terms_{uuid.uuid4().hex[:6]}"
    api.call("POST", "/variables/", {"name": broken, "value": {"subject": "x", "terms": {"late": 1}}, "tags": [TAG]})
    try:
        agreed = read_terms(client)
        assert agreed.of(name, "d").late_usd_per_hour == 33
        assert [broken in problem and "late" in problem for problem in agreed.problems] == [True]
        code, shown, _ = command("terms", "show")
        assert code == 1
        assert broken in shown
    finally:
        api.call("DELETE", f"/variables/name/{broken}")


def test_names_of_variables_are_legal_and_distinct():
    names = [variable_name(subject) for subject in ("a-b", "a_b", "A B", "flow/deployment", "Größe", "x" * 300)]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name == name.lower() and len(name) < 200 for name in names)
    assert all(name.isascii() for name in names)


def test_the_report_is_kept_as_artifacts(prefect_server, prefect_api, api, tmp_path, monkeypatch):
    from flows.report_history import report_history

    pool = api.pool()
    deployment = api.deployment(pool, "default")
    for state in ("COMPLETED", "FAILED"):
        run = api.run(deployment, in_s=-5)
        for each in ("PENDING", "RUNNING", state):
            api.set_state(run, each)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    assert report_history(pool)["reported"] == 2
    found = api.call("GET", f"/artifacts/{pool.lower()}-report/latest")
    assert "2 runs, 50.0% failed" in found["data"]
    assert found["flow_run_id"] is not None
    money = json.loads(api.call("GET", f"/artifacts/{pool.lower()}-money/latest")["data"])
    assert {"useful", "wasted", "idle", "total"} <= {row["part"] for row in money}
