"""Compare policies on the same days.

    python -m rl.evaluate --suite test --policies shipped,tuned,rules [--episodes 40] [--json]
    python -m rl.evaluate --suite my-pool.toml --policies bundles/mine,tuned,rules
    python -m rl.evaluate --suite test --bundles runs/seed-*/best --policies tuned,rules,planner

Every policy plays the same episodes with the same random numbers under the same guard, and is compared pair by pair. On
the suites `validation` and `test` the regression that PPO started from and the clairvoyant planner play as well. The
verdict is strict: a gain is claimed only if the upper end of the 95 % interval of the cost ratio is below 1 against the
best single rule and against the tuned rule, no case is worse than 1.05 of the tuned rule, and no decision broke a bound
of the guard. What was found is written to `rl/results/<date>-<commit>/`.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from rl.bounds import lower_bound_usd
from rl.comparisons import (
    CLAIRVOYANT,
    PLANNER,
    REGRESSED,
    TUNED,
    WHOLE,
    Played,
    against_bound,
    best_rule,
    compare,
    means,
    summary,
    verdict,
)
from rl.contestants import RESULTS, SINGLE_RULES, Contestant, read_contestants
from rl.provenance import commit
from rl.report import write_report
from rl.simulators import play
from rl.suites import SUITES, TRACE_FOLDER, Case, suite
from simulations.metrics import EpisodeMetrics

DIALS: Final = (0.1, 0.3, 1.0, 3.0)
"""Prices of lateness, relative to the usual one, at which the front is drawn."""
REFERENCES: Final = (REGRESSED, CLAIRVOYANT)
"""Who plays in the named suites, asked or not."""
_FRONT_CASE: Final = "unseen"
_FRONT_DAYS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is compared on what; plain values, so that it can be sent to another process.

    Attributes:
        suite: Name of a suite, or scenario files.
        policies: See `entrants`.
        bundles: See `entrants`.
        traces: Folder of recorded workloads.
        cases: Only these; all if empty.
        episodes: Paired episodes per case.
        planner_episodes: Those of them that planners play, too; see `WHOLE`.
        front: Whether to turn the dial as well.
    """

    suite: tuple[str, ...] = ("validation",)
    policies: str = "shipped,tuned,rules"
    bundles: tuple[str, ...] = ()
    traces: Path = TRACE_FOLDER
    cases: tuple[str, ...] = ()
    episodes: int = 40
    planner_episodes: int = 8
    front: bool = True

    def __post_init__(self) -> None:
        for name in ("episodes", "planner_episodes"):
            if getattr(self, name) < 2:
                raise InvalidInputError(f"--{name.replace('_', '-')}", getattr(self, name), "must be 2 or more")

    def chosen(self) -> tuple[list[Case], list[str]]:
        """The cases, and what was left out and why.

        Raises:
            InvalidInputError: No case is left.
        """
        found, left_out = suite(self.suite, self.traces)
        cases = [case for case in found if not self.cases or case.name in self.cases]
        if not cases:
            raise InvalidInputError("--cases", ",".join(self.cases), f"known: {', '.join(c.name for c in found)}")
        return cases, left_out


def run_case(case: Case, entered: Sequence[Contestant], episodes: int, planner_episodes: int) -> Played:
    """Outcomes of every entrant, one per training seed, on the same episodes."""
    parts: dict[str, list[list[EpisodeMetrics]]] = {entrant.name: [[] for _ in entrant.policies] for entrant in entered}
    bounds = []
    shares = {entrant.name: _share(entrant, case, episodes, planner_episodes) for entrant in entered}
    for count in sorted({count for count in shares.values() if count > 0}, reverse=True):
        for world in case.batches(count):
            if count == episodes:
                bounds.append(lower_bound_usd(world))
            for entrant in entered:
                if shares[entrant.name] == count:
                    for place, policy in enumerate(entrant.policies):
                        parts[entrant.name][place].append(play(world, policy))
    outcomes = {name: [EpisodeMetrics.join(batches) for batches in seeds] for name, seeds in parts.items() if seeds[0]}
    return Played(case.group, outcomes, np.concatenate(bounds) if bounds else np.zeros(0))


def _share(entrant: Contestant, case: Case, episodes: int, planner_episodes: int) -> int:
    """Episodes that an entrant plays: planners take long and play few, but for the gap that is a figure."""
    whole = not entrant.plans or case.group in WHOLE.get(entrant.name, ())
    return episodes if whole else min(episodes, planner_episodes)


def run_front(case: Case, entered: Sequence[Contestant], days: int) -> dict[str, list[dict[str, float]]]:
    """Mean capacity cost and weighted lateness of every entrant on the same days at every price of lateness."""
    world = next(case.batches(days))
    found: dict[str, list[dict[str, float]]] = {}
    for entrant in entered:
        if entrant.plans:
            continue
        turned = entrant.name == entered[0].name or entrant.name == TUNED
        points = []
        for dial in DIALS if turned else (1.0,):
            priced = world._replace(settings=world.settings.copy())
            priced.settings["lateness_weight"] = dial
            played = [play(priced, policy) for policy in entrant.policies]
            late = np.concatenate([outcome.weighted_late_hours for outcome in played])
            capacity = np.concatenate([outcome.capacity_usd for outcome in played])
            points.append(
                {
                    "dial": dial,
                    "weighted_late_hours": float(np.expm1(np.log1p(late).mean())),
                    "capacity_usd": float(np.exp(np.log(np.maximum(capacity, 1e-9)).mean())),
                }
            )
        found[entrant.name] = points
    return found


