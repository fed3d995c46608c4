"""Days on a real Prefect server in fast time: `python -m benchmarks.live --json`.

Every day (the same runs, instants and durations) is played by three arms, in an order drawn for each day: Prefect's
default without a controller, the product's default rule, and an agent. The controllers run as the product assembles
them, with its default settings; a worker holds runs for their time instead of starting processes. The cost of a day is
computed from the server's own record of its runs; the same days are played in the twin, and their cost computed by the
same function. How much fast time changes is measured on a short day that is also played at factor 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect_intelligent.errors import InvalidInputError, OrchestratorError, PrefectIntelligentError
from tests import real_prefect  # first: it scrubs the environment before anything imports Prefect

if TYPE_CHECKING:
    from benchmarks.live.arms import Arm
    from benchmarks.live.day import Day
    from benchmarks.live.figures import PairedDay
    from benchmarks.live.real_day import LiveDay
    from tests.real_prefect import RealServer

SHORT_DAY: Final = Path(__file__).parent / "short-day.toml"
CROWDED: Final = Path(__file__).parent / "crowded-morning.toml"
"""The day that is played unless a scenario is named: so short that twelve days under three arms take an hour."""
DAYS, FACTOR = 12, 50.0


class Benchmark:
    """Plays days on one server.

    Args:
        server: The server.
        arms: Who steers.
        folder: For logs and histories.
        seed: Of the first day, and of the order of the arms.
    """

    def __init__(self, server: RealServer, arms: Sequence[Arm], folder: Path, seed: int) -> None:
        self._server, self._arms, self._folder, self._seed = server, arms, folder, seed
        self.repeated = 0
        """Days that had to be played once more under an arm, because something had failed."""

    def play(self, day: Day, factor: float) -> dict[str, LiveDay]:
        """Play a day under every arm."""
        import numpy as np

        live = {}
        for number in np.random.default_rng((self._seed, day.seed)).permutation(len(self._arms)):
            arm = self._arms[number]
            tell(f"day {day.seed} of {day.scenario.name}, {len(day.runs)} runs, factor {factor:g}: {arm.name} ...")
            live[arm.name] = found = self._play_again_if_need_be(day, arm, factor)
            tell(f"  {found.cost.total_usd:.3f} USD after {found.clock_s:.0f} s, {found.decisions} decisions")
        return {arm.name: live[arm.name] for arm in self._arms}

    def _play_again_if_need_be(self, day: Day, arm: Arm, factor: float) -> LiveDay:
        """Play a day, and if it cannot be played once more: a benchmark of an hour should survive one refused call."""
        from benchmarks.live.live_pool import LiveDayError
        from benchmarks.live.real_day import play_day

        try:
            return play_day(self._server, day, arm, factor, self._folder)
        except (LiveDayError, OrchestratorError, AssertionError) as error:  # the last is what a refused call raises
            tell(f"  {error}\n  once more ...")
            self.repeated += 1
            return play_day(self._server, day, arm, factor, self._folder)


def pair(day: Day, arms: Sequence[Arm], live: dict[str, LiveDay]) -> PairedDay:
    """A day that has been played, beside the same day in the twin."""
    from benchmarks.live.figures import PairedDay
    from benchmarks.live.twin_day import twin_costs

    return PairedDay(seed=day.seed, live=live, twin={arm.name: twin_costs(day, arm) for arm in arms})


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Play all days; returns figures and context."""
    from benchmarks.live.arms import RULE, choose_arms, describe_regime
    from benchmarks.live.day import draw_day, shape_day
    from benchmarks.live.figures import describe_days, figures_of, kept_up, speed_error
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.steering import open_policy
    from simulations.scenario import load_scenario

    arms = choose_arms(args.agent, args.bound)
    scenario = shape_day(load_scenario(args.scenario), begin_h=args.begin, hours=args.hours, load=args.load)
    days = [draw_day(scenario, args.seed + number, args.factor) for number in range(args.days)]
    short = [draw_day(shape_day(load_scenario(SHORT_DAY)), args.seed + n, args.factor) for n in range(args.short_days)]
    for arm in arms:
        if arm.policy is not None:
            open_policy(Settings(), arm.policy)  # what cannot be used is said now
    began_s = time.time()
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-live-") as text:
        folder = Path(text) if args.logs is None else args.logs.absolute()
        tell("starting a Prefect server")
        with real_prefect.open_server(folder / "server") as server:
            rule = [arm for arm in arms if arm.name == RULE]
            long, speed = (Benchmark(server, each, folder, args.seed) for each in (arms, rule))
            played = [long.play(day, args.factor) for day in days]
            at_factor, at_1 = ([speed.play(day, factor) for day in short] for factor in (args.factor, 1.0))
            database = "PostgreSQL" if server.database_url else "SQLite"
            load_average = os.getloadavg()[0]
    tell("the same days in the twin ...")
    pairs = [pair(day, arms, live) for day, live in zip(days, played, strict=True)]
    quick, slow = ([pair(day, rule, live) for day, live in zip(short, each, strict=True)] for each in (at_factor, at_1))
    interval_s = Settings().interval_s
    figures = figures_of(pairs) | {"live_speed_factor": args.factor}
    figures["live_kept_up"] = kept_up(pairs, poll_s=scenario.pools[0].poll_s, interval_s=interval_s)
    if figures["live_kept_up"] < 1.0:
        tell("worker or controller came too seldom on some days: the machine is too slow or too busy for the factor")
    if short:
        figures["live_speed_error"] = speed_error([day.live[RULE] for day in slow], [day.live[RULE] for day in quick])
    context = {
        "scenario": scenario.name,
        "part": {"begin_h": args.begin, "hours": scenario.hours, "load": args.load},
        "seed": args.seed,
        "runs_per_day": round(sum(len(day.runs) for day in days) / len(days), 1),
        "arms": {arm.name: arm.policy for arm in arms},
        "regime": describe_regime(arms),
        "database": database,
        "versions": {name: version(name) for name in ("prefect", "prefect-intelligent")},
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average_1m": round(load_average, 2),
        "clock_min": round((time.time() - began_s) / 60.0, 1),
        "repeated": long.repeated + speed.repeated,
        "days": describe_days(pairs),
        "short_days": {"factor 1": describe_days(slow), f"factor {args.factor:g}": describe_days(quick)},
    }
    return {"figures": {name: round(value, 4) for name, value in figures.items()}, "context": context}


