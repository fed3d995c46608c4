"""One controller for many pools: its share of a core, its memory, and the longest time between two passes of a pool.

Part of `python -m benchmarks.control`. Processor time and memory are those of the process `control run`, at the default
interval, after the first pass of every pool; meanwhile one pool is deleted, so that its passes fail.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.real_prefect import (
    Api,
    RealServer,
    clone_runs,
)  # first: it scrubs the environment before Prefect is imported

RUNS = 200
QUEUES = 2
INTERVAL_S = 20.0  # the default of the setting
_PATIENCE_S = 300.0


def measure_pools(folder: Path, pools: int, *, seconds: float = 60.0) -> dict[str, float]:
    """Figures of a controller of one pool and of one of so many pools, on a server of their own.

    Args:
        folder: An empty folder.
        pools: How many.
        seconds: How long each is looked at, after its first passes.
    """
    server = RealServer(folder / "prefect").start()
    try:
        api = server.api()
        made: dict[str, list[str]] = {api.pool(limit=4): [] for _ in range(pools)}
        for pool, patterns in made.items():
            patterns += _patterns(api, pool)
        names = [*made]
        for pattern in (pattern for patterns in made.values() for pattern in patterns):
            clone_runs(server, pattern, RUNS // QUEUES - 1, spread_s=600.0)  # last: the server marks each of them late
        one = _observed(server, folder / "one", names[:1], seconds / 3)
        many = _observed(server, folder / "many", names, seconds, fails=names[-1])
    finally:
        server.stop()
    return {
        f"pools_{pools}_cpu_share": many["cpu_share"],
        f"pools_{pools}_memory_ratio": many["memory_mb"] / one["memory_mb"],
        f"pools_{pools}_memory_mb": many["memory_mb"],
        f"pools_{pools}_gap_intervals_max": many["gap_max_s"] / INTERVAL_S,
        f"pools_{pools}_decisions": many["decisions"],
        "pools_1_cpu_share": one["cpu_share"],
        "pools_1_memory_mb": one["memory_mb"],
    }


def _patterns(api: Api, pool: str) -> list[str]:
    """Queues for a pool with a run that waits in each; gives the runs."""
    runs = []
    for number in range(QUEUES):
        api.queue(pool, f"queue-{number}", priority=10 * (number + 1))
        runs.append(api.run(api.deployment(pool, f"queue-{number}"), in_s=-1.0))
    return runs


def _observed(
    server: RealServer, folder: Path, pools: Sequence[str], seconds: float, *, fails: str | None = None
) -> dict[str, float]:
    """Run a controller of these pools and look at it for so many seconds."""
    folder.mkdir()
    words = [word for pool in pools for word in ("--pool", pool)]
    with _controller(server, folder, words) as (process, log):
        end = time.monotonic() + _PATIENCE_S
        while len(_passes(log)) < len(pools):
            if time.monotonic() > end:
                raise AssertionError(f"only {len(_passes(log))} of {len(pools)} pools were decided: {log.read_text()}")
            time.sleep(0.5)
        if fails is not None:
            server.api().call("DELETE", f"/work_pools/{fails}")
        watched = psutil.Process(process.pid)
        before, begun, since_s = sum(watched.cpu_times()[:2]), time.monotonic(), time.time()
        time.sleep(seconds)
        spent_s, passed_s = sum(watched.cpu_times()[:2]) - before, time.monotonic() - begun
        memory_mb = watched.memory_info().rss / 2**20
    gaps: list[float] = []
    decisions = 0
    for pool, instants in _passes(log).items():
        if pool == fails:
            continue
        seen = [at_s for at_s in instants if at_s >= since_s]
        last = [at_s for at_s in instants if at_s < since_s][-1:]
        decisions += len(seen)
        marks = [*last, *seen, since_s + passed_s]
        gaps += [after - before for before, after in itertools.pairwise(marks)]
    return {
        "cpu_share": spent_s / passed_s,
        "memory_mb": memory_mb,
        "gap_max_s": max(gaps),
        "decisions": float(decisions),
    }


@contextlib.contextmanager
def _controller(
    server: RealServer, folder: Path, words: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    command = [sys.executable, "-m", "prefect_intelligent", "control", "run", "--json", *words]
    log = folder / "log"
    with log.open("wb") as sink:
        env = server.env(PREFECT_INTELLIGENT_DATA_DIR=str(folder))
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(60)


def _passes(log: Path) -> dict[str, list[float]]:
    """The instants of the decisions that were printed, by pool."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in log.read_text().rpartition("\n")[0].splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            told: dict[str, Any] = json.loads(line)
            if told.get("decision") is not None:
                found[told["pool"]].append(told["decision"]["at_s"])
    return found
