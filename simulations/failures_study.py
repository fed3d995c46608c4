"""What prevention saves: months with injected faults, each simulated with retries alone and with prevention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prevention.measures import DAY_S
from prefect_intelligent.twin.model.state import COMPLETED
from simulations.failures import (
    HOSTS,
    HOUR_S,
    MODE_OF,
    MODES,
    NAMES,
    READERS,
    SOURCE,
    START_S,
    FaultyMonth,
    MonthResult,
    all_settings,
    simulate,
)

_CLASSES: Final = (*MODES, "no plant")


def study(seeds: Sequence[int], *, days: int = 30, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Compare paired months.

    Args:
        seeds: One per month.
        days: Length of a month.
        progress: Called with a line per month.

    Returns:
        `figures`: over all months; `modes`: per failure mode how often its cause was named, after how many hours
        (median), and failed runs and wasted dollars of both arms; `months`: per seed.

    Raises:
        InvalidInputError: No seed, or a month shorter than ten days.
    """
    if not seeds:
        raise InvalidInputError("seeds", list(seeds), "at least one month is needed")
    if days < 10:
        raise InvalidInputError("days", days, "the planted failures need at least 10")
    months = []
    for seed in seeds:
        world = FaultyMonth(seed, days)
        base, better = simulate(world, settings=None), simulate(world, settings=all_settings())
        months.append(_month(seed, world, base, better))
        last = months[-1]
        progress(f"seed {seed}: failed {last['failed'][0]} -> {last['failed'][1]}, false holds {last['false_holds']}")
    return {"figures": _figures(months), "modes": _modes(months), "months": months}


def _month(seed: int, world: FaultyMonth, base: MonthResult, better: MonthResult) -> dict[str, Any]:
    ended = base.outcome != 0
    false_stops = better.stopped - set(world.faults.hung)
    false_holds = {run for run in better.held if base.outcome[run] == COMPLETED} | false_stops
    found, wrong = _named(world, better)
    return {
        "seed": seed,
        "runs": int(ended.sum()),
        "good": int((base.outcome == COMPLETED).sum()),
        "failed": [int((arm.failed & ended).sum()) for arm in (base, better)],
        "wasted_usd": [float(arm.wasted_usd.sum()) for arm in (base, better)],
        "unfinished": [int((arm.outcome == 0).sum()) for arm in (base, better)],
        "delay_s": [float(np.nanmean(arm.delay_s)) for arm in (base, better)],
        "holds": len(better.held),
        "false_holds": len(false_holds),
        "stops": len(better.stopped),
        "false_stops": len(false_stops),
        "limited": len(better.limited),
        "measures": sum(step["to"] == "on" and step["from"] in ("-", "over") for step in better.steps),
        "wrong_measures": wrong,
        "detected_after_h": found,
        "by_mode": {
            mode: {
                "failed": [sum(_class(c) == mode for c in arm.cause if c) for arm in (base, better)],
                "wasted_usd": [
                    float(sum(arm.wasted_usd[run] for run in _runs_of(world, arm, mode, base, better)))
                    for arm in (base, better)
                ],
            }
            for mode in _CLASSES
        },
    }


def _class(cause: str | None) -> str:
    return MODE_OF.get(cause or "", "no plant")


def _runs_of(world: FaultyMonth, arm: MonthResult, mode: str, base: MonthResult, better: MonthResult) -> list[int]:
    """Runs whose waste counts for a mode, by the cause of their failure in either arm; without a cause, "no plant"."""
    of: list[int] = []
    for run in range(len(arm.cause)):
        cause = base.cause[run] or better.cause[run]
        if _class(cause) == mode:
            of.append(run)
    return of


