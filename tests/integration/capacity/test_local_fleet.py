"""A fleet of real process workers on a real server: it follows what waits, and takes no run with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder

pytestmark = [pytest.mark.worker, pytest.mark.slow]

PATIENCE_S = 240.0
FLOW = """
import time
from prefect import flow

@flow
def hold(until: str):
    import pathlib
    while not pathlib.Path(until).exists():
        time.sleep(0.1)
"""


def wait_for(holds, what="it"):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"{what} did not happen in time"
        time.sleep(0.2)


class Fleet:
    """`fleet` as a process; each run of its pool ends when its file is there."""

    def __init__(self, server, api, folder):
        self.server, self.api, self.folder = server, api, folder
        self.pool = api.pool(limit=4)
        (folder / "flow.py").write_text(FLOW)
        schema = {"type": "object", "properties": {"until": {"type": "string"}}}
        self.deployment = api.deployment(
            self.pool, entrypoint="flow.py:hold", path=folder, parameter_openapi_schema=schema
        )
        self.process = None
        self.env = server.env(
            PREFECT_INTELLIGENT_DATA_DIR=str(folder / "data"),
            PREFECT_WORKER_QUERY_SECONDS="1",
            PREFECT_WORKER_PREFETCH_SECONDS="0",
        )

    def command(self, *words):
        return [sys.executable, "-m", "prefect_intelligent", "fleet", "--pool", self.pool, "--json", *words]

    def start(self, *words):
        words = ("--keep", "0", "--interval", "0.5", *words)
        log = (self.folder / "supervisor.log").open("ab")
        self.process = subprocess.Popen(
            self.command(*words), env=self.env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
        )

    def status(self):
        done = subprocess.run(self.command("--status"), env=self.env, cwd=self.folder, capture_output=True, check=True)
        return json.loads(done.stdout)

    def run(self, name):
        until = self.folder / name
        return self.api.run(self.deployment, parameters={"until": str(until)}), until

    def state(self, run):
        return self.api.read_run(run)["state_type"]

    @property
    def files(self):
        [folder] = (self.folder / "data" / "fleet").iterdir()
        return FleetFolder(folder)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)
        if (self.folder / "data" / "fleet").exists():
            for _, report in self.files.reports():
                os.kill(report.pid, signal.SIGTERM)
            wait_for(lambda: not self.files.alive(), "the end of all workers")


@pytest.fixture
def fleet(prefect_server, api, tmp_path):
    made = Fleet(prefect_server, api, tmp_path)
    yield made
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    made.stop()


def test_workers_come_with_runs_and_go_without_and_no_run_is_killed(fleet):
    fleet.start("--most", "2")
    first, ends_first = fleet.run("a")
    second, ends_second = fleet.run("b")
    third, ends_third = fleet.run("c")
    wait_for(lambda: {fleet.state(first), fleet.state(second)} == {"RUNNING"}, "two runs")
    assert fleet.state(third) in ("SCHEDULED", "PENDING")  # no more than the most
    assert len(fleet.files.alive()) == 2
    ends_first.touch()
    wait_for(lambda: fleet.state(third) == "RUNNING", "the third run")
    ends_third.touch()
    wait_for(lambda: len(fleet.files.alive()) == 1, "the end of the idle worker")
    assert fleet.state(second) == "RUNNING"  # its worker stays
    fleet.process.send_signal(signal.SIGTERM)
    assert fleet.process.wait(PATIENCE_S) == 0
    assert fleet.state(second) == "RUNNING"
    assert len(fleet.files.alive()) == 1  # it drains, and lives as long as its run
    waiting, _ = fleet.run("d")
    ends_second.touch()
    wait_for(lambda: not fleet.files.alive(), "the end of the last worker")
    assert [fleet.state(run) for run in (first, second, third)] == ["COMPLETED"] * 3
    assert fleet.state(waiting) == "SCHEDULED"  # a worker that drains takes no new run


def test_workers_outlive_a_supervisor_that_is_killed_and_the_next_one_takes_them_over(fleet):
    fleet.start("--most", "3")
    run, ends = fleet.run("a")
    wait_for(lambda: fleet.state(run) == "RUNNING", "a run")
    before = fleet.files.alive()
    fleet.process.kill()
    fleet.process.wait()
    assert fleet.state(run) == "RUNNING"
    status = fleet.status()
    assert (status["workers"], status["busy"]) == (len(before), 1)
    fleet.start("--most", "3")
    other, ends_other = fleet.run("b")
    wait_for(lambda: fleet.state(other) == "RUNNING", "another run")
    assert set(before) <= set(fleet.files.alive())
    second = subprocess.run(fleet.command(), env=fleet.env, cwd=fleet.folder, capture_output=True, text=True)
    assert second.returncode == 1
    assert "another supervisor keeps the fleet" in second.stderr
    ends.touch()
    ends_other.touch()
    wait_for(lambda: not fleet.files.alive(), "the end of all workers")
    assert [fleet.state(one) for one in (run, other)] == ["COMPLETED"] * 2


def test_a_worker_that_is_killed_is_replaced_and_its_time_to_come_is_recorded(fleet, monkeypatch):
    fleet.start("--least", "1", "--most", "1")
    wait_for(lambda: (fleet.folder / "data" / "fleet").exists() and any(r.ready_s for _, r in fleet.files.reports()))
    [(name, report)] = fleet.files.reports()
    os.kill(report.pid, signal.SIGKILL)
    wait_for(lambda: any(r.pid != report.pid and r.ready_s for _, r in fleet.files.reports()), "another worker")
    assert fleet.files.alive() == (name,)  # Prefect's list of workers does not grow
    from prefect_intelligent.settings import load_settings
    from prefect_intelligent.wiring.capacity import boot_s

    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", fleet.env["PREFECT_INTELLIGENT_DATA_DIR"])
    wait_for(lambda: boot_s(load_settings().settings, fleet.pool) > 0, "a record of the time to come")


def test_a_pool_of_another_type_has_no_fleet(fleet, prefect_api, tmp_path, monkeypatch, capsys):
    from prefect_intelligent.cli import main

    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    other = fleet.api.pool(type="kubernetes")
    assert main(["fleet", "--pool", other]) == 2
    assert "is of type kubernetes; a fleet has process workers" in capsys.readouterr().err


def test_the_folder_of_a_fleet_is_of_one_server_and_one_pool(tmp_path):
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.capacity import open_fleet_folder

    settings = Settings(data_dir=Path(tmp_path))
    apis = [PrefectApi(f"http://127.0.0.1:{port}/api") for port in (1, 2)]
    assert len({open_fleet_folder(settings, api, pool).path for api in apis for pool in ("a", "b")}) == 4
