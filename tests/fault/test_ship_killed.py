"""The shipper is killed again and again while it sends to a real MLflow store: nothing is lost, nothing is doubled."""

import os
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from prefect_intelligent.local.spool import Spool
from prefect_intelligent.tracking.outbox import Outbox

pytest.importorskip("mlflow", reason="needs the extra tracking")
RECORDS = 1500


def ship(home, *options):
    env = os.environ | {"PREFECT_INTELLIGENT_DATA_DIR": str(home)}
    command = [sys.executable, "-m", "prefect_intelligent", "ship", "--tracking-uri", f"sqlite:///{home / 'm.db'}"]
    return subprocess.Popen([*command, *options], env=env, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_nothing_is_lost_or_doubled(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'm.db'}")  # makes the tables
    assert client.get_experiment_by_name("prefect-intelligent") is None
    spool = Spool(tmp_path / "spool", segment_bytes=20_000)
    kills = 0
    for i in range(RECORDS):
        spool.append("flow_run", {"work_pool": "p", "n": i}, event_id=f"e{i}", at_s=1_767_268_800.0 + i)
        if i in (100, 700, 1200):
            process = ship(tmp_path, "--interval", "0.1")
            outbox_file = tmp_path / "outbox.db"
            deadline = time.monotonic() + 180
            while time.monotonic() < deadline:  # until it is at work
                if outbox_file.exists() and (status := Outbox(outbox_file).status()).waiting + status.sent > i - 100:
                    break
                time.sleep(0.02)
            process.kill()
            process.wait()
            kills += 1
    assert kills == 3
    for _ in range(3):
        done = ship(tmp_path, "--once", "--archive")
        out, _ = done.communicate(timeout=300)
        if done.returncode == 0:
            break
    assert done.returncode == 0, out.decode()

    experiment = client.get_experiment_by_name("prefect-intelligent")
    (run,) = client.search_runs([experiment.experiment_id])
    points = client.get_metric_history(run.info.run_id, "n")
    assert [(p.step, p.value) for p in points] == [(i + 1, float(i)) for i in range(RECORDS)]
    folder = client.download_artifacts(run.info.run_id, "records")
    files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    ids = [name for file in files for name in pq.read_table(file).column("event_id").to_pylist()]
    assert ids == [f"e{i}" for i in range(RECORDS)]
