"""What cannot be used is said on one line, with exit code 2, and leaves nothing behind."""

import json

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_intelligent.cli import main

RUN = ("control", "run", "--once", "--pool", "etl")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield tmp_path


def refused(capsys, folder, words):
    before = sorted(folder.rglob("*"))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert sorted(folder.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "command: got None; name one of control, explain, "),
        (("contrl",), "unknown command: got 'contrl'; did you mean 'control'? See `prefect-intelligent --help`"),
        (("contrl", "--help"), "unknown command: got 'contrl'; did you mean 'control'?"),
        (("control",), "command: got None; name one of run, status, restore, adopt, release, free-slots, off, on; see"),
        (("control", "statsu"), "unknown command: got 'statsu'; did you mean 'status'?"),
        (("quality", "quarantine", "lst"), "did you mean 'list'? See `prefect-intelligent quality quarantine --help`"),
        (("--pool", "etl"), "option: got '--pool'; the options of a command come after its name; see"),
        (("control", "run", "--pol", "etl"), "unknown option: got '--pol'; did you mean '--pool'?"),
        (("control", "run", "--no-once"), "unknown option: got '--no-once'; did you mean '--once'?"),
        (("control", "run", "--pool"), "--pool: got None; needs a value; see `prefect-intelligent control run --help`"),
        (("control", "run", "--pool", "--once"), "--pool: got None; needs a value"),
        (("control", "run", "--ship", "a", "b"), "--ship: got '2 values'; takes one at most"),
        (
            ("control", "run", "--mode", "fast", "--pool", "etl"),
            "--mode: got 'fast'; must be one of shadow, advise, auto",
        ),
        (("control", "run", "--interval", "soon"), "--interval: got 'soon'; must be a number"),
        (("report", "--rows", "1.5"), "--rows: got '1.5'; must be a whole number"),
        (("recommend", "apply", "x"), "N: got 'x'; must be a whole number"),
        (("deploy", "flow.py:f"), "--name: got None; is needed"),
        (("quality", "check", "contract.yml"), "DATA: got None; is needed"),
        (("rollback", "f/d", "v1", "v2"), "argument: got 'v2'; is one more than the command takes"),
        (
            (*RUN, "--interval", "0"),
            "setting interval_s (--interval): got 0.0; input should be greater",
        ),
        ((*RUN, "--policy", "atcc"), "unknown policy (--policy): got 'atcc'; did you mean 'atc'?"),
        ((*RUN, "--policy", "edf+fixed:0"), "the number of slots must be whole and at least 1"),
        ((*RUN, "--policy", "./nowhere"), "no readable manifest.json"),
        (("control", "run", "--once"), "name a work pool with --pool or the setting `pool`"),
        (("control", "run", "--pool", ""), "--pool: got ''; must be the name of a work pool"),
        (("control", "run", "--all-pools", "--pool", "etl"), "--pool: got 'etl'; --all-pools steers it too"),
        (("control", "run", "--tag", "team", "--pool", "etl"), "--tag: got 'team'; chooses among the pools of"),
        (("control", "run", "--all-pools", "--policy", "./nowhere"), "no readable manifest.json"),
        ((*RUN, "--pool", "elt", "--policy", "./nowhere"), "no readable manifest.json"),
        (("explain", "--pool", "etl", "--config", "none.toml"), "no such file"),
        (("eta", "--pool", "etl", "--seed", "-1"), "--seed: got -1; must be 0 or more"),
        (("what-if", "--set", "pool.limit=1", "--pool", "etl", "--seed", "-1"), "--seed: got -1; must be 0 or more"),
        (("what-if", "--set", "pool.limit=-3", "--pool", "etl"), "pool.limit: got '-3'; must be 0 or more"),
        (("replay", "--pool", "etl", "--seed", "-1"), "--seed: got -1; must be 0 or more"),
        (("replay", "--recording", "."), "recording: got '.'; cannot be read (Is a directory)"),
    ],
)
def test_what_is_typed(capsys, folder, words, says):
    assert says in refused(capsys, folder, words)


