"""Controllers that are killed: run as `python -m tests.fault.killed_controllers API_URL POOL FOLDER KILLS`.

Prefect is imported once; each controller is a fork, so that twenty of them take seconds. After KILLS of them it goes on
until one was killed in the middle of writing and a few passes were made, ten times KILLS at the most. Prints one JSON
object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.controller_state import INTENT
from prefect_intelligent.steering.decision_record import KIND as DECISION
from tests.fault.crews import Restless, crew, usable  # tests.real_prefect scrubs the environment first
from tests.real_prefect import Api


class _Server:
    """As much of a server as `crew` wants."""

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url


def _controller(server: _Server, pool: str, folder: Path, seed: int) -> None:
    """Decide without a pause until killed. The lease is left out: its holder is dead, ours would have lapsed."""
    controller = crew(server, pool, folder, Restless(seed), by=f"victim {seed}")  # type: ignore[arg-type]
    while True:
        controller.reconcile()


def main() -> None:
    api_url, pool, folder, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    server, api, rng = _Server(api_url), Api(api_url), random.Random(20)
    # The first pass imports everything before the first fork and tells how long one takes on this machine.
    first = crew(server, pool, folder, Restless())  # type: ignore[arg-type]
    begun = time.monotonic()
    first.reconcile()
    pass_s = min(1.0, time.monotonic() - begun)
    history = first.history
    lived, unusable, torn = [], 0, 0
    for seed in range(10 * kills):
        if seed >= kills and torn and _passes(history, DECISION, pool) > 3:
            break
        child = os.fork()
        if child == 0:
            _controller(server, pool, folder, seed)
        moment = rng.uniform(0.1, 3.0) * pass_s
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lived.append(round(moment, 3))
        unusable += not usable(api, pool)
        torn += _passes(history, INTENT, pool) > _passes(history, DECISION, pool)
    print(json.dumps({"lived_s": lived, "unusable": unusable, "in_the_middle_of_writing": torn}))


def _passes(history: HistoryStore, kind: str, pool: str) -> int:
    record = history.latest(kind, pool)
    return 0 if record is None else int(record["memory"]["passes"])


if __name__ == "__main__":
    main()
