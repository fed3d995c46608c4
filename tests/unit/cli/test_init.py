"""`init` writes two files, and none over one of yours."""

import json
from pathlib import Path

import pytest
import yaml

from prefect_intelligent.cli import main

INIT = ("init", "--pool", "etl")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(capsys, *words):
    assert main([*INIT, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_deployment_for_each_operation(folder, capsys):
    assert written(capsys) == {
        "written": ["prefect-intelligent.toml", "prefect.yaml"],
        "deploy": "prefect deploy --all",
    }
    found = {row["name"]: row for row in yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]}
    assert found.keys() == {"controller", "sync", "report", "ship"}
    assert found["controller"]["parameters"] == {"pools": ["etl"]}
    assert {row["work_pool"]["name"] for row in found.values()} == {"operations"}
    assert "# - name: retrain" in (folder / "prefect.yaml").read_text()


def test_in_a_checkout_retraining_is_a_deployment_too(folder, capsys):
    (folder / "flows").mkdir()
    (folder / "flows" / "retrain_policy.py").touch()
    written(capsys)
    rows = yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]
    assert rows[-1]["entrypoint"] == "flows/retrain_policy.py:retrain_policy"


def test_your_own_deployments_stay(folder, capsys):
    (folder / "prefect.yaml").write_text("mine")
    found = written(capsys)
    assert found["deploy"] == "prefect deploy --all --prefect-file prefect-intelligent.yaml"
    assert (folder / "prefect.yaml").read_text() == "mine"
    assert main(INIT) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    written(capsys, "--force")
    assert "deployments:" in (folder / "prefect.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--run-in", "etl"), "--run-in: got 'etl'; the controller would hold a slot of the pool that it steers"),
        (("--run-in", ""), "--run-in: got ''; must be the name of a work pool"),
        (("--folder", "nowhere"), "--folder: got 'nowhere'; no such folder"),
    ],
)
def test_what_cannot_be(folder, capsys, words, says):
    assert main([*INIT, *words]) == 2
    assert says in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_the_entrypoints_are_flows(folder, capsys):
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    written(capsys)
    for row in yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]:
        flow = load_flow_from_entrypoint(row["entrypoint"])
        assert isinstance(flow, Flow)
        flow.validate_parameters(row["parameters"])