def _work(contest: Contest, name: str) -> tuple[str, Played | dict[str, list[dict[str, float]]]]:
    """One case, or the front, in whatever process this is."""
    entered = read_contestants(contest.policies, contest.bundles)
    cases = {case.name: case for case in suite(contest.suite, contest.traces)[0]}
    if name == "":
        return name, run_front(cases[_FRONT_CASE], entered, min(_FRONT_DAYS, contest.episodes))
    return name, run_case(cases[name], entered, contest.episodes, contest.planner_episodes)


def _all_work(contest: Contest, names: Sequence[str], jobs: int) -> Iterator[Any]:
    """The work of every name, in order, in so many processes."""
    if jobs <= 1:
        yield from (_work(contest, name) for name in names)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_work, [contest] * len(names), names)


def play_part(contest: Contest, name: str, part: int, parts: int) -> Played:
    """One share of a case's episodes, for a task of its own; `join_parts` puts the shares together.

    Args:
        contest: Who plays what.
        name: Of the case.
        part: Which share, from 0.
        parts: How many there are.
    """
    case = next(case for case in contest.chosen()[0] if case.name == name)
    edges = np.linspace(0, case.episodes(contest.episodes), parts + 1).astype(int)
    first, count = int(edges[part]), int(edges[part + 1] - edges[part])
    if count < 1:
        raise InvalidInputError("parts", parts, f"case {name!r} has only {edges[-1]} episodes")
    share = replace(case, world=lambda number: case.world(first + number), most=count)
    planned = max(0, min(count, contest.planner_episodes - first))
    return run_case(share, read_contestants(contest.policies, contest.bundles), count, planned)


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
        contest: Who plays what.
        jobs: Processes.

    Raises:
        InvalidInputError: A policy, a suite or a case cannot be used.
    """
    began = time.perf_counter()
    read_contestants(contest.policies, contest.bundles)  # what cannot be read is told before anything is played
    cases, left_out = contest.chosen()
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    names = [case.name for case in cases]
    front: dict[str, list[dict[str, float]]] = {}
    results: dict[str, Played] = {}
    work = [*names, ""] if contest.front and _FRONT_CASE in names else names
    for name, found in _all_work(contest, work, jobs):
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
    """Figures, comparisons and context of what was played.

    Args:
        contest: Who played what.
        results: What came of every case.
        seconds: How long it took.
        front: See `run_front`.
    """
    entered = read_contestants(contest.policies, contest.bundles)
    cases, left_out = contest.chosen()
    ours, others = entered[0].name, [entrant.name for entrant in entered[1:]]
    figures = summary(results, ours, SINGLE_RULES)
    rules = [name for name in SINGLE_RULES if name in (ours, *others)]
    tuned = TUNED in others
    return {
        "figures": figures,
        "context": {
            "verdict": verdict(figures),
            "suite": " ".join(contest.suite),
            "episodes_per_case": min(case.episodes(contest.episodes) for case in cases),
            "planner_episodes_per_case": min(contest.planner_episodes, contest.episodes),
            "ours": ours,
            "best_rule": best_rule(results, rules) if rules else None,
            "weights_sha256": entered[0].weights_sha256,
            "training_seeds": len(entered[0].policies),
            "seeds": {entrant.name: list(entrant.training_seeds) for entrant in entered if entrant.training_seeds},
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
            "model_sha256": {entrant.name: entrant.fingerprint() for entrant in entered},
            "data_sha256": _data_hash(cases),
        },
    }


def _data_hash(cases: Sequence[Case]) -> str:
    """Fingerprint of the first world of every case: another generator or another record gives another one."""
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


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.evaluate`."""
    parser = argparse.ArgumentParser(prog="python -m rl.evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", nargs="+", default=["validation"], help="validation, test, or scenario files")
    parser.add_argument("--policies", default="shipped,tuned,rules", help="the first is compared with the others")
    parser.add_argument("--bundles", nargs="*", default=[], help="folders of one recipe with several training seeds")
    parser.add_argument("--cases", default="", help="only these cases, comma-separated")
    parser.add_argument("--traces", type=Path, default=TRACE_FOLDER, help="folder of recorded workloads")
    parser.add_argument("--episodes", type=int, default=40, help="paired episodes per case (default: 40)")
    parser.add_argument("--planner-episodes", type=int, default=8, help="those that planners play (default: 8)")
    parser.add_argument("--no-references", action="store_true", help=f"leave out {' and '.join(REFERENCES)}")
    parser.add_argument("--no-front", action="store_true", help="leave out the cost-against-lateness front")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument("--out", type=Path, help="folder to write (default: rl/results/<date>-<commit>)")
    parser.add_argument("--no-save", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    references = REFERENCES if set(args.suite) <= set(SUITES) and not args.no_references else ()
    try:
        contest = Contest(
            suite=tuple(args.suite),
            policies=",".join([args.policies, *references]),
            bundles=tuple(args.bundles),
            traces=args.traces,
            cases=tuple(name for name in args.cases.split(",") if name),
            episodes=args.episodes,
            planner_episodes=args.planner_episodes,
            front=not args.no_front,
        )
        report = evaluate(contest, jobs=args.jobs)
        if not args.no_save:
            folder = args.out or RESULTS / f"{time.strftime('%Y-%m-%d')}-{commit().rstrip('+')}"
            print(f"written to {write_report(report, folder)}", file=sys.stderr)
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
