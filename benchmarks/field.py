"""What operators would notice on a real server: `python -m benchmarks.field --json`.

Histories: owners of deployments and of a pool (deploy, redeploy, edit, pause, delete, make again, write a version; set
the pool's and a queue's numbers) and we (hold, share, resize, avoid, pass, release; adopt, steer, restore, switch off
and on) write in random order, drawn from a seed. `owner_values_lost` counts settings that at the end of a history are
not what the owner has set last; `held_runs_started` counts runs that started after a pass although their deployment was
held.

Situations: `why_right_share` is the share of planted situations of which `why` names exactly the right reasons and the
right advice, and whose run starts once that is done.

Passes: `pass_5000_late_over_1000` is the time of a pass with 5,000 late runs over one with 1,000;
`pass_fat_over_thin` that with 200 waiting runs of 400 kB of parameters over 200 thin ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.real_prefect import RealServer  # first: it scrubs the environment

from prefect_intelligent.prefect_client.api import PrefectApi  # isort: skip
from tests.field.histories import HOLDS, LIMITS, MEMORY, OPTIONS, POOL_LIMITS, History, new_pool  # isort: skip
from benchmarks.passes import run_passes  # isort: skip
from tests.field.situations import SITUATIONS  # isort: skip
from tests.field.verdicts import faults  # isort: skip

STEPS = 10


def live(history: History, rng: np.random.Generator) -> None:
    """Write as owner and as ourselves, in random order."""
    for _ in range(int(rng.integers(3, STEPS + 1))):
        take_step(history, rng)


def take_step(history: History, rng: np.random.Generator) -> None:
    """Make one write, or a pass."""

    def one(of: tuple[Any, ...]) -> Any:
        return of[int(rng.integers(len(of)))]

    which = int(rng.integers(2))
    step = one(
        (
            lambda: history.deploy(which, one(LIMITS), one(OPTIONS), one(MEMORY)),
            lambda: history.deploy(which, one(LIMITS), one(OPTIONS), one(MEMORY)),
            lambda: history.edit_limit(which, one(LIMITS)),
            lambda: history.edit_strategy(which, one(OPTIONS[1:])),
            lambda: history.pause(which, paused=bool(rng.integers(2))),
            lambda: history.delete(which),
            lambda: history.roll_back(which),
            lambda: history.hold(which, one(HOLDS)),
            lambda: history.hold(which, one(HOLDS)),
            lambda: history.share(int(rng.integers(1, 4))),
            lambda: history.resize(which, one((2.0, 3.0))),
            lambda: history.avoid(which),
            lambda: history.release(one((*HOLDS, "share", f"memory {which}", f"host {which}"))),
            history.look,
            history.look,
            lambda: history.set_pool_limit(one(POOL_LIMITS)),
            lambda: history.set_priority(int(rng.integers(1, 40))),
            history.adopt,
            lambda: history.steer(one(("edf", "fifo+fixed:2", "wspt+fixed:3"))),
            lambda: history.steer(one(("edf", "fifo+fixed:2", "wspt+fixed:3"))),
            history.restore,
            lambda: history.switch(on=bool(rng.integers(2))),
        )
    )
    step()


def run_histories(server: RealServer, count: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Live so many histories; figures and context."""
    api, client = server.api(), PrefectApi(server.api_url, timeout_s=60.0)
    rng = np.random.default_rng(seed)
    lost, started, examples = 0, 0, []
    for number in range(count):
        history = History(api, client, new_pool(api))
        live(history, rng)
        wrong = history.lost()
        lost += len(wrong)
        started += history.held_runs_started
        if wrong or history.held_runs_started:
            examples.append({"history": number, "steps": history.steps, "wrong": wrong})
        for which in (0, 1):
            history.delete(which)
    client.close()
    figures = {"owner_values_lost": lost, "held_runs_started": started, "histories": count}
    return figures, {"seed": seed, "examples": examples[:3]}


def run_situations(server: RealServer, most: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plant every situation, or so many of them, and ask why; figures and context."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    planted = SITUATIONS[:most]
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        wrong = {situation.name: said for situation in planted if (said := faults(situation, server))}
    share = 1.0 - len(wrong) / len(planted) if planted else None
    return {"why_right_share": share, "situations": len(planted)}, {"why_wrong": dict(list(wrong.items())[:3])}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--situations", type=int, help="so many of them; without it all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-passes", action="store_true", help="leave out the cost of passes")
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = RealServer(Path(folder) / "prefect").start()
        try:
            figures, context = run_histories(server, args.histories, args.seed)
            parts = [run_situations(server, args.situations)]
            parts += [] if args.no_passes else [run_passes(server)]
            for more, about in parts:
                figures |= more
                context |= about
        finally:
            server.stop()
    context |= {"seconds": round(time.monotonic() - begun, 1), "python": platform.python_version()}
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in (figures | context).items():
            print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
