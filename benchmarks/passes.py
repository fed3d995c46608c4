"""The cost of a pass on a real server, as ratios, which do not hang on how fast the machine is."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.real_prefect import RealServer, clone_runs  # first: it scrubs the environment

from prefect_intelligent.policy import parse_policy  # isort: skip
from prefect_intelligent.prefect_client.api import PrefectApi  # isort: skip
from prefect_intelligent.prefect_client.clock import SystemClock  # isort: skip
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator  # isort: skip
from prefect_intelligent.steering.decide import ControllerConfig  # isort: skip
from prefect_intelligent.steering.reconcile import reconcile  # isort: skip
from prefect_intelligent.testing.history import InMemoryHistory  # isort: skip

PASSES: Final = 10
QUEUES: Final = 20
FAT: Final = 400_000


def run_passes(server: RealServer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Passes over few and many late runs, and over thin and fat ones; figures and context."""
    few_s, many_s = (_pass_s(server, _late(server, count)) for count in (1000, 5000))
    thin_s, fat_s = (_pass_s(server, _waiting(server, size)) for size in (10, FAT))
    figures = {
        "pass_5000_late_over_1000": round(many_s / few_s, 2),
        "pass_fat_over_thin": round(fat_s / thin_s, 2),
    }
    seconds = {"1000 late": few_s, "5000 late": many_s, "200 thin": thin_s, "200 fat": fat_s}
    return figures, {"pass_s": {name: round(value, 2) for name, value in seconds.items()}}


def _late(server: RealServer, count: int) -> str:
    """A pool with so many late runs in twenty queues."""
    api = server.api()
    pool = api.pool(limit=10)
    for number in range(QUEUES):
        api.queue(pool, f"q{number}", priority=10 + number)
        run = api.run(api.deployment(pool, f"q{number}"), in_s=-600.0)
        clone_runs(server, run, count // QUEUES - 1)
    return pool


def _waiting(server: RealServer, size: int) -> str:
    """A pool with 200 waiting runs that have parameters of so many bytes."""
    api = server.api()
    pool = api.pool(limit=10)
    run = api.run(api.deployment(pool, "default"), in_s=-600.0, parameters={"text": "x" * size})
    clone_runs(server, run, 199)
    return pool


def _pass_s(server: RealServer, pool: str) -> float:
    """Least seconds of a few passes after the first one, as a controller makes them."""
    client = PrefectApi(server.api_url, timeout_s=30.0)
    orchestrator, history, clock = PrefectOrchestrator(client, pool), InMemoryHistory(), SystemClock()
    rule = parse_policy("edf")
    config = ControllerConfig(policy=rule, rule=rule, mode="shadow")
    seconds = []
    for number in range(PASSES + 1):
        begun = time.perf_counter()
        reconcile(orchestrator, history, clock, config)
        if number:
            seconds.append(time.perf_counter() - begun)
    client.close()
    return min(seconds)
