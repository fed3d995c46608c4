"""Duration of a decision on a real Prefect server: `python -m benchmarks.control --json`.

Starts a Prefect server of its own on SQLite, makes a pool with 32 work queues and 1,000 runs that wait in them, and
makes decisions with the real adapter while runs arrive, start and finish between them. Targets: 400 ms a decision, of
which 10 ms of our own computing (census, policy, guard, rule, diff, record). `decision_without_server` is the time not
spent waiting for Prefect: our computing, parsing its answers and three commits to the history file. With them come the
figures of one controller for 50 pools (`benchmarks.many_pools`): half a core and four times the memory of one pool.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.many_pools import measure_pools  # first: it scrubs the environment before Prefect is imported
from tests.real_prefect import RealServer, clone_runs

QUEUES = 32
RUNS = 1_000


def measure(decisions: int, seed_runs: int = RUNS) -> dict[str, Any]:
    """Make `decisions` decisions after a first one; returns figures and context."""
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-benchmark-") as folder:
        server = RealServer(Path(folder) / "prefect").start()
        os.environ |= {"PREFECT_API_URL": server.api_url, "PREFECT_INTELLIGENT_DATA_DIR": folder}
        try:
            return _measured(server, decisions, seed_runs)
        finally:
            server.stop()


def _measured(server: RealServer, decisions: int, runs: int) -> dict[str, Any]:
    from prefect_intelligent.domain import Terms, parse_deadline
    from prefect_intelligent.prefect_client.terms import publish_terms
    from prefect_intelligent.settings import GuardSection, Settings
    from prefect_intelligent.steering.kill_switch import set_switch
    from prefect_intelligent.wiring.steering import open_controller

    api = server.api()
    pool = api.pool(limit=16)
    settings = Settings(policy="atc+lookahead+share", rule="atc", guard=GuardSection(interval_s=0.0, hysteresis=0.0))
    controller = open_controller(settings, pool)
    set_switch(controller.history, pool, "on", time.time(), "benchmark")
    deployments, queued = [], []
    for number in range(QUEUES):
        queue = f"queue-{number:02d}"
        api.queue(pool, queue, priority=10 * (number + 1))
        flow = f"flow-{number:02d}"
        deployments.append(api.deployment(pool, queue, flow=flow))
        deadline = parse_deadline(f"{5 + 7 * number % 60}m")
        publish_terms(
            controller.api, flow, Terms(deadline=deadline, late_usd_per_hour=1.0 + number % 7, expected_s=90.0)
        )
        queued.append(api.run(deployments[-1], in_s=-1.0))
        clone_runs(server, queued[-1], runs // QUEUES - 1 + (number < runs % QUEUES), spread_s=60.0 * (number + 1))
    first = controller.reconcile()
    waiting = sum(queue.waiting for queue in first.queues)
    made, ours = [], []
    calls = controller.api.calls
    for number in range(decisions):
        # What happens between two decisions: a run comes, one starts, one ends.
        queued.append(api.run(deployments[(number * 5) % QUEUES], in_s=-60.0 * number))
        api.set_state(queued[2 * number % len(queued)], "PENDING")
        api.set_state(queued[2 * number % len(queued)], "RUNNING")
        if number > 4:
            api.set_state(queued[2 * (number - 4) % len(queued)], "COMPLETED")
        time.sleep(0.2)
        waited_s = controller.api.waited_s
        made.append(controller.reconcile())
        ours.append(made[-1].wall_ms - 1e3 * (controller.api.waited_s - waited_s))
    wall = sorted(decision.wall_ms for decision in made)
    figures = {
        "decision_wall_median_ms": statistics.median(wall),
        "decision_wall_p95_ms": wall[int(0.95 * (len(wall) - 1))],
        "decision_own_median_ms": statistics.median(decision.own_ms for decision in made),
        "decision_own_max_ms": max(decision.own_ms for decision in made),
        "decision_without_server_median_ms": statistics.median(ours),
        "decision_first_wall_ms": first.wall_ms,
        "decision_calls_mean": (controller.api.calls - calls) / len(made),
        "decisions_with_writes": sum(bool(decision.applied) for decision in made),
        "values_written": sum(len(decision.applied) for decision in made),
    }
    context = {
        "queues": len(first.queues),
        "waiting_runs": waiting,
        "decisions": len(made),
        "policy": first.policy,
        "database": "sqlite",
        "prefect": version("prefect"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    return {"figures": {name: round(value, 2) for name, value in figures.items()}, "context": context}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--decisions", type=int, default=40)
    parser.add_argument("--pools", type=int, default=50, help="work pools that one controller steers; 0 leaves it out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found = measure(args.decisions)
    if args.pools:
        with tempfile.TemporaryDirectory(prefix="prefect-intelligent-benchmark-") as folder:
            figures = measure_pools(Path(folder), args.pools)
        found["figures"] |= {name: round(value, 3) for name, value in figures.items()}
    if args.json:
        print(json.dumps(found))
        return
    for name, value in {**found["figures"], **found["context"]}.items():
        print(f"{name:<28} {value}")


if __name__ == "__main__":
    main()
