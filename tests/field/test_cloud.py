"""Every command against a server in the shape of Prefect Cloud: it works, or says in one line what is missing."""

import json

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from prefect_intelligent.cli import COMMANDS, main
from tests.cloud_stub import KEY, CloudStub

pytestmark = pytest.mark.server


@pytest.fixture
def cloud(prefect_server):
    stub = CloudStub(prefect_server.api_url).start()
    yield stub
    stub.stop()


@pytest.fixture
def workspace(cloud, api, tmp_path, monkeypatch):
    """A pool with runs in the workspace, and a profile that points to it; gives the pool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    pool = api.pool(limit=2)
    api.queue(pool, "calm", priority=10)
    deployment = api.deployment(pool, "calm", flow=f"flow-of-{pool}")
    for _ in range(3):
        api.run(deployment, in_s=-5)
    values = {PREFECT_API_URL: cloud.api_url, PREFECT_API_KEY: KEY, PREFECT_CLOUD_API_URL: cloud.cloud_url}
    with temporary_settings(values):
        yield pool


def commands(pool):
    once = ("--once", "--policy", "fifo+fixed:1")
    return [
        (("doctor", "--pool", pool), (0, 1)),
        (("control", "status", "--pool", pool), (0,)),
        (("control", "run", "--pool", pool, *once, "--mode", "shadow"), (0,)),
        (("control", "run", "--pool", pool, *once), (0,)),
        (("control", "run", "--all-pools", "--tag", "nobody", *once), (0,)),
        (("explain", "--pool", pool), (0,)),
        (("control", "off", "--pool", pool), (0,)),
        (("control", "on", "--pool", pool), (0,)),
        (("control", "release", "--pool", pool), (0,)),
        (("control", "adopt", "--pool", pool), (0,)),
        (("control", "restore", "--pool", pool), (0,)),
        (("sync",), (0,)),
        (("report", "--pool", pool), (0, 1)),  # nothing has run
        (("health", "--pool", pool), (0, 1)),
        (("alerts", "--pool", pool), (0, 1)),
        (("terms", "show"), (0,)),
        (("graph", "show"), (0,)),
        (("graph", "check"), (0, 1)),
        (("prevent", "--pool", pool), (0,)),
        (("fleet", "--pool", pool, "--status"), (0,)),
        (("config",), (0,)),
    ]


def test_every_command_works_and_the_pool_is_steered(cloud, workspace, api, capsys):
    failed = {}
    for words, codes in commands(workspace):
        code = main([*words])
        out, err = capsys.readouterr()
        if code not in codes or "Traceback" in err:
            failed[" ".join(words)] = (code, err or out)
    assert failed == {}
    assert cloud.throttled > 0
    assert cloud.refused == {}, "a call without the key, or outside the workspace"
    assert api.numbers(workspace)[""][1] == 2  # put back


def test_doctor_says_that_the_version_is_not_told(workspace, capsys):
    main(["doctor", "--pool", workspace, "--json"])
    found = json.loads(capsys.readouterr().out)
    text = json.dumps(found)
    assert "does not tell its version, as Prefect Cloud does not" in text


def test_a_wrong_key_is_named(cloud, workspace, capsys):
    with temporary_settings({PREFECT_API_KEY: "pnu_other"}):
        assert main(["control", "status", "--pool", workspace]) == 2
    assert "PREFECT_API_KEY" in capsys.readouterr().err


def test_the_list_above_leaves_no_group_of_commands_out():
    tried = {words[0] for words, _ in commands("p")}
    # What needs files of the user's, the twin, MLflow or a browser: they ask the server what those above ask it.
    others = {
        "init",
        "eta",
        "ship",
        "what-if",
        "replay",
        "promote",
        "recommend",
        "predict",
        "dashboard",
        "deploy",
        "rollback",
    }
    others |= {"mcp", "why", "versions", "modify", "quality"}
    assert {name for group in COMMANDS.values() for name in group} == tried | others
