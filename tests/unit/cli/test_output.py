"""`--output json`, as Prefect's commands have it, and findings as annotations of a pull request."""

import json

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.cli.formatting import annotation

BAD = "dataset: a/b\nchecks: []\n"


@pytest.fixture
def contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yml").write_text(BAD)
    return "bad.yml"


@pytest.mark.parametrize("words", [("--json",), ("--output", "json"), ("--output=json",)])
def test_json_by_either_name(contract, capsys, words):
    assert main(["quality", "lint", contract, *words]) == 1
    assert json.loads(capsys.readouterr().out)["findings"]


def test_findings_as_annotations(contract, capsys):
    assert main(["quality", "lint", contract, "--output", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("::error file=bad.yml,title=data contract::") for line in lines)


def test_an_output_that_a_command_does_not_have(contract, capsys):
    assert main(["quality", "lint", contract, "--output", "xml"]) == 2
    assert "--output: got 'xml'; must be one of json, github" in capsys.readouterr().err
    assert main(["config", "--output", "github"]) == 2
    assert "unknown option: got '--output'" in capsys.readouterr().err


def test_what_github_would_take_for_a_command_is_escaped():
    text = annotation("50 % of\n::error::x\r", title="a: b, c", file="a,b.yml")
    assert text == "::error file=a%2Cb.yml,title=a%3A b%2C c::50 %25 of%0A::error::x%0D"
