"""Drains of real process workers while they carry runs: `python -m benchmarks.capacity --json`.

Starts a Prefect server of its own and a fleet of real workers. Again and again all workers that serve are asked to end,
whether they carry runs or not, while runs keep coming and new workers are started. `runs_killed_by_drain` counts the
runs that did not complete; each run is a process that reports its states itself, as Prefect's engine does, and takes
some hundred milliseconds. Target: 0 over 200 drains.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.real_prefect import Api, RealServer  # first: it scrubs the environment before Prefect is imported

RUN = """
import json, os, sys, time, urllib.request

def propose(kind):
    url = f"{os.environ['PREFECT_API_URL']}/flow_runs/{os.environ['PREFECT__FLOW_RUN_ID']}/set_state"
    body = json.dumps({"state": {"type": kind}, "force": False}).encode()
    for _ in range(20):
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "application/json"})).read()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(1)

propose("RUNNING")
time.sleep(float(sys.argv[1]))
propose("COMPLETED")
"""
WORKERS, SLOTS = 3, 2
_PATIENCE_S = 300.0


def measure(drains: int, seed: int = 0) -> dict[str, Any]:
    """Drain so many workers; returns figures and context."""
    from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder
    from prefect_intelligent.capacity.adapters.local_fleet import LocalFleet
    from prefect_intelligent.capacity.fleet_plan import FleetBounds

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-benchmark-") as name:
        folder = Path(name)
        server = RealServer(folder / "prefect").start()
        (folder / "run.py").write_text(RUN)
        api = server.api()
        pool = api.pool(limit=WORKERS * SLOTS)
        boots: list[float] = []
        files = FleetFolder(folder / "fleet")
        env = server.env(PREFECT_WORKER_QUERY_SECONDS="1", PREFECT_WORKER_PREFETCH_SECONDS="0")
        bounds = FleetBounds(most=2 * WORKERS, slots_each=SLOTS, keep_s=3600.0)
        fleet = LocalFleet(files, pool, bounds, env=env, prefix="bench", booted=boots.append)
        deployments = [_deployment(api, pool, folder, seconds) for seconds in (0.1, 0.5, 2.0)]
        runs: list[str] = []
        ends: list[float] = []
        drained = with_runs = 0
        try:
            while drained < drains:
                fleet.want(pool, WORKERS * SLOTS)
                _wait(lambda: (fleet.present(pool) or 0) > 0, "a worker")
                runs += [api.run(rng.choice(deployments)) for _ in range(rng.randint(1, 6))]
                time.sleep(rng.uniform(0.0, 2.0))
                serving = [
                    member for member in fleet.members() if not member.draining and files.read(member.name) is not None
                ]
                asked = time.monotonic()
                with_runs += sum(member.busy > 0 for member in serving)
                for member in serving:
                    files.ask_to_drain(member.name)
                runs += [api.run(rng.choice(deployments)) for _ in range(rng.randint(0, 3))]
                names = {member.name for member in serving}
                _wait(lambda names=names: not names & set(files.alive()), "the end of the drained workers")
                ends.append(time.monotonic() - asked)
                drained += len(serving)
            fleet.want(pool, WORKERS * SLOTS)
            _wait(lambda: not _open(api, runs), "the end of all runs")
        finally:
            fleet.drain_all()
            _wait(lambda: not files.alive(), "the end of all workers")
            server.stop()
        states = [_STATES[run] for run in runs]
    return {
        "figures": {
            "runs_killed_by_drain": sum(state != "COMPLETED" for state in states),
            "drains": drained,
            "drains_with_runs": with_runs,
            "runs": len(runs),
            "worker_boot_median_s": round(statistics.median(boots), 2),
            "drain_median_s": round(statistics.median(ends), 2),
        },
        "context": {
            "prefect": version("prefect"),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load": [round(load, 1) for load in os.getloadavg()],
        },
    }


_STATES: dict[str, str] = {}


def _deployment(api: Api, pool: str, folder: Path, seconds: float) -> str:
    command = f"{sys.executable} {folder / 'run.py'} {seconds}"
    return api.deployment(pool, job_variables={"command": command}, flow=f"takes-{seconds}")


def _open(api: Api, runs: list[str]) -> list[str]:
    """The runs that have not ended; remembers the others."""
    for run in runs:
        if run not in _STATES:
            state = api.read_run(run)["state_type"]
            if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                _STATES[run] = state
    return [run for run in runs if run not in _STATES]


def _wait(holds: Any, what: str) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come in time")
        time.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--drains", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found = measure(args.drains, args.seed)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in {**found["figures"], **found["context"]}.items():
        print(f"{name:<28} {value}")


if __name__ == "__main__":
    main()