def tell(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit code 0, 1 if a day could not be played, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live", description="Days on a real Prefect server in fast time."
    )
    parser.add_argument("--days", type=_count, default=DAYS, help=f"paired days (default: {DAYS})")
    parser.add_argument(
        "--factor", type=_positive, default=FACTOR, help=f"seconds of a day in a second (default: {FACTOR:g})"
    )
    parser.add_argument("--scenario", default=CROWDED, help="a name or a TOML file (default: a crowded morning)")
    parser.add_argument("--begin", type=float, default=0.0, metavar="H", help="hours of it to leave out (default: 0)")
    parser.add_argument("--hours", type=float, metavar="H", help="hours of it to take (default: all)")
    parser.add_argument("--load", type=_positive, default=1.0, help="all durations times this (default: 1)")
    parser.add_argument("--agent", default="shipped", help="policy of the third arm, as in settings (default: shipped)")
    parser.add_argument("--bound", type=_positive, default=1.0, help="largest pool limit over the given (default: 1)")
    parser.add_argument("--short-days", type=int, default=1, help="days that are also played at factor 1 (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the first day; the next one has the next")
    parser.add_argument("--logs", type=Path, help="folder for logs and histories, kept (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    try:
        found = measure(args)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInputError) else 1
    if args.json:
        print(json.dumps(found))
        return 0
    for name, value in found["figures"].items():
        print(f"{name:<32} {value}")
    return 0


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number, 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
