"""The strategies of `deploy`, the verbs of `modify` and the fixes of `graph check`, as commands on a real server."""

import contextvars
import json
import os
import signal
import subprocess
import textwrap
import threading
import time

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.resource_changes import AUTOMATION, DEPLOYMENT
from prefect_intelligent.pipelines.runs import VERSION_LABEL
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms, read_terms
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.pipelines import open_workspace
from tests.pipeline_worker import QuickWorker
from tests.real_prefect import RealServer, iso, start_worker

pytestmark = [pytest.mark.server, pytest.mark.slow]

WORK = """
    import pathlib, time
    from prefect import flow

    @flow
    def strategy_work(tag: str = "trial", wait: bool = False, fail_on: str = "", folder: str = "FOLDER"):
        deadline = time.monotonic() + 240
        while wait and not pathlib.Path(folder, "go-" + tag).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        if "VERSION" == fail_on:
            raise RuntimeError("as asked")
        with pathlib.Path(folder, tag).open("a") as out:
            out.write("VERSION")
"""
SCHEMA = {"type": "object", "properties": {"batch": {"type": "string"}, "depth": {"type": "integer"}}, "required": []}


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RealServer(tmp_path_factory.mktemp("prefect-changes")).start()
    yield server
    server.stop()


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """A project folder from which the commands run, pointed at the server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield tmp_path


def source(here, version):
    folder = here / f"source-{version}"
    folder.mkdir()
    text = WORK.replace("FOLDER", str(here)).replace("VERSION", version)
    (folder / "work.py").write_text(textwrap.dedent(text))
    return str(folder)


def test_each_strategy_treats_running_and_waiting_runs_as_it_says(server, here, workers, capfd):
    api = server.api()
    pool = api.pool()
    name = "strategy-work/p"

    def deploy(version, *options):
        words = ["deploy", "work.py:strategy_work", "--name", "p", "--source", source(here, version), *options]
        return main(words)

    assert deploy("v1", "--work-pool", pool) == 0
    workspace = open_workspace(load_settings().settings)
    deployment = workspace.server.deployment_id(name)
    workers.callback(start_worker(server, pool, limit=4, PREFECT_INTELLIGENT_DATA_DIR=str(here / "data")).stop)

    def begin(tag, **more):
        run = api.run(deployment, parameters={"tag": tag, "wait": True, **more})
        wait_for(lambda: api.read_run(run)["state_type"] == "RUNNING")
        return run

    # drain: nothing changes while a run of the old version is at work
    first = begin("a")
    answers = []
    context = contextvars.copy_context()
    draining = threading.Thread(target=lambda: answers.append(context.run(deploy, "v2", "--strategy", "drain")))
    draining.start()
    wait_for(lambda: api.call("GET", f"/deployments/{deployment}")["paused"])
    assert answers == []
    (here / "go-a").touch()
    draining.join(240)
    assert answers == [0]
    assert api.read_run(first)["state_type"] == "COMPLETED"
    assert (here / "a").read_text() == "v1"
    assert not api.call("GET", f"/deployments/{deployment}")["paused"]

    # --scheduled old: what waits keeps its version, what comes gets the new one
    waiting = api.run(deployment, in_s=600, parameters={"tag": "c"})
    assert deploy("v3", "--scheduled", "old") == 0
    api.set_state(waiting, "SCHEDULED", state_details={"scheduled_time": iso(time.time())})
    fresh = api.run(deployment, parameters={"tag": "d"})
    running = begin("e")
    api.wait([waiting, fresh])
    assert ((here / "c").read_text(), (here / "d").read_text()) == ("v2", "v3")

    # restart: what runs is cancelled and starts again on the new version, once
    assert deploy("v4", "--strategy", "restart") == 0
    assert "1 runs start again" in capfd.readouterr().out
    (here / "go-e").touch()
    failing = api.run(deployment, parameters={"tag": "f", "fail_on": "v4"})
    wait_for(lambda: (here / "e").exists())
    (cancelled,) = api.wait([running])
    (failed,) = api.wait([failing])
    assert (cancelled["state_type"], failed["state_type"]) == ("CANCELLED", "FAILED")
    assert (here / "e").read_text() == "v4"

    # restart --begin failed: the same run again, on the new version; and a trial before anything else
    assert deploy("v5", "--strategy", "restart", "--begin", "failed", "--trial") == 0
    wait_for(lambda: api.read_run(failing)["state_type"] == "COMPLETED")
    assert (here / "f").read_text() == "v5"
    assert (here / "trial").read_text() == "v5"
    assert [name for name in workspace.server.deployments() if "strategy" in name] == [name]

    # a trial that fails changes nothing
    before = workspace.server.read(DEPLOYMENT + name)
    assert deploy("v6", "--trial", "--param", 'fail_on="v6"') == 2
    assert "did not complete" in capfd.readouterr().err
    assert workspace.server.read(DEPLOYMENT + name) == before
    assert [name for name in workspace.server.deployments() if "strategy" in name] == [name]

    # every run says which version it executed, and rollback steps back
    ids = [version.id for version in workspace.versions.all(name)]
    labels = [api.read_run(run)["labels"][VERSION_LABEL] for run in (first, waiting, fresh, failing)]
    assert labels == [ids[0], ids[1], ids[2], ids[4]]
    capfd.readouterr()
    for expected in (ids[3], ids[2]):
        assert main(["rollback", name, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["version"] == expected


def test_uncommitted_changes_are_refused_or_recorded(server, here, capfd):
    api = server.api()
    folder = source(here, "v1")
    git = ["git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    deploy = ["deploy", "work.py:strategy_work", "--name", "git", "--source", folder, "--work-pool", api.pool()]
    assert main(deploy) == 0
    with open(os.path.join(folder, "work.py"), "a") as file:
        file.write("# not committed\n")
    capfd.readouterr()
    assert main(deploy) == 2
    assert "uncommitted changes" in capfd.readouterr().err
    workspace = open_workspace(load_settings().settings)
    assert len(workspace.versions.all("strategy-work/git")) == 1
    assert main([*deploy, "--allow-dirty"]) == 0
    clean, dirty = workspace.versions.all("strategy-work/git")
    assert clean.code.changes is None
    assert clean.code.commit == dirty.code.commit
    assert "+# not committed" in workspace.blobs.get(dirty.code.changes).decode()
    capfd.readouterr()
    assert main(["versions", "list", "strategy-work/git"]) == 0
    assert "+changes" in capfd.readouterr().out


def test_steps_are_paused_added_rerouted_and_given_parameters_for_the_next_batch(server, here, capfd):
    api = server.api()
    pool = api.pool()
    prefect = PrefectApi(server.api_url, timeout_s=60)
    chain = {"m_ingest": ((), ("m_raw",)), "m_clean": (("m_raw",), ("m_flights",))}
    chain |= {"m_report": (("m_flights",), ("m_report",)), "m_extra": ((), ("m_other",))}
    ids = {}
    for flow, (inputs, outputs) in chain.items():
        ids[flow] = api.deployment(pool, flow=flow, name="p", entrypoint="f.py:f", parameter_openapi_schema=SCHEMA)
        publish_terms(prefect, flow, Terms(inputs=inputs, outputs=outputs, batch="batch"))
    server_side = open_workspace(load_settings().settings).server

    def started():
        """Deployments that an automation of ours starts, with what they are given."""
        actions = [a for value in server_side.read_all(AUTOMATION).values() for a in value["actions"]]
        return {a["deployment"]: a["parameters"] for a in actions if a["deployment"].startswith("m_")}

    def modify(*words):
        assert main(["modify", *words, "--yes"]) == 0
        assert main(["graph", "apply", "--yes", "--prune"]) == 0
        capfd.readouterr()

    def batch(name, *expected):
        """Bring a batch and wait until these have run for it; all that ran."""
        run = api.run(ids["m_ingest"], parameters={"batch": name})
        api.wait([run])

        def ran():
            body = {
                "deployments": {"id": {"any_": list(ids.values())}},
                "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            }
            runs = [r for r in api.call("POST", "/flow_runs/filter", body) if r["parameters"].get("batch") == name]
            return {flow: r for r in runs for flow, found in ids.items() if found == r["deployment_id"]}

        wait_for(lambda: set(ran()) >= set(expected), 120)
        return ran()

    outputs = {ids[flow]: (outputs, "batch") for flow, (_, outputs) in chain.items()}
    with QuickWorker(server.api_url, pool, outputs):
        assert main(["graph", "apply", "--yes"]) == 0
        assert set(started()) == {"m_clean/p", "m_report/p"}
        assert main(["modify", "set", "m_report/p", "depth=3"]) == 0
        assert "nothing was written" in capfd.readouterr().out
        assert started()["m_report/p"].get("depth") is None
        modify("set", "m_report/p", "depth=3")
        assert batch("b1", "m_clean", "m_report")["m_report"]["parameters"] == {"batch": "b1", "depth": 3}
        modify("pause", "m_clean/p")
        assert started() == {}
        modify("add", "m_clean/p")
        assert set(started()) == {"m_clean/p", "m_report/p"}
        modify("reroute", "m_report/p", "m_flights", "m_raw")
        modify("add", "m_extra/p", "--inputs", "m_report", "--outputs", "m_other")
        ran = batch("b2", "m_clean", "m_report", "m_extra")
        assert ran["m_extra"]["start_time"] > ran["m_report"]["end_time"]
        modify("undo")
        modify("undo")
        assert set(started()) == {"m_clean/p", "m_report/p"}
    for words, says in (
        (["reroute", "m_report/p", "m_nothing", "m_raw"], "reads m_flights"),
        (["add", "m_report/p", "--inputs", "m_report", "--outputs", "m_report"], "itself"),
        (["set", "m_report/p", "depth"], "NAME=VALUE"),
    ):
        assert main(["modify", *words, "--yes"]) == 2
        assert says in capfd.readouterr().err
    assert main(["graph", "apply", "--remove", "--yes"]) == 0
    for found in ids.values():
        api.call("DELETE", f"/deployments/{found}")


def test_safe_fixes_are_written_and_the_next_check_is_clean(server, here, capfd):
    api = server.api()
    hourly = {"schedule": {"cron": "0 * * * *", "timezone": "UTC"}, "active": True}
    found = api.deployment(api.pool(), flow="twice", name="p", entrypoint="f.py:f", schedules=[hourly, hourly])
    assert main(["graph", "check"]) == 1
    assert "duplicate-schedule" in capfd.readouterr().out
    assert main(["graph", "check", "--fix"]) == 0  # nothing is left
    assert "1 fixed" in capfd.readouterr().out
    schedules = api.call("GET", f"/deployments/{found}")["schedules"]
    assert sorted(schedule["active"] for schedule in schedules) == [False, True]
    assert main(["graph", "check"]) == 0
    api.call("DELETE", f"/deployments/{found}")


def test_a_price_that_is_inherited_reaches_the_controllers(server, here, capfd):
    api, prefect = server.api(), PrefectApi(server.api_url)
    pool = api.pool()
    api.queue(pool, "dear", priority=1)
    api.queue(pool, "cheap", priority=2)
    ids = [api.deployment(pool, queue, flow=f"i_{queue}", name="p", entrypoint="f.py:f") for queue in ("cheap", "dear")]
    publish_terms(prefect, "i_cheap", Terms(outputs=("i_raw",), late_usd_per_hour=1.0))
    dear = {"inputs": ["i_raw"], "outputs": ["i_mart"], "late_usd_per_hour": 50.0, "deadline": "1h"}
    publish_terms(prefect, "i_dear", Terms.from_dict(dear))
    assert main(["graph", "check"]) == 1
    assert "priority-inversion" in capfd.readouterr().out
    main(["graph", "check", "--fix"])
    assert "i_cheap/p is priced at 50 USD/h in pipelines.toml" in capfd.readouterr().out
    agreed = read_terms(prefect)
    assert agreed.of("i_cheap", "p").late_usd_per_hour == 50.0
    assert agreed.of("i_cheap", "other").late_usd_per_hour == 1.0
    for found in ids:
        api.call("DELETE", f"/deployments/{found}")


def test_two_machines_do_not_change_pipelines_at_once(server, here, tmp_path, monkeypatch):
    workshops = []
    for machine in ("one", "two"):  # each with a data folder of its own: no file that they share
        monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / machine))
        workshops.append(open_workspace(load_settings().settings))
    one, two = workshops
    with one.exclusive():
        with pytest.raises(InvalidInputError, match="another machine"), two.exclusive(patience_s=0.0):
            pytest.fail("both were let in")
        with pytest.raises(InvalidInputError, match="another command"), one.exclusive():
            pytest.fail("both were let in")
    with two.exclusive(patience_s=0.0):
        pass
    # a machine that dies keeps the others out no longer than its lease lasts
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with one.exclusive():
            os.write(tell, b"in")
            time.sleep(60)
        os._exit(0)
    os.read(told, 2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with two.exclusive():
        pass
