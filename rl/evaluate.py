"""Compare policies on the same simulated days.

    python -m rl.evaluate --suite test [--bounds 1,2,4] [--episodes 40] [--json]
    python -m rl.evaluate --suite my-pool.toml --policies bundles/mine,tuned,rules
    python -m rl.evaluate --suite test --bundles runs/seed-*/best --policies tuned,rules,planner

Every policy plays the same episodes with the same random numbers in the same regime, a controller's default, and costs
are compared in pairs. On the suites `validation` and `test` this is done at several bounds of the pool limit, and the
clairvoyant planner and the controller itself (`rl.service`) play a few episodes as well. A gain is claimed
only if the upper end of the 95 % interval of the cost ratio is below 1 against the best single rule and against the
tuned rule, no case is worse than 1.05 of the tuned rule, and no decision broke a bound of the guard. The report is
written to `rl/results/<date>-<commit>/`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.regime import Regime
from rl.contestants import RESULTS, SINGLE_RULES, Contestant, read_contestants
from rl.evaluation.bounds import lower_bound_usd
from rl.evaluation.comparisons import (
    CLAIRVOYANT,
    DEFAULT_RULE,
    PLANNER,
    SERVICE,
    TUNED,
    Played,
    against_bound,
    best_rule,
    compare,
    means,
    summary,
    verdict,
)
from rl.evaluation.report import write_report
from rl.provenance import commit
from rl.simulators import play
from rl.suites import SUITES, TRACE_FOLDER, Case, suite
from simulations.metrics import EpisodeMetrics
from simulations.regime import parse_bound

DIALS: Final = (0.1, 0.3, 1.0, 3.0)
"""Prices of lateness, relative to the usual one, at which the front is drawn."""
REFERENCES: Final = (CLAIRVOYANT, SERVICE)
"""Contestants that are added in the named suites."""
_FRONT_CASE: Final = "unseen"
_FRONT_DAYS: Final = 24
POOLS_SUITE: Final = "pools"
"""Name of the suite in which an agent is fitted to every pool, see `rl.pools`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Which policies are compared on which cases; plain values, so that it can be sent to another process.

    Attributes:
        suite: Name of a suite, or scenario files.
        policies: See `rl.contestants.read_contestants`.
        bundles: See `rl.contestants.read_contestants`.
        traces: Folder of recorded workloads.
        cases: Only these; all if empty.
        episodes: Paired episodes per case.
        planner_episodes: How many of them planners play; see `rl.evaluation.comparisons.WHOLE`.
        regime: How every policy is run.
        front: Whether to also measure cost against lateness at several prices of lateness.
    """

    suite: tuple[str, ...] = ("validation",)
    policies: str = "shipped,tuned,rules"
    bundles: tuple[str, ...] = ()
    traces: Path = TRACE_FOLDER
    cases: tuple[str, ...] = ()
    episodes: int = 40
    planner_episodes: int = 8
    regime: Regime = field(default_factory=Regime)
    front: bool = True

    def __post_init__(self) -> None:
        for name in ("episodes", "planner_episodes"):
            if getattr(self, name) < 2:
                raise InvalidInputError(f"--{name.replace('_', '-')}", getattr(self, name), "must be 2 or more")

    def chosen(self) -> tuple[list[Case], list[str]]:
        """The cases, and which were left out and why.

        Raises:
            InvalidInputError: No case is left.
        """
        found, left_out = suite(self.suite, self.traces)
        cases = [case for case in found if not self.cases or case.name in self.cases]
        if not cases:
            raise InvalidInputError("--cases", ",".join(self.cases), f"known: {', '.join(c.name for c in found)}")
        return cases, left_out


def run_case(
    case: Case, contestants: Sequence[Contestant], episodes: int, planner_episodes: int, regime: Regime
) -> Played:
    """Figures of every contestant, one batch per training seed, on the same episodes."""
    parts: dict[str, list[list[EpisodeMetrics]]] = {
        contestant.name: [[] for _ in contestant.policies] for contestant in contestants
    }
    bounds = []
    shares = {contestant.name: _episodes(contestant, episodes, planner_episodes) for contestant in contestants}
    for count in sorted({count for count in shares.values() if count > 0}, reverse=True):
        for world in case.batches(count):
            if count == episodes:
                bounds.append(lower_bound_usd(world))
            for contestant in contestants:
                if shares[contestant.name] == count:
                    for place, policy in enumerate(contestant.policies):
                        parts[contestant.name][place].append(
                            play(world, policy, regime, clairvoyant=contestant.clairvoyant)
                        )
    outcomes = {name: [EpisodeMetrics.join(batches) for batches in seeds] for name, seeds in parts.items() if seeds[0]}
    return Played(case.group, outcomes, np.concatenate(bounds) if bounds else np.zeros(0))


def _episodes(contestant: Contestant, episodes: int, planner_episodes: int) -> int:
    """Episodes that a contestant plays; one that plans plays few."""
    return min(episodes, planner_episodes) if contestant.plans else episodes


def run_front(
    case: Case, contestants: Sequence[Contestant], days: int, regime: Regime
) -> dict[str, list[dict[str, float]]]:
    """Geometric mean of capacity cost and weighted lateness of every contestant at every price of lateness."""
    world = next(case.batches(days))
    found: dict[str, list[dict[str, float]]] = {}
    for contestant in contestants:
        if contestant.plans:
            continue
        turned = contestant.name == contestants[0].name or contestant.name == TUNED
        points = []
        for dial in DIALS if turned else (1.0,):
            priced = world._replace(settings=world.settings.copy())
            priced.settings["lateness_weight"] = dial
            played = [play(priced, policy, regime) for policy in contestant.policies]
            late = np.concatenate([outcome.weighted_late_hours for outcome in played])
            capacity = np.concatenate([outcome.capacity_usd for outcome in played])
            points.append(
                {
                    "dial": dial,
                    "weighted_late_hours": float(np.expm1(np.log1p(late).mean())),
                    "capacity_usd": float(np.exp(np.log(np.maximum(capacity, 1e-9)).mean())),
                }
            )
        found[contestant.name] = points
    return found


def _play_named(contest: Contest, name: str) -> tuple[str, Played | dict[str, list[dict[str, float]]]]:
    """Play one case, or the front if the name is empty."""
    contestants = read_contestants(contest.policies, contest.bundles)
    cases = {case.name: case for case in suite(contest.suite, contest.traces)[0]}
    if name == "":
        return name, run_front(cases[_FRONT_CASE], contestants, min(_FRONT_DAYS, contest.episodes), contest.regime)
    return name, run_case(cases[name], contestants, contest.episodes, contest.planner_episodes, contest.regime)


def _play_all(contest: Contest, names: Sequence[str], jobs: int) -> Iterator[Any]:
    """Play every name, in order, in `jobs` processes."""
    if jobs <= 1:
        yield from (_play_named(contest, name) for name in names)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_play_named, [contest] * len(names), names)


def play_part(contest: Contest, name: str, part: int, parts: int) -> Played:
    """Play one share of a case's episodes; `join_parts` puts the shares together.

    Args:
        contest: Policies and cases.
        name: Of the case.
        part: Number of the share, from 0.
        parts: Number of shares.
    """
    case = next(case for case in contest.chosen()[0] if case.name == name)
    edges = np.linspace(0, case.episodes(contest.episodes), parts + 1).astype(int)
    first, count = int(edges[part]), int(edges[part + 1] - edges[part])
    if count < 1:
        raise InvalidInputError("parts", parts, f"case {name!r} has only {edges[-1]} episodes")
    share = replace(case, world=lambda number: case.world(first + number), most=count)
    planned = max(0, min(count, contest.planner_episodes - first))
    return run_case(share, read_contestants(contest.policies, contest.bundles), count, planned, contest.regime)


def join_parts(parts: Sequence[Played]) -> Played:
    """The shares of one case as one."""
    outcomes = {
        name: [
            EpisodeMetrics.join([part.outcomes[name][seed] for part in parts if name in part.outcomes])
            for seed in range(len(seeds))
        ]
        for name, seeds in parts[0].outcomes.items()
    }
    return Played(parts[0].group, outcomes, np.concatenate([part.bound_usd for part in parts]))


def evaluate(contest: Contest, *, jobs: int = 1) -> dict[str, Any]:
    """Play a contest and return figures, comparisons and context.

    Args:
        contest: Policies and cases.
        jobs: Processes.

    Raises:
        InvalidInputError: A policy, a suite or a case cannot be used.
    """
    began = time.perf_counter()
    read_contestants(contest.policies, contest.bundles)  # fails before anything is played
    cases, left_out = contest.chosen()
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    names = [case.name for case in cases]
    front: dict[str, list[dict[str, float]]] = {}
    results: dict[str, Played] = {}
    tasks = [*names, ""] if contest.front and _FRONT_CASE in names else names
    for name, found in _play_all(contest, tasks, jobs):
        if name:
            results[name] = found
        else:
            front = found
        print(f"{name or 'front'}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return make_report(contest, results, seconds=time.perf_counter() - began, front=front)


def make_report(
    contest: Contest,
    results: Mapping[str, Played],
    *,
    seconds: float,
    front: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Figures, comparisons and context of an evaluation.

    Args:
        contest: Policies and cases.
        results: Figures of every case.
        seconds: Duration of the evaluation.
        front: See `run_front`.
    """
    contestants = read_contestants(contest.policies, contest.bundles)
    cases, left_out = contest.chosen()
    ours, others = contestants[0].name, [contestant.name for contestant in contestants[1:]]
    figures = summary(results, ours, SINGLE_RULES)
    rules = [name for name in SINGLE_RULES if name in (ours, *others)]
    tuned = TUNED in others
    return {
        "figures": figures,
        "context": {
            "verdict": verdict(figures),
            "suite": " ".join(contest.suite),
            "regime": contest.regime.to_dict() | {"name": contest.regime.name},
            "episodes_per_case": min(case.episodes(contest.episodes) for case in cases),
            "planner_episodes_per_case": min(contest.planner_episodes, contest.episodes),
            "ours": ours,
            "best_rule": best_rule(results, rules) if rules else None,
            "weights_sha256": contestants[0].weights_sha256,
            "training_seeds": len(contestants[0].policies),
            "seeds": {
                contestant.name: list(contestant.training_seeds)
                for contestant in contestants
                if contestant.training_seeds
            },
            "against": {name: compare(results, ours, name) for name in others},
            "against_bound": against_bound(results, ours),
            "vs_tuned": {
                name: {case: found["value"] for case, found in compare(results, name, TUNED)["cases"].items()}
                for name in (CLAIRVOYANT, PLANNER)
                if tuned and name in others
            },
            "groups": {case.name: case.group for case in cases},
            "means": {case: means(played) for case, played in results.items()},
            "front": dict(front or {}),
            "left_out": left_out,
            "seconds": round(seconds, 1),
            "commit": commit(),
            "model_sha256": {contestant.name: contestant.fingerprint() for contestant in contestants},
            "data_sha256": _data_hash(cases),
        },
    }


