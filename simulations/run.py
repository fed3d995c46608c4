"""Run scenarios under policies: `python -m simulations.run --scenario S --policy P --episodes N [--json]`.

`--study failures` instead simulates months with injected faults, with retries alone and with prevention.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.bundle import read_bundle
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.simulator import Twin
from simulations.family import SPLITS
from simulations.metrics import EpisodeMetrics
from simulations.play import play
from simulations.regime import add_regime, read_regime
from simulations.scenario import load_scenario, scenario_names, with_load
from simulations.workload import draw_world


def read_policy(text: str) -> Policy:
    """A rule by its name, or a bundle by the path of its folder."""
    return read_bundle(Path(text)).policy() if Path(text).is_dir() else parse_policy(text)


def evaluate(
    name: str,
    policy: Policy,
    episodes: int,
    split: str = "validation",
    load: float = 1.0,
    regime: Regime = Regime(),  # noqa: B008 - frozen
    guarded: bool = True,
) -> EpisodeMetrics:
    """Figures of the first episodes of a split; every policy plays the same ones.

    Args:
        name: Scenario, see `load_scenario`.
        policy: What decides.
        episodes: How many.
        split: Split of seeds.
        load: Factor on all durations.
        regime: How often is decided and what is permitted; a controller's default.
        guarded: Whether proposals pass the guard.

    Raises:
        InvalidInputError: The split does not have that many seeds, or a scenario cannot be used.
    """
    if not 1 <= episodes <= len(SPLITS[split]):
        raise InvalidInputError("episodes", episodes, f"the {split} split has 1 to {len(SPLITS[split])} of them")
    parts: list[EpisodeMetrics] = []
    for first in range(0, episodes, 32):
        seeds = SPLITS[split][first : min(first + 32, episodes)]
        scenarios = [with_load(load_scenario(name, seed), load) for seed in seeds]
        twin = Twin(stack([draw_world(each, seed) for each, seed in zip(scenarios, seeds, strict=True)]))
        parts.append(
            play(
                twin,
                policy,
                until_s=np.array([each.end_s for each in scenarios]),
                regime=regime,
                guarded=guarded,
                budget_slots=scenarios[0].budget_slots,
            )
        )
    return EpisodeMetrics.join(parts)


def summarise(metrics: EpisodeMetrics) -> dict[str, float | None]:
    """Means over episodes, with the half width of the 95 % interval of the mean cost (None for a single episode)."""
    total = metrics.cost_usd
    half = 1.96 * float(total.std(ddof=1)) / math.sqrt(len(total)) if len(total) > 1 else None
    return {
        "cost_usd": float(total.mean()),
        "cost_usd_half_width": half,
        "cost_usd_median": float(np.median(total)),
        "capacity_usd": float(metrics.capacity_usd.mean()),
        "lateness_usd": float(metrics.lateness_usd.mean()),
        "failure_usd": float(metrics.failure_usd.mean()),
        "weighted_late_minutes": float(60.0 * metrics.weighted_late_hours.mean()),
        "late_share": float(metrics.late_runs.sum() / max(1.0, metrics.runs.sum())),
        "wait_p50_s": float(metrics.wait_p50_s.mean()),
        "wait_p95_s": float(metrics.wait_p95_s.mean()),
        "failed_runs": float(metrics.failed_runs.mean()),
        "unfinished_episodes": float((1.0 - metrics.finished).sum()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.run", description="Run scenarios under policies.")
    parser.add_argument("--scenario", default="morning-rush", help=f"{', '.join(scenario_names())}, or a TOML file")
    parser.add_argument("--policy", action="append", help="a rule such as atc+reactive, or a bundle's folder; repeat")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--split", choices=sorted(SPLITS), default="validation")
    parser.add_argument("--load", type=float, default=1.0, help="all durations times this")
    add_regime(parser)
    parser.add_argument("--unguarded", action="store_true", help="apply proposals as they are")
    parser.add_argument(
        "--study", choices=("failures",), help="instead: months with injected faults, with and without prevention"
    )
    parser.add_argument("--seeds", default="1:6", metavar="A:B", help="months of the study, B included (default 1:6)")
    parser.add_argument("--days", type=int, default=30, help="length of a month of the study (default 30)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        if args.study is not None:
            return _study(args)
        policies = {text: read_policy(text) for text in args.policy or ["prefect-default"]}
        regime = read_regime(args)
        purpose = load_scenario(args.scenario).purpose
        results = {
            text: summarise(
                evaluate(args.scenario, policy, args.episodes, args.split, args.load, regime, not args.unguarded)
            )
            for text, policy in policies.items()
        }
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seeds = SPLITS[args.split][: args.episodes]
    context = {"scenario": args.scenario, "split": args.split, "seeds": [seeds[0], seeds[-1]], "load": args.load}
    context["regime"] = "unguarded" if args.unguarded else regime.name
    if args.json:
        print(json.dumps({"policies": results, "context": context}, indent=2, allow_nan=False))
    else:
        _print_table(results, purpose, context)
    return 0


def _study(args: argparse.Namespace) -> int:
    from simulations.failures_study import print_study, study

    first, colon, last = args.seeds.partition(":")
    if not first.isdigit() or (colon and not last.isdigit()):
        raise InvalidInputError("--seeds", args.seeds, "expected A:B, two whole numbers")
    seeds = range(int(first), int(last or first) + 1)
    found = study(seeds, days=args.days, progress=lambda text: print(text, file=sys.stderr))
    if args.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print_study(found)
    return 0


def _print_table(results: dict[str, dict[str, float | None]], purpose: str, context: dict[str, Any]) -> None:
    print(f"{context['scenario']}: {purpose}")
    first, last = context["seeds"]
    print(f"split {context['split']}, seeds {first} to {last}; {context['regime']}; money in US dollars per episode\n")
    columns = (
        "cost_usd",
        "cost_usd_half_width",
        "capacity_usd",
        "lateness_usd",
        "failure_usd",
        "late_share",
        "wait_p95_s",
    )
    width = max(len(name) for name in results)
    print(" " * width, *(f"{name.removesuffix('_usd'):>12.12}" for name in ("cost", "+-", *columns[2:])))
    for name, figures in results.items():
        print(
            f"{name:{width}}",
            *("           -" if (x := figures[column]) is None else f"{x:12.3f}" for column in columns),
        )


if __name__ == "__main__":
    sys.exit(main())