def _named(world: FaultyMonth, month: MonthResult) -> tuple[dict[str, float | None], list[str]]:
    """Hours from each fault to the first measure of the right rule on the right subject, and all wrong measures."""
    faults = world.faults
    expected: Mapping[str, tuple[str, tuple[str, ...], float, float]] = {
        "flaky host": ("flaky-host", (f"host:{HOSTS[faults.host]}",), faults.host_s, 4 * DAY_S),
        "memory leak": ("out-of-memory", (f"deployment:{NAMES[faults.leaker]}",), faults.leak_s, 7 * DAY_S),
        "bad upstream day": ("bad-input", (f"deployment:{SOURCE}",), faults.source_s, 1.5 * DAY_S),
        "bad release": ("bad-release", (f"deployment:{NAMES[faults.released]}",), faults.release_s, 5 * DAY_S),
        "overloaded warehouse": ("overload", ("resource:warehouse",), faults.warehouse_s, 5 * DAY_S),
        "hung run": ("hung-run", tuple(f"run:{run}" for run in sorted(faults.hung)), 0.0, math.inf),
    }
    found: dict[str, float | None] = dict.fromkeys(MODES)
    wrong: list[str] = []
    hung: set[str] = set()
    for step in month.steps:
        if step["to"] != "on" or step["from"] not in ("-", "over"):
            continue
        since = float(step["at_s"]) - START_S
        fits = False
        for mode, (rule, subjects, begins, lasts) in expected.items():
            if step["rule"] == rule and step["subject"] in subjects and 0 <= since - begins <= lasts:
                fits = True
                if mode == "hung run":
                    hung.add(step["subject"])
                    begun = world.scheduled[int(step["subject"].removeprefix("run:"))] - START_S
                    found[mode] = max(found[mode] or 0.0, (since - begun) / HOUR_S)
                elif found[mode] is None:
                    found[mode] = (since - begins) / HOUR_S
        if step["rule"] == "keeps-failing":  # names no cause; right if the deployment is one with a fault
            names = {NAMES[faults.leaker], NAMES[faults.released], SOURCE, *READERS, *NAMES[6:16]}
            fits = step["subject"].removeprefix("deployment:") in names
        if not fits and step["rule"] != "passing-trouble":
            wrong.append(f"{step['rule']} {step['subject']} on day {since / DAY_S:.1f}: {step['why']}")
    if len(hung) < len(faults.hung):
        found["hung run"] = None
    return found, wrong


def _figures(months: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    def total(name: str, arm: int | None = None) -> float:
        return float(sum(m[name] if arm is None else m[name][arm] for m in months))

    ratios = [m["failed"][1] / max(1, m["failed"][0]) for m in months]
    wasted = [m["wasted_usd"][1] / max(1e-9, m["wasted_usd"][0]) for m in months]
    return {
        "months": float(len(months)),
        "runs": total("runs"),
        "failed_retries_alone": total("failed", 0),
        "failed_with_prevention": total("failed", 1),
        "failed_ratio": total("failed", 1) / max(1.0, total("failed", 0)),
        "failed_ratio_worst_month": max(ratios),
        "wasted_usd_retries_alone": total("wasted_usd", 0),
        "wasted_usd_with_prevention": total("wasted_usd", 1),
        "wasted_ratio": total("wasted_usd", 1) / max(1e-9, total("wasted_usd", 0)),
        "wasted_ratio_worst_month": max(wasted),
        "holds": total("holds"),
        "false_holds": total("false_holds"),
        "false_holds_of_good_runs": total("false_holds") / max(1.0, total("good")),
        "false_holds_of_holds": total("false_holds") / max(1.0, total("holds") + total("stops")),
        "measures": total("measures"),
        "wrong_measures": float(sum(len(m["wrong_measures"]) for m in months)),
        "limited_runs": total("limited"),
        "unfinished": total("unfinished", 1),
    }


def _modes(months: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for mode in _CLASSES:
        hours = [m["detected_after_h"].get(mode) for m in months]
        known = [h for h in hours if h is not None]
        parts = [m["by_mode"][mode] for m in months]
        out[mode] = {
            "planted": 0 if mode == "no plant" else len(months),
            "named": len(known),
            "hours_to_measure": float(np.median(known)) if known else None,
            "failed": [int(sum(p["failed"][arm] for p in parts)) for arm in (0, 1)],
            "wasted_usd": [float(sum(p["wasted_usd"][arm] for p in parts)) for arm in (0, 1)],
        }
    return out


def print_study(found: Mapping[str, Any]) -> None:
    """Print the figures as two tables."""
    figures = found["figures"]
    print(
        f"{figures['months']:.0f} simulated months, {figures['runs']:.0f} runs, paired: retries alone -> prevention\n"
    )
    print(f"{'planted':22} {'named':>7} {'hours':>6} {'failed runs':>14} {'wasted USD':>18}")
    for mode, row in found["modes"].items():
        hours = "-" if row["hours_to_measure"] is None else f"{row['hours_to_measure']:.1f}"
        named = f"{row['named']}/{row['planted']}" if row["planted"] else "-"
        failed, wasted = row["failed"], row["wasted_usd"]
        print(f"{mode:22} {named:>7} {hours:>6} {failed[0]:6d} -> {failed[1]:4d} {wasted[0]:8.0f} -> {wasted[1]:6.0f}")
    print()
    for name, value in figures.items():
        print(f"{name:28} {value:12.4g}")
    for month in found["months"]:
        for wrong in month["wrong_measures"]:
            print(f"wrong, seed {month['seed']}: {wrong}")