RECORDING = {
    "format": "prefect-intelligent-recording", "version": 1, "pool": {"name": "p", "type": "process"}, "queues": [],
    "prices": {}, "poll_s": 10.0, "startup_s": 1.0, "runs": [{"deployment": "f/d"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("runs", [], "recording: got 'no runs'; there is nothing to replay"),
        ("poll_s", "soon", "a part is missing or of the wrong type"),
        ("queues", ["q"], "a part is missing or of the wrong type"),
    ],
)
def test_what_stands_in_a_recording(capsys, folder, part, value, says):
    (folder / "r.json").write_text(json.dumps(RECORDING | {part: value}))
    assert says in refused(capsys, folder, ("replay", "--recording", "r.json"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[prices]\nslot_usd_per_hour = -0.1\n",
            "prefect-intelligent.toml:2): got -0.1; input should be",
        ),
        (
            "[pools.etl]\nlateness_weight = -1\n",
            "prefect-intelligent.toml:2): got -1; input should be",
        ),
        ("[prices\n", "prefect-intelligent.toml:1'; is not TOML"),
        ("intervall_s = 3\n", "did you mean 'interval_s'?"),
        ('history_url = "mysql://x/y"\n', "expected a sqlite: or postgresql: URL"),
    ],
)
def test_what_a_settings_file_says(capsys, folder, text, says):
    (folder / "prefect-intelligent.toml").write_text(text)
    assert says in refused(capsys, folder, RUN)


@pytest.mark.parametrize("words", [RUN, ("config",), ("report",), ("control", "status", "--pool", "etl")])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('policy = "atcc"\n', "unknown policy (prefect-intelligent.toml:1): got 'atcc'; did you mean 'atc'?"),
        ('policy = "planner:atcc"\n', "got 'atcc'; did you mean 'atc'?"),
        (
            'rule = "edf+fixed:0"\n',
            "rule (prefect-intelligent.toml:1): got 'edf+fixed:0'; the number of slots must be whole",
        ),
        (
            '[prevention.keeps-faling]\nmode = "auto"\n',
            "prefect-intelligent.toml:1): got 'prevention.keeps-faling'; did you mean 'prevention.keeps-failing'?",
        ),
    ],
)
def test_a_word_that_is_none_is_refused_by_every_command(capsys, folder, words, text, says):
    (folder / "prefect-intelligent.toml").write_text(text)
    assert says in refused(capsys, folder, words).replace(f"{folder}/", "")


def test_what_the_environment_says(capsys, folder, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_PRICES__SLOT_USD_PER_HOUR", "-3")
    err = refused(capsys, folder, RUN)
    assert "prices.slot_usd_per_hour (PREFECT_INTELLIGENT_PRICES__SLOT_USD_PER_HOUR): got '-3'" in err


@pytest.mark.parametrize(
    ("decorators", "says"),
    [
        (
            "@intelligent(late_usd_per_hour=-1)",
            "late_usd_per_hour: got -1.0; must be a number of US dollars, 0 or more",
        ),
        ('@intelligent(deadline="soon")', "deadline: got 'soon'; expected a span such as '45m'"),
        ('@intelligent(deadline="07:00 Mars/Olympus")', "unknown time zone: got 'Mars/Olympus'; expected a name such"),
        ('@intelligent(deadline="1h")\n@intelligent(deadline="2h")', "this flow already has its terms"),
    ],
)
def test_what_a_file_of_flows_says(capsys, folder, decorators, says):
    text = f"from prefect import flow\nfrom prefect_intelligent import intelligent\n{decorators}\n@flow\ndef f(): ...\n"
    (folder / "pipelines.py").write_text(text)
    err = refused(capsys, folder, ("terms", "publish", "pipelines.py:f", "--apply"))
    assert says in err
    assert "(in pipelines.py:f)" in err


def test_an_address_that_is_none(capsys, folder):
    with temporary_settings({PREFECT_API_URL: "localhost:4200/api"}):
        assert "PREFECT_API_URL: got 'localhost:4200/api'; must begin with http://" in refused(capsys, folder, RUN)


def test_help_and_version_are_no_errors(capsys):
    assert main(["--version"]) == 0
    assert main(["control", "run", "--help"]) == 0
    assert capsys.readouterr().err == ""
