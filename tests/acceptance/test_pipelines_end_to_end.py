"""The pipeline commands on a real server: deploy, order, replace a step under a running batch, canary, roll back."""

import json
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import Prices
from prefect_intelligent.pipelines.adapters.source_archive import pack
from prefect_intelligent.pipelines.resource_changes import AUTOMATION, DEPLOYMENT, EPOCHS, TOKENS
from prefect_intelligent.pipelines.rollout.canary import run_canary
from prefect_intelligent.pipelines.runs import VERSION_LABEL
from prefect_intelligent.pipelines.sprt import SprtConfig
from prefect_intelligent.pipelines.version import (
    DeploymentVersion,
    SourceCode,
    canary_limit_name,
    choose_version,
    pull_inputs,
)
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.pull_step import take_token, use_version
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.pipelines import open_workspace
from tests.pipeline_worker import QuickWorker
from tests.real_prefect import RealServer, start_worker

pytestmark = [pytest.mark.server, pytest.mark.slow]

INGEST = """
    import pathlib, time
    from prefect import flow
    from prefect_intelligent import intelligent

    @intelligent(outputs=["e2e_raw"], batch="batch")
    @flow
    def e2e_ingest(batch: str, folder: str):
        deadline = time.monotonic() + 240
        while not (pathlib.Path(folder) / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        pathlib.Path(folder, "ingested-" + batch).touch()
"""
CLEAN = """
    import pathlib
    from prefect import flow
    from prefect_intelligent import intelligent

    @intelligent(inputs=["e2e_raw"], outputs=["e2e_clean"], batch="batch")
    @flow
    def e2e_clean(batch: str = "none", folder: str = "FOLDER"):
        with pathlib.Path(folder, "cleaned-" + batch).open("a") as out:
            out.write("VERSION")
"""


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RealServer(tmp_path_factory.mktemp("prefect-pipelines")).start()
    yield server
    server.stop()


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """A project folder from which the commands run, pointed at the server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREFECT_API_URL", server.api_url)
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield tmp_path


def write_flows(folder: Path, version: str) -> Path:
    source = folder / f"source-{version}"
    source.mkdir()
    (source / "ingest.py").write_text(textwrap.dedent(INGEST))
    text = CLEAN.replace("FOLDER", str(folder)).replace("VERSION", version)
    (source / "clean.py").write_text(textwrap.dedent(text))
    return source


def test_a_replaced_step_runs_old_for_the_batch_in_flight_and_new_for_the_next(server, here, workers, capfd):
    api = server.api()
    pool = api.pool()
    source = write_flows(here, "v1")
    for name in ("ingest.py:e2e_ingest", "clean.py:e2e_clean"):
        assert main(["deploy", name, "--name", "p", "--source", str(source), "--work-pool", pool]) == 0
    assert main(["graph", "apply", "--yes"]) == 0
    assert main(["graph", "apply", "--yes"]) == 0
    assert "nothing to do" in capfd.readouterr().out
    prefect = PrefectApi(server.api_url, timeout_s=60)
    workspace = open_workspace(load_settings().settings)
    ids = {name: workspace.server.deployment_id(f"{name}/p") for name in ("e2e-ingest", "e2e-clean")}
    workers.callback(start_worker(server, pool, limit=4).stop)

    first = api.run(ids["e2e-ingest"], parameters={"batch": "b1", "folder": str(here)})
    wait_for(lambda: api.read_run(first)["state_type"] == "RUNNING")
    replacement = write_flows(here, "v2")
    command = ["modify", "replace", "clean.py:e2e_clean", "--name", "p", "--source", str(replacement), "--yes"]
    assert main(command) == 0
    second = api.run(ids["e2e-ingest"], parameters={"batch": "b2", "folder": str(here)})
    (here / "go").touch()
    wait_for(lambda: (here / "cleaned-b1").exists() and (here / "cleaned-b2").exists())
    api.wait([first, second])
    assert (here / "cleaned-b1").read_text() == "v1"
    assert (here / "cleaned-b2").read_text() == "v2"

    # every run says which version it really executed
    found = prefect.call("POST", "/flow_runs/filter", {"deployments": {"id": {"any_": [ids["e2e-clean"]]}}})
    ran = {run["parameters"]["batch"]: run["labels"][VERSION_LABEL] for run in found}
    v1, v2 = workspace.versions.all("e2e-clean/p")
    assert ran == {"b1": v1.id, "b2": v2.id}

    # a rollback brings back, byte for byte, what was held before the modification
    intent = next(i for i in reversed(workspace.transactions.intents()) if i["title"] == "modify")
    before = next(c["before"] for c in intent["changes"] if c["resource"] == DEPLOYMENT + "e2e-clean/p")
    assert main(["rollback", "e2e-clean/p"]) == 0
    assert workspace.server.read(DEPLOYMENT + "e2e-clean/p") == before
    capfd.readouterr()
    assert main(["versions", "list", "e2e-clean/p", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)["versions"]
    assert [row["id"] for row in listed] == [v1.id, v2.id]
    assert listed[0]["in_force"]
    for words in (["modify", "remove", "e2e-clean/p"], ["modify", "undo"]):
        assert main(words) == 0
        assert "nothing was written" in capfd.readouterr().out
        assert main([*words, "--yes"]) == 0
        assert "written" in capfd.readouterr().out
        assert main(["graph", "apply", "--yes"]) == 0
        assert "nothing to do" in capfd.readouterr().out
    assert main(["graph", "apply", "--remove", "--yes"]) == 0
    assert {**workspace.server.read_all(AUTOMATION), **workspace.server.read_all(EPOCHS)} == {}


def test_a_bad_version_on_trial_is_stopped_by_itself_and_no_run_is_lost_or_doubled(server, here):
    api = server.api()
    pool = api.pool()
    api.deployment(pool, flow="e2e_trial", name="p", entrypoint="clean.py:trial")
    workspace = open_workspace(load_settings().settings)
    rollout, name = workspace.rollout, "e2e_trial/p"
    baseline = rollout.keep_current(name, "me")
    spec = {**baseline.spec, "pull_steps": None, "version": None}
    good, bad = (
        workspace.versions.keep(
            DeploymentVersion(
                deployment=name, spec=spec, code=SourceCode(blob=workspace.blobs.put(text)), parent=baseline.id
            )
        )
        for text in (b"good", b"bad")
    )
    rollout.swap(good)
    before = workspace.server.read(DEPLOYMENT + name)
    found = workspace.server.deployment_id(name)
    executed, looks, over = {}, [], threading.Event()
    prefect = PrefectApi(server.api_url, timeout_s=60)

    def run(flow_run):
        """What the pull step does, then a flow that fails if its code is bad; at most three between two looks."""
        wait_for(lambda: over.is_set() or len(executed) < 3 * len(looks))
        inputs = pull_inputs(api.call("GET", f"/deployments/{found}"))
        chosen = choose_version(inputs, label=None, pinned=None, admit=lambda tokens: take_token(prefect, tokens))
        api.call("PATCH", f"/flow_runs/{flow_run['id']}/labels", {VERSION_LABEL: chosen})
        executed[flow_run["id"]] = chosen
        assert list(executed.values()).count(bad.id) <= 0.2 * len(executed)
        if chosen == bad.id:
            raise RuntimeError

    submitted = [api.run(found, parameters={}) for _ in range(60)]
    with QuickWorker(server.api_url, pool, {}, run) as worker:
        try:
            state = run_canary(
                rollout,
                bad,
                share=0.2,
                config=SprtConfig(),
                timeout_s=300,
                prices=Prices(),
                poll_s=0.3,
                on_update=looks.append,
            )
        finally:
            over.set()
        wait_for(lambda: len(worker.ran) >= len(submitted))
    assert state.verdict == "roll back"
    assert workspace.server.read(TOKENS + canary_limit_name(bad)) is None
    assert not take_token(prefect, canary_limit_name(bad))  # for a run that began to start just then
    assert workspace.server.read(DEPLOYMENT + name) == before
    versions = Counter(executed.values())
    assert 1 <= versions[bad.id] <= 10
    assert versions[good.id] >= 0.8 * len(submitted)
    assert sorted(run_id for _, run_id in worker.ran) == sorted(submitted)  # each once
    failed = {run_id for run_id in submitted if api.read_run(run_id)["state_type"] == "FAILED"}
    assert failed == {run_id for run_id, version in executed.items() if version == bad.id}


def test_the_pull_step_gives_a_trial_to_whoever_gets_a_token_and_a_retry_keeps_its_version(server, here, monkeypatch):
    api = server.api()
    workspace = open_workspace(load_settings().settings)
    found = api.deployment(api.pool(), flow="e2e_pull", name="p", entrypoint="f.py:f")
    stable, trial = (
        workspace.versions.keep(
            DeploymentVersion(
                deployment="e2e_pull/p", spec={}, code=SourceCode(blob=workspace.blobs.put(pack(folder).archive))
            )
        )
        for folder in (write_flows(here, "v1"), write_flows(here, "v2"))
    )
    tokens = canary_limit_name(trial)
    canary = {"version": trial.id, "tokens": tokens}
    runs = [api.run(found) for _ in range(3)]

    def pull(run):
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run)
        chosen = use_version(stable.id, workspace.settings.versions, canary=canary)
        assert api.read_run(run)["labels"][VERSION_LABEL] == chosen["version"]
        assert Path(chosen["directory"], "clean.py").is_file()
        return chosen["version"]

    monkeypatch.setenv("PREFECT_HOME", str(here / "home"))
    assert pull(runs[0]) == stable.id  # no trial any more, or not yet
    workspace.server.write(TOKENS + tokens, {"allowed": 1})
    assert [pull(run) for run in (runs[1], runs[2])] == [trial.id, stable.id]
    workspace.server.write(TOKENS + tokens, {"allowed": 5})
    assert [pull(run) for run in (runs[1], runs[2])] == [trial.id, stable.id]
    assert workspace.server.read(TOKENS + tokens) == {"allowed": 5}
    workspace.server.write(TOKENS + tokens, None)


def test_bad_input_is_told_in_one_line_with_exit_code_2(server, here, capfd, monkeypatch):
    source = write_flows(here, "v1")
    (source / "broken.py").write_text("import nothing_like_it\n")
    (here / "loop.toml").write_text('[deployments."a/b".terms]\ninputs = ["x"]\noutputs = ["x"]\n')
    cases = [
        (["graph", "plan", "nothing"], "unknown dataset"),
        (["graph", "impact", "no/such"], "unknown deployment"),
        (["graph", "check", "--ignore", "circle"], "unknown rule"),
        (["graph", "show", "--project", "loop.toml"], "writes itself"),
        (["graph", "show", "--project", "absent.toml"], "is not a file"),
        (["rollback", "no/such"], "unknown deployment"),
        (["versions", "show", "abc"], "unknown version"),
        (["modify", "remove", "no/such"], "unknown deployment"),
        (["deploy", "clean.py", "--name", "p", "--source", str(source)], "FILE.py:FLOW"),
        (["deploy", "no.py:f", "--name", "p", "--source", str(source)], "no.py"),
        (["deploy", "broken.py:f", "--name", "p", "--source", str(source)], "cannot be imported"),
        (["deploy", "clean.py:f", "--name", "p", "--share", "many"], "--share"),
        (["deploy", "clean.py:f", "--name", "p", "--param", "x"], "NAME=VALUE"),
    ]
    for words, message in cases:
        assert main(words) == 2, words
        printed = capfd.readouterr()
        assert printed.err.startswith("error: "), words
        assert message in printed.err, printed.err
        assert printed.err.count("\n") == 1
    assert open_workspace(load_settings().settings).transactions.intents() == []
