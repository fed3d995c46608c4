"""A stranger's first hour: what README and the how-to pages say is typed as it stands there.

README is typed in a fresh environment that holds the built wheel, against a real server and a worker of that
environment, with a schedule. The pages are typed in this process, which saves two seconds a command.
"""

import os
import re
import shlex
import signal
import subprocess
import textwrap
import time

import duckdb
import pandas as pd
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact
from tests.packaging.fresh import ROOT, build_wheel, index_url, install, make_venv, why_no_index
from tests.real_prefect import Process

README = (ROOT / "README.md").read_text()
PATIENCE_S = 240.0
SCHEDULED = """
import sys
from pathlib import Path
from flows import build_delays
build_delays.from_source(str(Path.cwd()), "flows.py:build_delays").deploy(
    name="daily", work_pool_name="etl", interval=30, parameters={"day": "today"}, print_next_steps=False
)
"""
NEWEST = pytest.param(
    False,
    id="newest",
    marks=pytest.mark.skipif(
        "FIRST_HOUR_NEWEST" not in os.environ, reason="set FIRST_HOUR_NEWEST=1: it downloads much"
    ),
)


class Stranger:
    """A folder, an environment with the wheel, and what is typed in it."""

    def __init__(self, venv, server, folder):
        self.folder, self.api, self.started = folder, server.api(), 0
        path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        more = {"PATH": path, "VIRTUAL_ENV": str(venv), "PREFECT_INTELLIGENT_DATA_DIR": str(folder / "data")}
        self.env = {name: value for name, value in server.env(**more).items() if name != "PYTHONPATH"}

    def types(self, line):
        """Exit code and output."""
        done = subprocess.run(
            ["bash", "-c", line], env=self.env, cwd=self.folder, text=True, timeout=PATIENCE_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def starts(self, line):
        """A process that goes on until it is stopped."""
        self.started += 1
        return Process(shlex.split(line), self.env, self.folder / f"log-{self.started}.txt", self.folder)

    def watches(self, line):
        """Exit code of a controller that is stopped by Ctrl-C after its first decision."""
        controller = self.starts(line)
        try:
            until(lambda: re.search(r"\d ms", controller.log.read_text()) or controller.popen.poll() is not None)
            controller.signal(signal.SIGINT)
            return controller.popen.wait(PATIENCE_S)
        finally:
            controller.kill()


def until(holds):
    """What `holds` gives, once it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, "it has not come to hold"
        time.sleep(0.25)
    return found


def block(kind, after):
    """The first block of that kind below a heading of README."""
    return re.search(rf"^## {after}$.*?^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL).group(1)


@pytest.fixture(scope="module", params=[pytest.param(True, id="pinned"), NEWEST])
def venv(request, tmp_path_factory):
    """As README says: an environment, and the package with all extras; from the wheel instead of an index."""
    if (reason := why_no_index(index_url())) is not None:
        pytest.skip(reason)
    assert "pip install 'prefect-intelligent[all]'" in block("bash", "Install")
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    found = make_venv(tmp_path_factory.mktemp("stranger") / ".venv")
    install(found, wheel, "all", pinned=request.param)
    return found


@pytest.mark.packaging
@pytest.mark.slow
@pytest.mark.worker
def test_readme_holds_from_the_wheel_with_a_schedule_and_a_worker(venv, own_server, tmp_path, workers):
    stranger = Stranger(venv, own_server, tmp_path)
    api = stranger.api
    assert stranger.types("prefect-intelligent --help")[0] == 0
    api.pool("etl", limit=2)
    api.queue("etl", "backfill", priority=1)
    first = api.numbers("etl")
    (tmp_path / "flows.py").write_text(block("python", "Your own flows in ten minutes"))
    (tmp_path / "deploy.py").write_text(SCHEDULED)
    code, out = stranger.types("python deploy.py")
    assert code == 0, out
    workers.callback(stranger.starts("prefect worker start --pool etl").stop)
    until(lambda: api.call("POST", "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}))
    assert api.numbers("etl") == first, "a decorator steers nothing"

    lines = (line.split("#")[0].strip() for line in block("bash", "Your own flows in ten minutes").splitlines())
    doctor, shadow, why, explain, auto, status, off, restore = lines
    assert "not switched on" in stranger.types(doctor)[1]
    assert stranger.watches(shadow) == 0
    assert api.numbers("etl") == first, "shadow writes nothing"
    code, out = stranger.types(why)
    assert code == 0, out
    assert "build-delays/daily" in out
    code, out = stranger.types(explain)
    assert code == 0, out
    assert "wanted" in out
    assert "not switched on" in stranger.types(status)[1]
    assert stranger.watches(auto) == 0
    assert "switched on, no controller leads" in stranger.types(status)[1]
    assert stranger.types(off)[0] == 0
    assert "it is switched off" in stranger.types(status)[1]
    code, out = stranger.types(restore)
    assert code == 0, out
    assert api.numbers("etl") == first


FOREVER = ("--every 60s", "dashboard --pool main", "ship --tracking-uri", "fleet --pool", "prefect-intelligent mcp")
CHECKOUT = ("python -m", "prefect deploy flows/", "runs/mine")
OTHERS_FILES = (
    "clean_flights.py",
    "--usage metrics.json",
    "RUN",
    "--id ID",
    "FLOW/DEPLOYMENT",
)  # of the demo, of a collector, of a run
OTHERS_PIPELINES = ("modify ", "rollback ", "versions list", "clean-flights/prod")  # tests/acceptance/test_*pipelines*
OTHERS_BLOCKS = ("--block slack-webhook/data-team",)  # tests/integration/analytics
DAYS_LATER = ("recommend score", "prevent undo")
NOT_TYPED = (*FOREVER, *DAYS_LATER, *CHECKOUT, *OTHERS_FILES, *OTHERS_PIPELINES, *OTHERS_BLOCKS)
PROMISED = {
    "prefect-intelligent predict train --last 90d": "learned from ",
    "prefect-intelligent predict --pool main": "deployment",
    "prefect-intelligent recommend --pool main --last 14d": "a day over",
    "prefect-intelligent recommend apply 1 --write": "written:",
    "prefect-intelligent report --last 7d --by deployment": "etl/daily",
    "prefect-intelligent health": "etl/daily",
    "prefect-intelligent health --name etl/daily": "points",
    "prefect-intelligent replay --pool etl --last 14d "
    "--policies prefect-default,edf,atc,shipped --html replay.html": "Next:",
    "prefect-intelligent eta --pool etl --queue marts": "marts",
    "prefect-intelligent what-if --pool etl --set pool.limit=6 --set backfill.limit=2": "pool.limit = 6",
    "prefect-intelligent quality check flights.yml warehouse.duckdb::flights": "passed",
    "prefect-intelligent graph show --format mermaid": "flowchart",
    "prefect-intelligent prevent scores --pool main": "no measure has begun",
}
"""What a page says that a command prints."""
PAGES = (
    "keep-history",
    "read-what-happened",
    "foretell-and-recommend",
    "replay-your-history",
    "run-the-controller",
    "go-back",
    "prevent-failures",
    "find-conflicts",
    "order-pipelines",
    "gate-on-quality",
    "release-quarantined-rows",
    "watch-the-dashboard",
    "see-it-in-mlflow",
    "calibrate-your-pool",
    "canary-a-version",
    "change-a-running-pipeline",
    "retrain-and-promote",
    "roll-back",
    "train-a-policy",
    "check-in-ci",
    "find-out-why-a-run-waits",
    "run-for-a-team",
    "scale-capacity",
    "share-a-pool-with-another-writer",
    "use-blocks",
)
"""In the order in which they are typed."""


def written(page):
    """The commands of a page: lines of its blocks that begin with ours, without their comments."""
    lines = (line.strip().removeprefix("$ ") for line in textwrap.dedent(page.read_text()).splitlines())
    found = (re.split(r"\s+#", line)[0].removesuffix("|| true").strip() for line in lines)
    return [line for line in found if line.startswith(("prefect-intelligent ", "python -m ", "prefect deploy"))]


def a_run(pool, number, hour_s):
    """One of six runs of an hour: five of a backfill go first on two slots, and one of a mart is late by it."""
    mart = number == 5
    queue, deployment, took_s, usd = (
        ("marts", "etl/daily", 60.0, 60.0) if mart else ("backfill", "fill/all", 600.0, 0.0)
    )
    state, cause = ("FAILED", "ValueError: <n>") if mart and hour_s % 7 < 0.5 else ("COMPLETED", None)
    started_s = hour_s + 2.0 + 600.0 * (number // 2)
    due_s = hour_s + 300.0 if mart else None
    return RunFact(
        f"{pool}-{hour_s:.0f}-{number}", None, pool, queue, deployment, "v1", None, state, cause, hour_s, hour_s,
        started_s, started_s + took_s, due_s, None, None, 1, usd, 1.0, None,
    )  # fmt: skip


@pytest.fixture
def weeks(prefect_server, prefect_api, api, tmp_path, monkeypatch):
    """Pools `etl` and `main` with runs that wait, their history of ten days, and a table of flights."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PREFECT_INTELLIGENT_POOL", "main")
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path / 'data' / 'history.db'}"))
    now_s = time.time()
    for pool in ("etl", "main"):
        api.call("DELETE", f"/work_pools/{pool}", ok=False)
        api.pool(pool, limit=2)
        for number, queue in enumerate(("backfill", "marts")):
            api.queue(pool, queue, priority=10 * (number + 1), limit=4)
            api.run(api.deployment(pool, queue, flow=f"{queue}-of-{pool}"), in_s=-5)
        hours = 50 if pool == "main" else 20
        for hour in range(hours):
            store.put(runs=[a_run(pool, number, now_s - 3600.0 * (hours - hour + 1)) for number in range(6)])
    with duckdb.connect("warehouse.duckdb") as con:
        con.register("frame", pd.DataFrame({"flight_id": range(50), "carrier": "AA"}))
        con.execute("CREATE TABLE flights AS FROM frame")
    return folder


@pytest.mark.server
@pytest.mark.slow
def test_what_the_pages_say_is_typed_and_does_what_they_promise(weeks, capsys):
    failed, typed = [], set()
    for name in PAGES:
        for line in written(ROOT / "docs" / "how-to" / f"{name}.md"):
            if any(part in f"{line}$" for part in NOT_TYPED) or ("control run" in line and "--once" not in line):
                continue
            typed.add(line)
            capsys.readouterr()
            code = main(shlex.split(line)[1:])
            out, err = capsys.readouterr()
            if code not in (0, 1) or PROMISED.get(line, "") not in out:
                failed.append(f"{name}: {line}\n  {code}: {(out + err).strip()[-300:]}")
    assert not failed, "\n".join(failed)
    assert set(PROMISED) <= typed
    assert len(typed) > 30


def test_every_page_is_typed():
    there = {page.stem for page in (ROOT / "docs" / "how-to").glob("*.md")}
    assert there == set(PAGES)
