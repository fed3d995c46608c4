"""The product's controller on one pool in fast time; a process of its own, as `prefect-intelligent control run` is.

Only the API, the clock and the wait for events are those of fast time. What is assembled (`wiring.steering`), the loop
and all settings are the product's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.live.fast_time import FastApi, FastClock, FastTime, FastWakeUps
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.controller import LoopEvent, run_loop
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.wiring.steering import open_controller

READY: Final = "ready"
"""What is printed when only the file that says when the day begins is waited for."""
_TERMS_TTL_S: Final = 60.0
_LOOK_S: Final = 0.05


class _Stop:
    """Set by SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def asked(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def steer(settings: Settings, pool: str, begin: Path) -> None:
    """Steer the pool from the begin of the day until a signal comes.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        begin: The file that will hold the day's `FastTime` as JSON.
    """
    stop = _Stop()
    if settings.look_ahead_ms > 0:
        from prefect_intelligent.twin.warm import warm

        warm()  # a controller that has run for a minute has done so
    print(READY, flush=True)
    while not begin.exists() and not stop.asked():
        time.sleep(_LOOK_S)
    if stop.asked():
        return
    fast = FastTime(**json.loads(begin.read_text(encoding="utf-8")))
    clock = FastClock(fast)
    controller = open_controller(settings, pool, api=FastApi(fast), clock=clock, terms_ttl_s=_TERMS_TTL_S / fast.factor)
    set_if_unset(controller.history, pool, "on", clock.now_s(), controller.config.by)  # as `control run` does
    with contextlib.closing(FastWakeUps(controller.signals(), fast.factor)) as wake_ups:
        while (left_s := fast.begin_s - time.time()) > 0 and not stop.asked():
            time.sleep(min(left_s, _LOOK_S))
        run_loop(
            controller.reconcile,
            Leadership(controller.lease),
            wake_ups,
            clock,
            interval_s=settings.interval_s,
            stopped=stop.asked,
            tell=_tell,
        )


def _tell(event: LoopEvent) -> None:
    """Leave what went wrong in the log."""
    if event.problem is not None and not event.repeated:
        print(event.problem, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live.steer", description=__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--settings", required=True, help="all settings as JSON")
    parser.add_argument("--begin", type=Path, required=True, help="file that will say when the day begins")
    args = parser.parse_args(argv)
    steer(Settings.model_validate_json(args.settings), args.pool, args.begin)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
