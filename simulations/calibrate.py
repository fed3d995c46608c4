"""Fit a scenario to the history of a work pool.

python -m simulations.calibrate --from-prefect --days 30 -o my-pool.toml
python -m simulations.calibrate --history sqlite:///history.db --pool etl -o my-pool.toml
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.history.sync import sync
from prefect_intelligent.local.progress import Progress
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.settings import Settings, load_settings
from prefect_intelligent.wiring.history import has_history, open_runs, open_source, scratch_runs
from prefect_intelligent.wiring.replay import pool_model
from simulations.arrivals import DAY_S
from simulations.calibration.fit import Calibrated, calibrate
from simulations.calibration.goodness import Goodness, Pair, measure, pool_waits, unfit
from simulations.calibration.observed import Observed, observe_history
from simulations.scenario import load_scenario
from simulations.scenario_file import write_scenario


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 1 if the scenario does not show the pool."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.calibrate", description="Fit a scenario to the history of a work pool."
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--from-prefect", action="store_true", help="read it from the Prefect server of the profile in force"
    )
    where.add_argument(
        "--history",
        nargs="?",
        const="",
        metavar="URL",
        help="read what `prefect-intelligent sync` has kept; without URL from the history of the settings",
    )
    parser.add_argument("--pool", metavar="NAME", help="work pool; without it the setting `pool`, or the only one")
    parser.add_argument("--days", type=float, default=30.0, help="how far back (default: 30)")
    parser.add_argument("--hours", type=float, default=24.0, help="length of the scenario written (default: 24)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="TOML file to write")
    parser.add_argument("--worlds", type=int, default=4, help="twin worlds for the goodness of fit (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of those worlds (default: 0)")
    parser.add_argument("--config", metavar="FILE", help="settings file to read instead of looking for one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    try:
        _check(args)
        settings = load_settings(config=args.config).settings
        with Progress("reading the history") as progress:
            observed = _observe(args, args.pool or settings.pool, settings)
            progress(f"fitting {len(observed.runs)} runs")
            fitted = calibrate(observed, pool_model(settings, observed.pool, observed.queues), hours=args.hours)
            progress(f"playing {args.worlds} worlds of it in the twin")
            found = measure(observed, fitted, worlds=args.worlds, seed=args.seed)
        fitted = replace(fitted, scenario=replace(fitted.scenario, unfit=unfit(found)))
        _write(args.out, observed, fitted)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(_as_json(args.out, observed, fitted, found), indent=2, allow_nan=False))
    else:
        _show(args.out, observed, fitted, found)
    return 1 if fitted.scenario.unfit else 0


def _check(args: argparse.Namespace) -> None:
    for name in ("days", "hours"):
        if not 0 < getattr(args, name) <= 3660:
            raise InvalidInputError(f"--{name}", getattr(args, name), "must be above 0 and at most 3660")
    if args.worlds < 1:
        raise InvalidInputError("--worlds", args.worlds, "must be 1 or more")
    if args.out.suffix != ".toml":
        raise InvalidInputError("--out", str(args.out), "must end in .toml, by which it is loaded as a scenario")
    if not args.out.absolute().parent.is_dir():
        raise InvalidInputError("--out", str(args.out), "its folder does not exist")


def _observe(args: argparse.Namespace, pool: str | None, settings: Settings) -> Observed:
    now_s = time.time()
    since_s = now_s - args.days * DAY_S
    if not args.from_prefect:
        named = settings.model_copy(update={"history_url": args.history}) if args.history else settings
        if not has_history(named):
            raise InvalidInputError("history", named.history, "there is none; run `prefect-intelligent sync`")
        return observe_history(open_runs(named), pool, since_s=since_s, until_s=now_s)
    source = open_source()
    source.queues()  # fails early if the server does not answer
    with scratch_runs() as store:
        store.put(cursor=("runs", since_s))  # older runs are not copied
        sync(source, store, SystemClock())
        return observe_history(store, pool, since_s=since_s, until_s=time.time())


def _write(path: Path, observed: Observed, fitted: Calibrated) -> None:
    first, last = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}Z" for at in (observed.start_s, observed.end_s))
    comments = [
        f"Made by `python -m simulations.calibrate` from {len(observed.runs)} runs of work pool "
        f"{observed.pool.name}, {first} to {last}.",
        *fitted.notes,
        *(f"{fit.name}: {note}" for fit in fitted.fits for note in fit.notes),
    ]
    try:
        write_scenario(path, fitted.scenario, comments)
    except OSError as error:
        raise InvalidInputError("--out", str(path), f"cannot be written: {error.strerror}") from error
    load_scenario(path)  # checks that the file can be read


def _as_json(path: Path, observed: Observed, fitted: Calibrated, found: Sequence[Goodness]) -> dict[str, Any]:
    def pair(each: Pair) -> dict[str, float | None]:
        return {"observed": each.observed, "fitted": each.fitted, "error": each.error}

    return {
        "figures": {"ks_max": max(each.fit.ks for each in found), **pool_waits(found)},
        "context": {
            "pool": observed.pool.name,
            "runs": len(observed.runs),
            "days": observed.span_s / DAY_S,
            "file": str(path),
        },
        "polls": {
            "poll_s": fitted.polls.poll_s,
            "prefetch_s": fitted.polls.prefetch_s,
            "startup_s": fitted.polls.startup_s,
            "startup_spread": fitted.polls.startup_spread,
        },
        "deployments": [
            {
                "name": each.fit.name,
                "runs": each.fit.runs,
                "arrivals": each.fit.arrivals,
                "durations": each.fit.shape,
                "ks": each.fit.ks,
                "fails": each.fit.failures.fails,
                "crashes": each.fit.failures.crashes,
                "after": list(each.fit.upstreams),
                "duration_p50_s": pair(each.duration_p50_s),
                "duration_p95_s": pair(each.duration_p95_s),
                "runs_per_day": pair(each.runs_per_day),
                "wait_p50_s": pair(each.wait_p50_s),
                "wait_p95_s": pair(each.wait_p95_s),
                "notes": list(each.fit.notes),
            }
            for each in found
        ],
        "notes": list(fitted.notes),
        "unfit": list(fitted.scenario.unfit),
    }


def _show(path: Path, observed: Observed, fitted: Calibrated, found: Sequence[Goodness]) -> None:
    """Print the table of observed and fitted figures, and the notes."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    title = f"{len(observed.runs)} runs of work pool {observed.pool.name} in {observed.span_s / DAY_S:.1f} days"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("deployment", overflow="fold")
    table.add_column("runs", justify="right")
    for heading in ("arrivals", "durations"):
        table.add_column(heading, overflow="fold")
    for heading in ("KS", "p50 s", "p95 s", "runs/day", "fails", "wait p50 s", "wait p95 s"):
        table.add_column(heading, justify="right")
    for each in found:
        fit = each.fit
        table.add_row(
            fit.name,
            str(fit.runs),
            fit.arrivals,
            fit.shape,
            f"{fit.ks:.3f}",
            *(_pair(one) for one in (each.duration_p50_s, each.duration_p95_s, each.runs_per_day)),
            f"{fit.failures.fails + fit.failures.crashes:.3f}",
            *(_pair(one) for one in (each.wait_p50_s, each.wait_p95_s)),
        )
    console.print(table)
    console.print("Pairs are observed > fitted; waits are those of the fitted scenario in the twin, unsteered.")
    polls, pool = fitted.polls, fitted.scenario.pools[0]
    console.print(
        f"Polls every {pool.poll_s:g} s ({polls.claims} claims seen), prefetch {pool.prefetch_s:g} s, "
        f"start-up {pool.startup_s:g} s ({polls.starts} seen)."
    )
    for note in fitted.notes:
        console.print(f"Thin or doubtful: {note}.")
    for fit in fitted.fits:
        for note in fit.notes:
            console.print(f"Thin or doubtful: {fit.name}: {note}.")
    for phrase in fitted.scenario.unfit:
        console.print(f"Not fitted: {phrase}.", soft_wrap=True)
    if fitted.scenario.unfit:
        said = "The file is marked: rl.train and rl.fit refuse it unless --although-unfit is given."
        console.print(said, soft_wrap=True)
    console.print(f"Written: {path}. Try it: python -m simulations.run --scenario {path} --policy atc")


def _pair(each: Pair) -> str:
    def word(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"

    return f"{word(each.observed)} > {word(each.fitted)}"


if __name__ == "__main__":
    sys.exit(main())
