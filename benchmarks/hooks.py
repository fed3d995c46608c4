"""Time that the hooks add to a flow run: `python -m benchmarks.hooks --json`.

A real Prefect server on SQLite. Every run is a process of its own, as under a worker, and executes a deployment's run
in a work pool; the time inside every hook that the engine calls is measured, which is what the run waits for. Once with
a running controller, where a hook only reports, and once without (embedded), where hooks decide. After the run the
process is checked for heavy modules that a hook must not import.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import relay_key, steering_key
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.pool_notes import PoolNotes
from tests.real_prefect import RealServer  # first: it scrubs the environment

HEAVY = ("soda_core", "soda_duckdb", "mlflow", "torch", "numba", "duckdb")
_CHILD = """
import json, sys, time
from uuid import UUID
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect_intelligent import intelligent

@intelligent(deadline="1h", late_usd_per_hour=5.0, contract="missing.yml", outputs=["nowhere.parquet"])
@flow(name=sys.argv[2])
def work():
    time.sleep(float(sys.argv[3]))

spent, worked = {}, {}

def timed(hook):
    def call(flow, flow_run, state):
        began, busy = time.perf_counter(), time.thread_time()
        try:
            return hook(flow, flow_run, state)
        finally:
            spent[hook.__name__] = (time.perf_counter() - began) * 1000
            worked[hook.__name__] = (time.thread_time() - busy) * 1000
    call.__name__ = hook.__name__
    return call

for hooks in (work.on_running_hooks, work.on_completion_hooks):
    hooks[:] = [timed(hook) for hook in hooks]
with get_client(sync_client=True) as client:
    run = client.read_flow_run(UUID(sys.argv[1]))
run_flow(work, flow_run=run, parameters={})
print(json.dumps({"spent": spent, "worked": worked, "modules": sorted(sys.modules)}))
"""


def measure(
    server: RealServer, pool: str, count: int, home: Path, sleep_s: float
) -> tuple[list[float], list[float], set[str]]:
    """Milliseconds that the hooks of each run took, how many of them on the processor, and all modules loaded."""
    api, name = server.api(), f"bench-{pool}"
    deployment = api.deployment(pool, flow=name)
    env = server.env(PREFECT_INTELLIGENT_DATA_DIR=str(home))
    taken, worked, modules = [], [], set[str]()
    for _ in range(count):
        command = [sys.executable, "-c", _CHILD, api.run(deployment), name, str(sleep_s)]
        out = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        if out.returncode:
            raise RuntimeError(out.stderr[-2000:])
        found = json.loads(out.stdout.splitlines()[-1])
        if len(found["spent"]) != 2:
            raise RuntimeError(f"expected two hooks, got {found['spent']}")
        taken.append(sum(found["spent"].values()))
        worked.append(sum(found["worked"].values()))
        modules |= set(found["modules"])
    return taken, worked, modules


def wait_for_controller(url: str, pool: str, home: Path, timeout_s: float = 180.0) -> None:
    """Until it has decided and says so to the hooks of its machine."""
    deadline = time.monotonic() + timeout_s
    while not (liveness.is_alive(steering_key(url, pool), home) and liveness.is_alive(relay_key(url), home)):
        if time.monotonic() > deadline:
            raise RuntimeError("the controller did not begin to steer in time")
        time.sleep(0.1)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = RealServer(Path(folder) / "prefect").start()
        try:
            api = server.api()
            steered, alone = api.pool("steered", limit=4), api.pool("alone", limit=4)
            home = Path(folder) / "home"
            env = server.env(PREFECT_INTELLIGENT_DATA_DIR=str(home))
            command = [sys.executable, "-m", "prefect_intelligent", "control", "run", "--pool", steered]
            with (Path(folder) / "control.log").open("w") as log:
                controller = subprocess.Popen(command, env=env, stdout=log, stderr=log)
            try:
                wait_for_controller(server.api_url, steered, home)
                beside, busy, modules = measure(server, steered, args.runs, home, 0.2)
            finally:
                controller.send_signal(signal.SIGTERM)
                controller.wait(30)
            notes = PoolNotes(PrefectApi(server.api_url), alone)
            notes.write("switch", {"position": "on", "by": "benchmark"})
            embedded, _, more = measure(server, alone, max(3, args.runs // 3), Path(folder) / "own", 0.2)
        finally:
            server.stop()
    figures: dict[str, Any] = {
        "hook_median_ms": round(statistics.median(beside), 2),
        "heavy_modules_imported": sum(name in modules for name in HEAVY),
    }
    context = {
        "hook_cpu_median_ms": round(statistics.median(busy), 2),
        "hook_max_ms": round(max(beside), 2),
        "hook_all_ms": [round(value, 2) for value in beside],
        "embedded_median_ms": round(statistics.median(embedded), 2),
        "heavy": [name for name in HEAVY if name in modules],
        "heavy_embedded": [name for name in HEAVY if name in more],
        "runs": args.runs,
        "cpus": os.cpu_count(),
    }
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in (figures | context).items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
