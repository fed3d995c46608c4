"""Validate the twin against queueing theory, against other people's simulators and against a real Prefect.

python -m simulations.validate [--json] [--pictures docs/images]
python -m simulations.validate --foreign [--json]
python -m simulations.validate --against-prefect [--day NAME] [--json] [--pictures docs/images]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from simulations.against_prefect.days import DAYS, LEAST_RUNS, PROCESS_DAY, plan_day
from simulations.theory import Check, checks


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if an interval does not contain the exact value, or others disagree."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.validate",
        description="Validate the twin against queueing theory, other simulators and a real Prefect.",
    )
    against = parser.add_mutually_exclusive_group()
    against.add_argument(
        "--against-prefect", action="store_true", help="real servers and workers, and the twin; not theory"
    )
    against.add_argument(
        "--foreign", action="store_true", help="JobShopLib, Ciw and a model of nodes in SimPy, and the twin; not theory"
    )
    parser.add_argument("--customers", type=int, default=400_000, help="of each case of theory (default: 400000)")
    parser.add_argument("--runs", type=int, default=48, help="flow runs of each real day, 12 or more (default: 48)")
    parser.add_argument("--day", action="append", choices=tuple(DAYS), help="a real day (default: all of them)")
    parser.add_argument("--worlds", type=int, default=200, help="twin days to average over (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (default: 1)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="also draw the pictures of docs/explanation")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    try:
        if args.customers < 10_000:
            raise InvalidInputError("--customers", args.customers, "needs 10000 or more for batch means")
        if args.runs < LEAST_RUNS or args.worlds < 1:
            needed = f"needs at least {LEAST_RUNS} runs and 1 world"
            raise InvalidInputError("--runs, --worlds", (args.runs, args.worlds), needed)
        if args.seed < 0:
            raise InvalidInputError("--seed", args.seed, "must be 0 or more")
        if args.pictures is not None and not args.pictures.is_dir():
            raise InvalidInputError("--pictures", str(args.pictures), "is not a folder")
        if args.against_prefect:
            return _against_prefect(args)
        if args.foreign:
            return _foreign(args)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _theory(args)


def _theory(args: argparse.Namespace) -> int:
    found = checks(args.customers, args.seed)
    if args.pictures is not None:
        from simulations.study import draw_theory

        draw_theory(args.pictures / "twin-theory.png", found, args.customers, args.seed)
    held = all(each.holds for each in found)
    if args.json:
        figures = {"checks": len(found), "checks_held": sum(each.holds for each in found)}
        context = {"customers": args.customers, "seed": args.seed}
        rows = [asdict(each) | {"holds": each.holds} for each in found]
        print(json.dumps({"figures": figures, "context": context, "checks": rows}, indent=2))
    else:
        for each in found:
            print(_line(each))
    return 0 if held else 1


def _line(each: Check) -> str:
    mark = "" if each.holds else "  outside"
    return f"{each.case:52} {each.figure:20} {each.theory:9.4f} {each.twin:9.4f} +- {each.half_width:.4f}{mark}"


def _foreign(args: argparse.Namespace) -> int:
    from simulations.foreign.report import compare, disagreements

    figures = compare(args.seed)
    if args.json:
        print(json.dumps({"figures": figures, "context": {"seed": args.seed}}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<32} {value:14.6g}")
    for each in (wrong := disagreements(figures)):
        print(f"error: {each}", file=sys.stderr)
    return 1 if wrong else 0


def _against_prefect(args: argparse.Namespace) -> int:
    from simulations.against_prefect.comparison import compare, worst
    from simulations.against_prefect.recording import record_day, start_process_worker

    days = {}
    for name in args.day or DAYS:
        print(f"playing day {name!r} on a Prefect server", file=sys.stderr, flush=True)
        plan = plan_day(name, args.runs, args.seed)
        day = record_day(plan, start_process_worker if name == PROCESS_DAY else None)
        days[name] = compare(day, args.worlds, args.seed)
        if name == PROCESS_DAY and args.pictures is not None:
            from simulations.study import draw_prefect

            draw_prefect(args.pictures / "twin-prefect.png", day, args.worlds, args.seed)
    figures = worst(days)
    if args.json:
        load = round(os.getloadavg()[0], 2)
        context = {"runs": args.runs, "worlds": args.worlds, "seed": args.seed, "load_average_1m": load}
        print(json.dumps({"figures": figures, "context": context}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:<32} {value:10.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
