"""How fast and reliably records reach MLflow, and that no flow waits for it: `python -m benchmarks.tracking --json`.

Starts an MLflow server (one worker, SQLite) in a temporary folder. Eight processes spool 10,000 records while a shipper
sends them; meanwhile one writer and the shipper are killed and the server is down for a while. Then the records in
MLflow are counted: points of the metric `n`, which differs between neighbouring records, and rows of the Parquet files.

`ship_10k_s` is measured separately, without faults: the time to send a spool of 10,000 records, as hooks write them
when runs begin and end.

`tracking_added_ms`: flow runs on a real Prefect server, with and without `@intelligent` in alternating pairs, while a
shipper has an MLflow server that refuses connections, one that does not answer and one that answers 503. The figure is
the median difference of a pair, of the worst of the three.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.real_prefect import RealServer  # first: it scrubs the environment

WRITERS, RECORDS = 8, 10_000
_WRITER = """
import random, sys
from prefect_intelligent.local.spool import Spool
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
spool, rng = Spool(folder), random.Random(name)
at = 1_767_268_800.0
for i in range(count):
    scheduled = at + 7.0 * (i // 2)
    started = scheduled + rng.uniform(1, 600)
    ended = i % 2
    record = {"flow_run_id": f"{name}-{i // 2}", "flow_run": f"{name}-{i // 2}", "flow": "bench", "work_pool": "bench",
              "state": "COMPLETED" if ended else "RUNNING", "attempt": 1, "scheduled_s": scheduled,
              "started_s": started, "state_s": started + (rng.uniform(10, 900) if ended else 0.0),
              "due_s": scheduled + 900.0, "late_usd_per_hour": 40.0, "failure_usd": 5.0, "expected_s": 300.0, "n": i}
    spool.append("flow_run", record, event_id=f"{name}:{i}", at_s=at + i / 10_000)
    if len(sys.argv) > 4:
        print(i, flush=True)
"""
_FLOWS = """
import json, sys, time
from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect_intelligent import intelligent

@flow
def plain():
    time.sleep(0.05)

@intelligent(deadline="1h", late_usd_per_hour=5.0, contract="missing.yml", inputs=["raw"])
@flow
def tracked():
    time.sleep(0.05)

def timed(work):
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000

pairs = []
with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # its thread ends once a second
    for number in range(int(sys.argv[1]) + 2):
        order = (plain, tracked) if number % 2 else (tracked, plain)
        took = {work.name: timed(work) for work in order}
        pairs.append(took["tracked"] - took["plain"])
print(json.dumps(pairs[2:]))
"""


class Server:
    """An MLflow server of our own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=env, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"MLflow did not start; see {self.folder / 'server.log'}")

    def kill(self) -> None:
        """`kill -9` of the server and its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _env(home: Path) -> dict[str, str]:
    return os.environ | {"PREFECT_INTELLIGENT_DATA_DIR": str(home), "PYTHONPATH": os.getcwd()}


def _write(home: Path, name: str, count: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(home / "spool"), name, str(count), *more]
    return subprocess.Popen(command, env=_env(home), stdout=subprocess.PIPE if more else None, text=True)


def _ship(home: Path, uri: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prefect_intelligent", "ship", "--tracking-uri", uri, *options]
    return subprocess.Popen(command, env=_env(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def _arrived(uri: str) -> tuple[int, list[str]]:
    """Points of the metric `n`, and the event ids in the Parquet files."""
    import pyarrow.parquet as pq
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("prefect-intelligent")
    if experiment is None:
        return 0, []
    points, ids = 0, []
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        points += len(client.get_metric_history(run.info.run_id, "n"))
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(run.info.run_id, "records", folder)
            for file in sorted(Path(path).glob("*.parquet")):
                ids += pq.read_table(file).column("event_id").to_pylist()
    return points, ids


def ship_time(folder: Path) -> float:
    """Seconds from a full spool of 10,000 records to all of them in MLflow."""
    home = folder / "fast"
    assert _write(home, "w", RECORDS).wait() == 0
    server = Server(folder / "fast")
    server.start()
    try:
        began = time.perf_counter()
        for _ in range(5):  # a busy machine may answer late; every pass counts
            if _ship(home, server.uri, "--once").wait() == 0:
                break
        else:
            raise RuntimeError(f"ship did not send everything; see {server.folder / 'server.log'}")
        took = time.perf_counter() - began
    finally:
        server.kill()
    return took


def faults(folder: Path) -> dict[str, int]:
    """Kill a writer, the shipper and the server while 8 processes spool 10,000 records; then let everything recover."""
    home = folder / "faults"
    home.mkdir()
    server = Server(home)
    server.start()
    shipper = _ship(home, server.uri, "--interval", "0.2")
    each = RECORDS // WRITERS
    victim = _write(home, "victim", 1_000_000, "told")
    writers = [_write(home, f"w{n}", each) for n in range(WRITERS)]
    assert victim.stdout is not None
    acknowledged = 0
    for line in victim.stdout:
        acknowledged = int(line) + 1
        if acknowledged >= 300:
            victim.kill()
            break
    acknowledged = max([acknowledged, *(int(line) + 1 for line in victim.stdout.read().split())])
    time.sleep(3)
    shipper.kill()
    shipper.wait()
    shipper = _ship(home, server.uri, "--interval", "0.2")
    time.sleep(4)
    server.kill()
    time.sleep(2)
    shipper.kill()
    for writer in writers:
        writer.wait()
    shipper.wait()
    server.start()
    try:
        for _ in range(3):
            if _ship(home, server.uri, "--once", "--archive").wait() == 0:
                break
        points, ids = _arrived(server.uri)
    finally:
        server.kill()
    own = [name for name in ids if not name.startswith("victim:")]
    sure = {f"victim:{i}" for i in range(acknowledged)}
    expected = {f"w{n}:{i}" for n in range(WRITERS) for i in range(each)} | sure
    # The victim may have written one record that it had no time to tell of.
    return {
        "records_lost": len(expected - set(ids)) + max(0, len(set(ids)) - points),
        "records_doubled": len(ids) - len(set(ids)) + max(0, points - len(set(ids))),
        "records_written": len(own) + len(sure),
    }


@contextlib.contextmanager
def bad_server(kind: str) -> Iterator[str]:
    """Address of a server that refuses ("refused"), accepts and never answers ("silent") or answers 503 ("503")."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if kind == "refused":
            yield uri
            return
        listener.listen(64)
        if kind == "silent":
            yield uri
            return
        answering = os.fork()
        if answering == 0:
            while True:
                taken, _ = listener.accept()
                taken.recv(65536)
                taken.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                taken.close()
        try:
            yield uri
        finally:
            os.kill(answering, signal.SIGKILL)
            os.waitpid(answering, 0)


