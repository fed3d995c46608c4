"""Tune the parameters of a rule by CMA-ES; the result is the base and the strongest rival of the learned policy.

    python -m rl.tune --priority blend --capacity lookahead --limits share --worlds 60000 --out tuned.json

In every generation all candidates play the same newly drawn days (common random numbers). A candidate's fitness is the
mean logarithm of its cost over that of the initial rule, as in `rl.evaluate`, so that no expensive day dominates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cma
import numpy as np
from tqdm import tqdm

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_parameters import RuleParameters
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.model.world import World
from rl.simulators import spent_usd
from rl.worlds import Days, training

SEARCHED: Final = (
    "atc_k",
    "value_exponent",
    "duration_exponent",
    "backlog_exponent",
    "drain_s",
    "busy_fraction",
    "slack_horizon_s",
    "look_ahead",
    "lead_s",
    "overdue_slots",
    "doubt",
    "resource_share",
    "dial_exponent",
)
"""Parameters that are searched: all but the number of fixed slots, which these rules do not use."""


def costs(policies: Sequence[Policy], world: World, regime: Regime) -> Array:
    """Objective of every world of a batch under each policy, shape (policies, worlds), US dollars."""
    total: Array = np.maximum(spent_usd(world, regime, *policies).sum(-1), 1e-9)
    return total


def tune(
    start: RulePolicy,
    workload: Days,
    *,
    worlds: int,
    seed: int = 0,
    days_per_generation: int = 96,
    population: int = 12,
    clusters: range = range(1_000_000),
) -> tuple[RulePolicy, list[float]]:
    """The rule with the best parameters found, and the mean fitness of each generation.

    Args:
        start: The rule, with the parameters at which the search begins.
        workload: Where days are drawn from.
        worlds: Simulated days at most.
        seed: Of the search and of the draws.
        days_per_generation: Days that every candidate of a generation plays.
        population: Candidates per generation.
        clusters: Seeds of clusters to draw from.
    """
    rng = np.random.default_rng(seed)
    centre = start.parameters.to_vector(SEARCHED)
    search = cma.CMAEvolutionStrategy(
        centre, 0.15, {"seed": seed + 1, "bounds": [0, 1], "popsize": population, "verbose": -9}
    )
    used, history = 0, []
    bar = tqdm(total=worlds, unit="world", desc="tune", disable=None)
    while used + (population + 1) * days_per_generation <= worlds:
        days = [(int(c), int(rng.integers(0, 8))) for c in rng.choice(clusters, days_per_generation)]
        world = workload.batch(days)
        vectors = search.ask()
        spent = costs([start, *(_rule(start, vector) for vector in vectors)], world, workload.regime)
        fitness = [float(ratio) for ratio in np.log(spent[1:] / spent[0]).mean(-1)]
        search.tell(vectors, fitness)
        used += (population + 1) * days_per_generation
        history.append(float(np.mean(fitness)))
        bar.update((population + 1) * days_per_generation)
        bar.set_postfix(mean=f"{np.exp(np.mean(fitness)):.4f}", best=f"{np.exp(min(fitness)):.4f}")
    bar.close()
    return _rule(start, search.result.xfavorite), history


def _rule(start: RulePolicy, vector: Array) -> RulePolicy:
    """The rule with the parameters of a vector."""
    parameters = RuleParameters.from_vector(SEARCHED, [float(value) for value in vector])
    return RulePolicy(
        priority=start.priority, capacity=start.capacity, limits=start.limits, parameters=parameters, label="tuned"
    )


def rule_parts(rule: RulePolicy) -> dict[str, Any]:
    """A rule as JSON; `read_rule` reads it."""
    parts = {"priority": rule.priority, "capacity": rule.capacity, "limits": rule.limits}
    return parts | {"parameters": rule.parameters.to_dict()}


def read_rule(path: Path) -> RulePolicy:
    """Read the rule that a search has written.

    Raises:
        InvalidInputError: The file is missing or is no result of `rl.tune`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return RulePolicy(
            priority=found["priority"],
            capacity=found["capacity"],
            limits=found["limits"],
            parameters=RuleParameters.from_dict(found["parameters"]),
            label="tuned",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError("tuned rule", str(path), "name a JSON file written by rl.tune") from error


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.tune`."""
    parser = argparse.ArgumentParser(prog="python -m rl.tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--priority", default="blend", help="priority rule (default: blend)")
    parser.add_argument("--capacity", default="lookahead", help="capacity rule (default: lookahead)")
    parser.add_argument("--limits", default="share", help="queue-limit rule (default: share)")
    parser.add_argument("--start", type=Path, help="result of an earlier search to begin at (default: untuned)")
    parser.add_argument("--worlds", type=int, default=60_000, help="simulated days in all (default: 60000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    try:
        start = RulePolicy(priority=args.priority, capacity=args.capacity, limits=args.limits)
        if args.start is not None:
            start = read_rule(args.start)
        rule, history = tune(start, training(), worlds=args.worlds, seed=args.seed)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = {
        **rule_parts(rule),
        "worlds": args.worlds,
        "seed": args.seed,
        "history": history,
    }
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
