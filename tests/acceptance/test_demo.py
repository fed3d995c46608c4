"""The demo, shortened, for real: its own Prefect server, worker, controller and flights."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.demo", *arguments]


def descendants_in(folder: Path) -> list[str]:
    """Command lines of processes whose environment points into the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("PREFECT_HOME", ""):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def overtaken(arm: dict[str, Any]) -> int:
    """How many runs of the backfill, all due before it, took a slot after the first run of the morning."""
    (ingest,) = arm["start_places"]["ingest"]
    return sum(place > ingest for place in arm["start_places"]["backfill"])


@pytest.mark.worker
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_small_demo_steers_the_same_runs_and_starts_the_morning_earlier(tmp_path: Path):
    ended = subprocess.run(demo("--small", "--output", str(tmp_path)), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    default, steered = result["default"], result["steered"]
    for arm in (default, steered):
        assert len(arm["runs"]) == 12
        assert arm["failed_runs"] == 0
        for run in arm["runs"]:
            marks = [datetime.fromisoformat(run[name]) for name in ("scheduled", "started", "running", "finished")]
            assert marks == sorted(marks)
    same = [[(run["deployment"], run["queue"], run["offset_s"]) for run in arm["runs"]] for arm in (default, steered)]
    assert same[0] == same[1]
    # First come, first served: nothing of the morning comes before the backfill. (One poll of the worker hands out two
    # runs when both slots are free, and which of these takes its slot first is chance.)
    for queue, place in (("ingest", 9), ("refine", 10), ("marts", 11), ("reports", 12)):
        assert abs(default["start_places"][queue][0] - place) <= 1
    assert all(abs(found - place) <= 1 for place, found in enumerate(default["start_places"]["backfill"], start=1))
    assert overtaken(default) <= 1
    assert overtaken(steered) >= 2
    assert steered["start_places"]["ingest"][0] < default["start_places"]["ingest"][0] - 1
    assert len(steered["priorities"]) > 1
    assert len(default["priorities"]) == 1
    assert steered["settings_restored"]
    page = (tmp_path / "demo.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert descendants_in(tmp_path) == []


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of processes")
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path: Path):
    process = subprocess.Popen(demo("--small", "--output", str(tmp_path)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        give_up_s = time.monotonic() + 300
        while not any("server start" in line for line in descendants_in(tmp_path)):
            assert process.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert descendants_in(tmp_path) == []


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        demo("--output", str(tmp_path), "--picture", str(tmp_path / "new.svg")),
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --picture")
    assert list(tmp_path.iterdir()) == []