def added_ms(folder: Path, pairs: int) -> dict[str, float]:
    """What tracking adds to a flow run while MLflow is bad in one way or another; median of pairs, milliseconds."""
    server = RealServer(folder / "prefect").start()
    added = {}
    try:
        for kind in ("refused", "silent", "503"):
            home = folder / kind
            home.mkdir()
            with bad_server(kind) as uri:
                shipper = _ship(home, uri, "--interval", "0.2")
                try:
                    env = server.env(PREFECT_INTELLIGENT_DATA_DIR=str(home), MLFLOW_TRACKING_URI=uri)
                    command = [sys.executable, "-c", _FLOWS, str(pairs)]
                    out = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=300)
                    if out.returncode:
                        raise RuntimeError(out.stderr[-2000:])
                    if shipper.poll() is not None:
                        raise RuntimeError("the shipper ended although MLflow may come back")
                finally:
                    shipper.kill()
                    shipper.wait()
            added[kind] = statistics.median(json.loads(out.stdout.splitlines()[-1]))
    finally:
        server.stop()
    return added


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=12, help="flow runs with and without tracking (default: 12)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        took = ship_time(Path(folder))
        counted = faults(Path(folder))
        added = added_ms(Path(folder), args.pairs)
    figures: dict[str, Any] = {"ship_10k_s": round(took, 2)} | {
        name: counted[name] for name in ("records_lost", "records_doubled")
    }
    figures["tracking_added_ms"] = round(max(added.values()), 1)
    context: dict[str, Any] = {f"tracking_added_{kind}_ms": round(value, 1) for kind, value in added.items()}
    context |= {"records_written_under_faults": counted["records_written"], "writers": WRITERS, "cpus": os.cpu_count()}
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in (figures | context).items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()
