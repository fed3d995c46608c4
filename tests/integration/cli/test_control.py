"""The commands of the operator against a real Prefect server."""

import json
import signal
import subprocess
import sys
import time

import pytest

from prefect_intelligent.cli import main

pytestmark = pytest.mark.server


class Operator:
    """Gives commands in a folder of its own, in this process or, with `start`, in one of their own."""

    def __init__(self, server, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.env = server.env(**SETTINGS, PREFECT_INTELLIGENT_DATA_DIR=str(folder / "data"))

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "prefect_intelligent", *words],
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words):
        self.capsys.readouterr()
        code = main(words)
        return code, *self.capsys.readouterr()

    def json(self, *words, code=0):
        returned, out, err = self.run(*words, "--json")
        assert returned == code, err
        return json.loads(out)


SETTINGS = {"PREFECT_INTELLIGENT_INTERVAL_S": "4", "PREFECT_INTELLIGENT_GUARD__INTERVAL_S": "0"}


@pytest.fixture
def operator(prefect_server, prefect_api, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    return Operator(prefect_server, tmp_path, capsys)


@pytest.fixture
def pool(api):
    """Two queues; the one that is served last holds runs that are late and dear."""
    name = api.pool(limit=2)
    api.queue(name, "calm", priority=10)
    api.queue(name, "urgent", priority=30, limit=5)
    calm, dear = api.deployment(name, "calm"), api.deployment(name, "urgent")
    for _ in range(2):
        api.run(calm, in_s=-5)
        api.run(dear, in_s=-5)
    return name


def wait_for(holds, timeout_s=180.0):
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_once_explain_status_restore(api, pool, operator):
    before = api.numbers(pool)
    wanted = ("control", "run", "--pool", pool, "--once", "--policy", "sjf+fixed:1")
    shown = operator.json(*wanted, "--mode", "shadow")
    assert shown["decision"]["outcome"] == "recorded"
    assert shown["decision"]["planned"]
    assert api.numbers(pool) == before

    done = operator.json(*wanted)
    assert done["decision"]["outcome"] == "applied"
    assert done["decision"]["applied"] == done["decision"]["planned"]
    assert api.numbers(pool)[""][1] == 1

    explained = operator.json("explain", "--pool", pool)
    assert explained["pool_limit"] == done["decision"]["pool_limit"]
    assert {queue["name"] for queue in explained["queues"]} == {"calm", "default", "urgent"}
    code, out, _ = operator.run("explain", "--pool", pool)
    assert code == 0
    assert "pool: limit 2 -> 1 (written)" in out

    status = operator.json("control", "status", "--pool", pool)
    assert status["led"] is False
    assert status["values_to_put_back"] > 0

    plan = operator.json("control", "restore", "--pool", pool, "--dry-run")
    assert plan["changes"][0] == {"queue": None, "setting": "limit", "before": 1, "after": 2}
    assert api.numbers(pool)[""][1] == 1
    operator.json("control", "restore", "--pool", pool)
    assert api.numbers(pool) == before
    assert operator.json("control", "restore", "--pool", pool)["changes"] == []


def test_a_controller_runs_reacts_stands_alone_and_ends_cleanly(api, pool, operator):
    before = api.numbers(pool)
    first = operator.start("control", "run", "--pool", pool, "--policy", "fifo+fixed:1", "--json")
    wait_for(lambda: api.numbers(pool)[""][1] == 1)
    assert operator.json("control", "status", "--pool", pool)["led"] is True
    second = operator.json("control", "run", "--pool", pool, "--policy", "fifo+fixed:2", "--once")
    assert second["what"] == "standing by"
    code, _, err = operator.run("control", "restore", "--pool", pool)
    assert code == 2
    assert err.startswith("error: a controller leads work pool")
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (0, "")
    moments = [json.loads(line) for line in out.splitlines()]
    assert moments[0]["decision"]["outcome"] == "applied"
    assert api.numbers(pool)[""][1] == 1
    operator.json("control", "restore", "--pool", pool)
    assert api.numbers(pool) == before


def test_restore_on_exit(api, pool, operator):
    before = api.numbers(pool)
    process = operator.start("control", "run", "--pool", pool, "--policy", "fifo+fixed:1", "--restore-on-exit")
    wait_for(lambda: api.numbers(pool)[""][1] == 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0
    assert api.numbers(pool) == before


def test_adopt_shows_first_then_does_and_restore_takes_it_back(api, pool, operator):
    before = api.numbers(pool)
    plan = operator.json("control", "adopt", "--pool", pool)
    assert plan["written"] is False
    assert len(plan["create"]) == len(plan["assign"]) == 2
    assert api.numbers(pool) == before
    operator.json("control", "adopt", "--pool", pool, "--apply")
    lanes = {name for name in api.numbers(pool) if name.startswith("pi-")}
    assert lanes == {item["queue"] for item in plan["create"]}
    for item in plan["create"]:
        assert api.numbers(pool)[item["queue"]][0] == item["priority"]
    operator.json("control", "restore", "--pool", pool)
    assert api.numbers(pool) == before


def test_off_and_release(api, pool, operator):
    operator.run("control", "off", "--pool", pool)
    before = api.numbers(pool)
    once = ("control", "run", "--pool", pool, "--once", "--policy", "fifo+fixed:1")
    assert operator.json(*once)["decision"]["outcome"] == "off"
    assert api.numbers(pool) == before
    operator.run("control", "on", "--pool", pool)
    assert operator.json(*once)["decision"]["outcome"] == "applied"
    api.call("PATCH", f"/work_pools/{pool}", {"concurrency_limit": 7})
    assert operator.json(*once)["decision"]["outcome"] == "unchanged"
    assert operator.json("control", "status", "--pool", pool)["held_by_people"][0]["value"] == 7
    operator.run("control", "release", "--pool", pool, "--pool-limit")
    assert operator.json(*once)["decision"]["applied"] == [[None, "limit", 7, 1]] or api.numbers(pool)[""][1] < 7


def test_doctor_names_what_is_wrong(api, operator):
    pool = api.pool()
    found = operator.json("doctor", "--pool", pool, code=1)["findings"]
    said = [finding["what"] for finding in found if finding["level"] == "problem"]
    assert any("neither the pool nor any queue has a limit" in what for what in said)
    assert any("there is one queue only" in what for what in said)
    assert any(f"no worker polls the pool {pool}; none was ever seen" in what for what in said)
    assert "the pool may be written" in [finding["what"] for finding in found]
    code, out, _ = operator.run("doctor", "--pool", pool)
    assert code == 1
    assert "problem" in out


@pytest.mark.parametrize(
    "words",
    [
        ("control", "run", "--once"),
        ("control", "status"),
        ("control", "restore"),
        ("control", "adopt"),
        ("doctor",),
        ("explain",),
    ],
)
def test_a_pool_that_does_not_exist_is_one_line_and_leaves_nothing_behind(pool, operator, words):
    code, out, err = operator.run(*words, "--pool", pool[:-1])
    assert (code, out) == (2, "")
    assert err.startswith(f"error: unknown work pool: got '{pool[:-1]}'; did you mean '{pool}'?")
    assert err.count("\n") == 1
    assert list(operator.folder.iterdir()) == []


def test_a_server_that_does_not_answer(operator):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        code, out, _ = operator.run("control", "run", "--pool", "any", "--once", "--json")
        moment = json.loads(out)
        assert (code, moment["what"], moment["decision"]) == (1, "failed", None)
        assert "http://127.0.0.1:9/api" in moment["problem"]
        code, out, _ = operator.run("doctor", "--pool", "any")
        assert code == 1
        assert "start the server, or set PREFECT_API_URL to it" in out