def _data_hash(cases: Sequence[Case]) -> str:
    """Hash of the first world of every case; it changes with the generator and with the records."""
    digest = hashlib.sha256()
    for case in cases:
        for table in case.world(0):
            digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest()[:16]


def table(report: Mapping[str, Any]) -> str:
    """The comparison as text."""
    context = report["context"]
    lines = [f"{context['ours']} on suite {context['suite']}: {context['verdict']}"]
    for rival, found in context["against"].items():
        r = found["ratio"]
        better = found["probability_of_improvement"]
        lines.append(f"  vs {rival:24s} {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}], better on {better:.0%}")
    if TUNED in context["against"]:
        lines.append(f"\n  {'case':22s} {'over tuned':>22s}  gap: clairvoyant over tuned")
        for case, c in context["against"][TUNED]["cases"].items():
            best = context["vs_tuned"].get(CLAIRVOYANT, {}).get(case)
            gap = "" if best is None else f"  {best:.3f}"
            lines.append(f"  {case:22s} {c['value']:.3f} [{c['low']:.3f}, {c['high']:.3f}]{gap}")
    lines += ["", *(f"  {name} = {value:.4g}" for name, value in report["figures"].items())]
    return "\n".join(lines)


def at_bounds(contest: Contest, bounds: Sequence[float], *, jobs: int = 1) -> dict[float, dict[str, Any]]:
    """The same contest at several bounds of the pool limit; `evaluate` for each."""
    return {
        bound: evaluate(replace(contest, regime=replace(contest.regime, pool_factor=bound)), jobs=jobs)
        for bound in bounds
    }


