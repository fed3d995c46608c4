"""Fit an agent to one pool: tune the rule, learn corrections of it, decide whether to plan, and judge the result.

    python -m rl.fit --pool my-pool.toml --out bundles/mine [--seed K] [--jobs N | --dask [ADDRESS]] [--resume] [--json]

1. The rule is tuned on the pool's days, and has to be better than the general one on days to choose by.
2. Corrections that would have saved money are labelled and regressed on, then PPO goes on from there.
3. Rule and corrections are tried with and without the planner; what is cheapest on the days to choose by is the agent.
4. Agent and rule are compared on days that nothing has seen, as a controller runs them.

Everything happens in a controller's regime; `--bounds` names others. Each step leaves its result in the folder;
`--resume` goes on after the last one that is there. The bundle in `agent/` carries the regime, the planner's settings
and the figures. Tuning, labels, choice and judgement are done in parts, by processes of this machine or on a Dask
cluster (extra `cluster`); the result is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.bundle import IDLE_FRACTION, Bundle, read_bundle, write_bundle
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.planner import Planner, PlannerConfig
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_parameters import RuleParameters
from prefect_intelligent.policy.rule_policy import GENERAL, RulePolicy
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from rl.evaluation.statistics import geometric_ratio
from rl.label import LabelConfig, Labels, label
from rl.network import Actor
from rl.parallel.dask import on_dask
from rl.parallel.spread import Spread, here, in_processes
from rl.pool_days import PoolDays, pool_days
from rl.pretrain import PretrainConfig, fit
from rl.provenance import commit
from rl.service import UNHURRIED, as_served
from rl.simulators import play, spent_usd
from rl.train import TrainConfig, train
from rl.tune import read_rule, rule_parts, tune
from simulations.regime import parse_bound

_LEAST_USD: Final = 1e-6
_LABELLED_AT_ONCE: Final = 32
_PLAYED_AT_ONCE: Final = 4
"""Days of a part; they are few because a planner takes minutes for each."""
_CHOICE: Final = "chosen.json"
_MARGINS: Final = (0.02, 0.05, 0.1)
"""Least predicted savings that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How much is spent on what.

    Attributes:
        seed: Of everything that is drawn.
        tuned_worlds: Simulated days of tuning.
        labelled_days: Days whose states are labelled.
        ppo_steps: Decisions of PPO; 0 leaves it out.
        choice_days: Days that choices are made by.
        planned_days: How many of them planners play.
        judged_days: Days of the final comparison.
        bound: Largest pool limit over the given one.
    """

    seed: int = 0
    tuned_worlds: int = 16_000
    labelled_days: int = 256
    ppo_steps: int = 2_000_000
    choice_days: int = 48
    planned_days: int = 8
    judged_days: int = 40
    bound: float = 1.0

    def __post_init__(self) -> None:
        for name in ("tuned_worlds", "labelled_days", "choice_days", "planned_days", "judged_days"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, getattr(self, name), "must be 1 or more")


def tune_pool(days: PoolDays, config: FitConfig, worlds: int | None = None, spread: Spread = here) -> RulePolicy:
    """The best rule for a pool: tuned with and without a capacity rule, and the general one where it is better.

    Args:
        days: Of the pool.
        config: How much is spent.
        worlds: Simulated days in all; those of the configuration if None.
        spread: Does the two searches.
    """
    general = GENERAL
    spent = (worlds or config.tuned_worlds) // 2
    starts = (general, replace(general, capacity="keep"))
    tuned = spread(_tuned, [(start, days, spent, config.seed) for start in starts], "tune")
    rules = [general, replace(general, capacity="keep", label="general, capacity kept"), *tuned]
    cost = spent_usd(days.days("validation", config.choice_days), days.regime, *rules).sum(-1)
    best = int(np.log(np.maximum(cost, _LEAST_USD)).mean(-1).argmin())
    return replace(rules[best], label="tuned on the pool")


def _tuned(start: RulePolicy, days: PoolDays, worlds: int, seed: int) -> RulePolicy:
    return tune(start, days, worlds=worlds, seed=seed, days_per_generation=24, clusters=range(10_000))[0]


def learn_corrections(days: PoolDays, base: RulePolicy, config: FitConfig, out: Path, spread: Spread = here) -> Bundle:
    """A network that corrects the rule: regressed on labels, then trained by PPO; as good on the days to choose by."""
    numbers = range(config.labelled_days)
    calls = [
        (days, numbers[first : first + _LABELLED_AT_ONCE], base, config.seed)
        for first in range(0, len(numbers), _LABELLED_AT_ONCE)
    ]
    found = spread(label_days, calls, "label")
    labels = Labels(*(np.concatenate([getattr(part, name) for part in found]) for name in Labels.__slots__))
    actor, _ = fit(labels, PretrainConfig(epochs=12), config.seed)
    made = {"by": "rl.fit", "pool": days.name, "states": len(labels.pool), "seed": config.seed, "commit": commit()}
    drafts = [
        Bundle(name=days.name, base=base, weights=actor.export(), margin=margin, provenance=made, regime=days.regime)
        for margin in _MARGINS
    ]
    start = _cheapest(days, config, drafts, lambda draft: draft.policy())
    untrained = replace(start, weights=Actor(PretrainConfig().width).export())
    write_bundle(start, out / "regressed")
    if config.ppo_steps == 0:
        return start
    settings = TrainConfig(
        start=str(out / "regressed"), out=str(out / "ppo"), seed=config.seed, steps=config.ppo_steps, envs=96, hold=12,
        batches=8, minibatch=1_968, gamma=0.95, gae_lambda=0.9, validation_days=config.choice_days, validate_every=2,
    )  # fmt: skip
    trained = read_bundle(Path(train(settings, days)["best"]))
    return _cheapest(days, config, [untrained, start, replace(trained, name=days.name)], lambda draft: draft.policy())


def label_days(days: PoolDays, numbers: range, base: RulePolicy, seed: int) -> Labels:
    """Labels of some days of a pool; a part of `learn_corrections`."""
    world = stack([days.world(20_000 + number, 0) for number in numbers])
    rng = np.random.default_rng([seed, numbers.start, 3])
    return label(world, base, base, days.regime, LabelConfig(every=20), rng)


def _cheapest(
    days: PoolDays, config: FitConfig, drafts: Sequence[Bundle], policy_of: Callable[[Bundle], Policy]
) -> Bundle:
    """The bundle that is cheapest on the days to choose by."""
    world = days.days("validation", config.choice_days)
    cost = spent_usd(world, days.regime, *(policy_of(draft) for draft in drafts)).sum(-1)
    return drafts[int(np.log(np.maximum(cost, _LEAST_USD)).mean(-1).argmin())]


def variants(bundle: Bundle) -> dict[str, Policy]:
    """What is compared: the rule and the corrected rule, each without and with the planner."""
    rule, corrected = bundle.base, bundle.policy()
    return {
        "rule": rule,
        "rule_planner": Planner(inner=rule, base=rule, config=UNHURRIED),
        "rule_ppo": corrected,
        "all": Planner(inner=corrected, base=rule, config=UNHURRIED),
    }


def costs(world: World, policies: Mapping[str, Policy], regime: Regime, spread: Spread = here) -> dict[str, Array]:
    """Cost of every day under each policy, shape (days,), US dollars.

    A planner plays as a controller runs it, with what a snapshot tells (`rl.service`), which takes long.
    """
    parts = [
        World(*(table[first : first + _PLAYED_AT_ONCE] for table in world))
        for first in range(0, world.n_worlds, _PLAYED_AT_ONCE)
    ]
    found = spread(_played_usd, [(part, policy, regime) for policy in policies.values() for part in parts], "play")
    return {
        name: np.maximum(np.concatenate(found[place * len(parts) : (place + 1) * len(parts)]), _LEAST_USD)
        for place, name in enumerate(policies)
    }


def _played_usd(world: World, policy: Policy, regime: Regime) -> Array:
    return play(world, as_served(policy), regime).cost_usd


def choose_agent(days: PoolDays, bundle: Bundle, config: FitConfig, spread: Spread = here) -> tuple[str, float, Bundle]:
    """Which variant is the agent, what a day to choose by costs with it (geometric mean, US dollars), its bundle."""
    world = days.days("validation", config.planned_days)
    found = costs(world, variants(bundle), days.regime, spread)
    usd = {each: float(np.exp(np.log(cost).mean())) for each, cost in found.items()}
    name = min(usd, key=usd.__getitem__)
    weights = bundle.weights if name in ("rule_ppo", "all") else Actor(len(bundle.weights["encoder_1.bias"])).export()
    planner = PlannerConfig() if name in ("rule_planner", "all") else None
    return name, usd[name], replace(bundle, weights=weights, planner=planner)


def read_choice(folder: Path) -> dict[str, Any]:
    """What was chosen in a fit: `agent`, the name of the variant, and `usd`, what a day to choose by costs with it."""
    found: dict[str, Any] = json.loads((folder / _CHOICE).read_text(encoding="utf-8"))
    return found


def fit_pool(
    days: PoolDays, config: FitConfig, out: Path, say: Callable[[str], None], spread: Spread = here
) -> tuple[str, Bundle, Bundle]:
    """Fit an agent to a pool; what is in the folder already is not made again.

    Args:
        days: Of the pool.
        config: How much is spent on what.
        out: Folder of all results.
        say: Told what is being done.
        spread: Does the parts of a step; the result does not depend on it.

    Returns:
        Which variant the agent is, its bundle, and the bundle of the corrected rule without a planner.
    """
    out.mkdir(parents=True, exist_ok=True)
    rule_file, corrected, agent = out / "rule.json", out / "corrected", out / "agent"
    if not rule_file.exists():
        say(f"{days.name}: tuning the rule")
        began = time.process_time()
        rule = tune_pool(days, config, spread=spread)
        spent_s = time.process_time() - began
        write_json(rule_file, {**rule_parts(rule), "seed": config.seed, "cpu_s": spent_s})
    rule = read_rule(rule_file)
    if not (corrected / "manifest.json").exists():
        say(f"{days.name}: learning corrections")
        write_bundle(learn_corrections(days, rule, config, out, spread), corrected)
    learned = read_bundle(corrected)
    if not (out / _CHOICE).exists():
        say(f"{days.name}: choosing between rule, corrections and planner")
        name, usd, bundle = choose_agent(days, learned, config, spread)
        write_bundle(bundle, agent)
        write_json(out / _CHOICE, {"agent": name, "usd": usd})
    return str(read_choice(out)["agent"]), read_bundle(agent), learned


def judge(days: PoolDays, agent: Bundle, config: FitConfig, regime: Regime, spread: Spread = here) -> dict[str, Any]:
    """Agent over its own rule, the general rule and Prefect's default, on days that nothing has seen."""
    world = days.days("test", config.judged_days)
    default = RulePolicy(priority="prefect-default", parameters=RuleParameters())
    rivals = {"tuned_on_pool": agent.base, "general_rule": GENERAL, "prefect_default": default}
    found = costs(world, {"agent": agent.agent(), **rivals}, regime, spread)
    figures: dict[str, float] = {}
    for name in rivals:
        ratio = geometric_ratio([(found["agent"] / found[name])[None]])
        figures |= {f"ratio_vs_{name}": ratio.value, f"ratio_vs_{name}_hi": ratio.high}
    return {"figures": figures, "context": {"days": len(found["agent"]), "regime": regime.to_dict()}}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.fit`."""
    parser = argparse.ArgumentParser(prog="python -m rl.fit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pool", required=True, help="a scenario's name or TOML file, family:SEED, or trace:CASE")
    parser.add_argument("--out", type=Path, required=True, help="folder of all results; the bundle is in agent/")
    parser.add_argument("--bounds", default="1", help="largest pool limit over the given one, or 'none' (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--effort", type=float, default=1.0, help="factor on all that is spent (default: 1)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one for each core)")
    where.add_argument(
        "--dask",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="do the parts as Prefect task runs on the Dask cluster there (default: a cluster of this machine's cores)",
    )
    parser.add_argument("--resume", action="store_true", help="go on after the last step whose result is in the folder")
    parser.add_argument("--although-unfit", action="store_true", help="also on a scenario marked as unfit")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    try:
        if not args.effort > 0:
            raise InvalidInputError("--effort", args.effort, "must be above 0")
        if (args.out / "rule.json").exists() and not args.resume:
            raise InvalidInputError("--out", str(args.out), "holds an earlier fit; add --resume or name another folder")
        bound = parse_bound(args.bounds)
        config = scaled(FitConfig(seed=args.seed, bound=bound), args.effort)
        days = pool_days(args.pool, although_unfit=args.although_unfit)
        days = replace(days, regime=replace(days.regime, pool_factor=bound))

        def work(spread: Spread) -> tuple[str, Bundle, dict[str, Any]]:
            name, agent, _ = fit_pool(days, config, args.out, say, spread)
            say(f"{days.name}: judging {name}")
            return name, agent, judge(days, agent, config, Regime(pool_factor=bound), spread)

        if args.dask is not None:
            name, agent, report = on_dask(work, "fit-agent", args.dask or None)
        else:
            with in_processes(args.jobs) as spread:
                name, agent, report = work(spread)
        idle = float(days.days("test", 1).pools["idle_fraction"].max())
        evaluation = report["figures"] | {"agent": name, IDLE_FRACTION: idle}
        write_bundle(replace(agent, evaluation=evaluation), args.out / "agent")
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report["context"] |= {"pool": args.pool, "agent": name, "config": asdict(config), "commit": commit()}
    report["context"]["seconds"] = round(time.perf_counter() - began, 1)
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{args.pool}: the agent is {name}; bundle in {args.out / 'agent'}")
        for key, value in report["figures"].items():
            print(f"  {key:28s} {value:.3f}")
    return 0


def scaled(config: FitConfig, effort: float) -> FitConfig:
    """The configuration with all that is spent multiplied."""
    names = ("tuned_worlds", "labelled_days", "ppo_steps", "choice_days", "planned_days", "judged_days")
    return replace(config, **{name: max(2, round(getattr(config, name) * effort)) for name in names})


if __name__ == "__main__":
    sys.exit(main())
