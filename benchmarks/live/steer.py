"""The product's controller on one pool in fast time; a process of its own, as `prefect-intelligent control run` is.

Only the API, the clock and the wait for events are those of fast time. What is assembled (`wiring.steering`), the loop
and all settings are the product's.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final

from benchmarks.live.fast_time import FastApi, FastClock, FastTime, FastWakeUps
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.controller import LoopEvent, run_loop
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.wiring.steering import open_controller

READY: Final = "ready"
"""What is printed when only the begin of the day is waited for."""
_TERMS_TTL_S: Final = 60.0


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


def steer(settings: Settings, pool: str, fast: FastTime) -> None:
    """Steer the pool from the begin of the day until a signal comes."""
    stop, clock = _Stop(), FastClock(fast)
    controller = open_controller(settings, pool, api=FastApi(fast), clock=clock, terms_ttl_s=_TERMS_TTL_S / fast.factor)
    if controller.config.look_ahead is not None:
        from prefect_intelligent.twin.warm import warm

        warm()  # a controller that has run for a minute has done so
    with contextlib.closing(FastWakeUps(controller.signals(), fast.factor)) as wake_ups:
        print(READY, flush=True)
        while (left_s := fast.day_begin_s - clock.now_s()) > 0 and not stop.asked():
            clock.sleep(min(left_s, 0.1 * fast.factor))
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
    parser.add_argument("--begin", type=float, required=True, help="begin of the day by the clock, Unix seconds")
    parser.add_argument("--day-begin", type=float, required=True, help="the same instant in the day")
    parser.add_argument("--factor", type=float, required=True, help="seconds of the day in a second of the clock")
    args = parser.parse_args(argv)
    settings = Settings.model_validate_json(args.settings)
    steer(settings, args.pool, FastTime(begin_s=args.begin, day_begin_s=args.day_begin, factor=args.factor))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