def join_bounds(reports: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    """Reports at several bounds as one: figures with the bound in their name, and those over all bounds.

    `guard_violations` are added up, `served_worst_case` is the worst of all, `served_gap_closed` the mean.
    """
    if len(reports) == 1:
        return dict(next(iter(reports.values())))
    figures: dict[str, float] = {}
    for bound, report in reports.items():
        figures |= {f"{name}_{bound:g}x": value for name, value in report["figures"].items()}
    for name, together in (("guard_violations", np.sum), ("served_worst_case", np.max), ("served_gap_closed", np.mean)):
        found = [report["figures"][name] for report in reports.values() if name in report["figures"]]
        if found:
            figures[name] = float(together(found))
    context = {f"{bound:g}x": report["context"] for bound, report in reports.items()}
    return {"figures": figures, "context": context}


def _pools(args: argparse.Namespace) -> int:
    """The suite of pools, for each of which an agent is fitted."""
    from rl import pools
    from rl.fit import FitConfig, scaled
    from rl.pool_days import POOLS

    try:
        bound = parse_bound(args.bounds or "1")
        config = scaled(FitConfig(bound=bound, judged_days=args.episodes), args.effort)
        names = [name for name in args.cases.split(",") if name] or list(POOLS)
        folder = args.out or RESULTS / f"{time.strftime('%Y-%m-%d')}-pools-{commit().rstrip('+')}"
        report = pools.evaluate_pools(names, replace(config, judged_days=args.episodes), folder, args.jobs)
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else pools.table(report))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.evaluate`."""
    parser = argparse.ArgumentParser(prog="python -m rl.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", nargs="+", default=["validation"], help="validation, test, pools, or scenario files")
    parser.add_argument(
        "--policies", default=f"shipped,{DEFAULT_RULE},tuned,rules", help="the first is compared with the others"
    )
    parser.add_argument("--bundles", nargs="*", default=[], help="folders of one recipe with several training seeds")
    parser.add_argument("--cases", default="", help="only these cases, comma-separated")
    parser.add_argument("--interval", type=float, default=Regime().interval_s, help="seconds between decisions")
    parser.add_argument(
        "--bounds",
        default=None,
        help="largest pool limits over the given one, comma-separated, or 'none' (default: 1,2,4 on a suite, else 1)",
    )
    parser.add_argument("--traces", type=Path, default=TRACE_FOLDER, help="folder of recorded workloads")
    parser.add_argument("--episodes", type=int, default=40, help="paired episodes per case (default: 40)")
    parser.add_argument("--planner-episodes", type=int, default=4, help="episodes that planners play (default: 4)")
    parser.add_argument("--effort", type=float, default=1.0, help="of the suite pools: factor on what a fit may spend")
    parser.add_argument("--no-references", action="store_true", help=f"leave out {' and '.join(REFERENCES)}")
    parser.add_argument("--no-front", action="store_true", help="leave out the cost-against-lateness front")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument("--out", type=Path, help="folder to write (default: rl/results/<date>-<commit>)")
    parser.add_argument("--no-save", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    named = set(args.suite) <= set(SUITES)
    if args.suite == [POOLS_SUITE]:
        return _pools(args)
    references = REFERENCES if named and not args.no_references else ()
    try:
        bounds = [parse_bound(text) for text in (args.bounds or ("1,2,4" if named else "1")).split(",")]
        contest = Contest(
            suite=tuple(args.suite),
            policies=",".join([args.policies, *references]),
            bundles=tuple(args.bundles),
            traces=args.traces,
            cases=tuple(name for name in args.cases.split(",") if name),
            episodes=args.episodes,
            planner_episodes=args.planner_episodes,
            regime=Regime(interval_s=args.interval),
            front=not args.no_front,
        )
        reports = at_bounds(contest, bounds, jobs=args.jobs)
        if not args.no_save:
            folder = args.out or RESULTS / f"{time.strftime('%Y-%m-%d')}-{commit().rstrip('+')}"
            for report in reports.values():
                print(f"written to {write_report(report, folder)}", file=sys.stderr)
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    joined = join_bounds(reports)
    print(json.dumps(joined) if args.json else "\n\n".join(table(report) for report in reports.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
