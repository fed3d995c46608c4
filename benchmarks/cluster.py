"""Learning on a Dask cluster: `python -m benchmarks.cluster --json`.

A scheduler and two workers of one thread each, with folders and variables of their own, do the parts of a fit as
Prefect task runs; one worker is killed while it labels. `same_weights` is 1 if the agent has the weights and figures of
one that was fitted in one process; `lost_tasks` are task runs that did not complete; `speedup_two_workers` is the time
that labelling takes with one worker over that with two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.dask_cluster import DaskCluster, open_cluster  # first: it scrubs the environment before Prefect is imported
from tests.real_prefect import Api, RealServer

_PATIENCE_S = 120.0


def fit_on_cluster(pool: str, config: Any, folder: Path, cluster: DaskCluster, victim: str) -> bool:
    """Fit an agent in one process and on a cluster of which a worker is killed; whether the agents are the same."""
    import numpy as np

    from prefect_intelligent.policy.bundle import read_bundle
    from rl.fit import fit_pool
    from rl.parallel.dask import on_dask
    from rl.pool_days import pool_days

    days = pool_days(pool)
    name, agent, _ = fit_pool(days, config, folder / "here", lambda text: None)
    labelling = threading.Event()
    killer = threading.Thread(target=lambda: labelling.wait() and cluster.kill_when_busy(victim), daemon=True)
    killer.start()

    def say(text: str) -> None:
        if "corrections" in text:
            labelling.set()

    found = on_dask(lambda spread: fit_pool(days, config, folder / "there", say, spread)[0], "fit", cluster.address)
    killer.join(_PATIENCE_S)
    assert not killer.is_alive(), "the worker was not killed"
    there = read_bundle(folder / "there" / "agent")
    return found == name and all(
        np.array_equal(one.weights[key], two.weights[key])
        for one, two in (
            (agent, there),
            (read_bundle(folder / "here" / "corrected"), read_bundle(folder / "there" / "corrected")),
        )
        for key in one.weights
    )


def unfinished(api: Api) -> int:
    """Task runs of the server that have not completed, once no more of them do: states come as events."""
    found, until = -1, time.monotonic() + _PATIENCE_S
    while found and time.monotonic() < until:
        runs = api.call("POST", "/task_runs/filter", {"limit": 200})
        found = sum(run["state_type"] != "COMPLETED" for run in runs) if runs else -1
        time.sleep(0.5)
    return found


def labelling_s(pool: str, parts: int, days_each: int, address: str) -> float:
    """Seconds that a cluster takes to label so many parts of so many days, after it has done a small one."""
    from prefect_intelligent.policy.general_rule import GENERAL
    from rl.fit import label_days
    from rl.parallel.dask import on_dask
    from rl.parallel.spread import Spread
    from rl.pool_days import pool_days

    days = pool_days(pool)

    def work(spread: Spread) -> float:
        spread(label_days, [(days, range(place, place + 2), GENERAL, 0) for place in range(4)], "warm")
        began = time.perf_counter()
        firsts = range(0, parts * days_each, days_each)
        spread(label_days, [(days, range(first, first + days_each), GENERAL, 0) for first in firsts], "label")
        return time.perf_counter() - began

    return on_dask(work, "label", address)


def measure(pool: str, parts: int, days_each: int) -> dict[str, Any]:
    """Figures and context."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from rl.fit import FitConfig

    config = FitConfig(
        tuned_worlds=1400, labelled_days=160, ppo_steps=40_000, choice_days=4, planned_days=4, judged_days=2
    )
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-cluster-") as name:
        folder = Path(name)
        server = RealServer(folder / "prefect").start()
        try:
            with temporary_settings({PREFECT_API_URL: server.api_url}):
                with open_cluster(folder / "killed", "one", "two") as cluster:
                    same = fit_on_cluster(pool, config, folder / "fits", cluster, "two")
                lost = unfinished(server.api())
                with open_cluster(folder / "timed", "one") as cluster:
                    alone_s = labelling_s(pool, parts, days_each, cluster.address)
                    cluster.add_worker("two")
                    together_s = labelling_s(pool, parts, days_each, cluster.address)
        finally:
            server.stop()
    return {
        "figures": {
            "same_weights": int(same),
            "lost_tasks": lost,
            "speedup_two_workers": round(alone_s / together_s, 2),
            "labelling_one_worker_s": round(alone_s, 1),
            "labelling_two_workers_s": round(together_s, 1),
        },
        "context": {
            "pool": pool,
            "parts": parts,
            "days_each": days_each,
            "prefect": version("prefect"),
            "distributed": version("distributed"),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load": [round(load, 1) for load in os.getloadavg()],
        },
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pool", default="toy")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--days-each", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found = measure(args.pool, args.parts, args.days_each)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in {**found["figures"], **found["context"]}.items():
            print(f"{name:<28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
