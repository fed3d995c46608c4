"""Agents fitted to single pools against the rule tuned on the same pool with the same processor time.

    python -m rl.evaluate --suite pools --json [--effort 1] [--out FOLDER]

For every pool of `rl.pool_days.POOLS` an agent is fitted (`rl.fit`), then the rule is tuned anew with as much processor
time as all of that has taken. Both, and the parts of the agent (rule, rule with planner, rule with PPO, all), play days
that nothing has seen, as a controller runs them. What is in the folder already is not made again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.regime import Regime
from rl.evaluation.statistics import geometric_ratio
from rl.fit import FitConfig, costs, fit_pool, tune_pool, variants, write_json
from rl.parallel.spread import in_processes
from rl.pool_days import pool_days
from rl.provenance import commit
from rl.tune import rule_parts

RIVAL: Final = "rule_same_time"
_ABLATION: Final = ("rule", "rule_planner", "rule_ppo", "all")


def play_pool(name: str, config: FitConfig, folder: Path) -> dict[str, Any]:
    """Fit an agent to one pool, tune its rival, and play both and the agent's parts on held-out days.

    Returns:
        `agent`: which part it is; `cost_usd`: of every contestant, a list over the days; `cpu_s`: of the fit.
    """
    out = folder / name.replace(":", "-")
    result = out / "played.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
    days = pool_days(name)
    days = replace(days, regime=replace(days.regime, pool_factor=config.bound))
    began = time.process_time()
    chosen, _, learned = fit_pool(days, config, out, lambda text: print(text, file=sys.stderr, flush=True))
    spent_s = time.process_time() - began
    tuning_s = float(json.loads((out / "rule.json").read_text(encoding="utf-8"))["cpu_s"])
    longer = max(1.0, spent_s / max(tuning_s, 1e-9))
    rival = tune_pool(days, config, round(config.tuned_worlds * longer))
    write_json(out / "rival.json", rule_parts(rival))
    world = days.days("test", config.judged_days)
    played = costs(world, {**variants(learned), RIVAL: rival}, Regime(pool_factor=config.bound))
    found = {
        "agent": chosen,
        "cost_usd": {each: values.tolist() for each, values in played.items()},
        "cpu_s": spent_s,
    }
    write_json(result, found)
    return found


def evaluate_pools(names: Sequence[str], config: FitConfig, folder: Path, jobs: int) -> dict[str, Any]:
    """Play every pool, and the figures over all of them."""
    with in_processes(jobs) as spread:
        played = spread(play_pool, [(name, config, folder) for name in names], "pools")
    results = dict(zip(names, played, strict=True))
    return {
        "figures": pools_figures(results),
        "context": {
            "suite": "pools",
            "regime": Regime(pool_factor=config.bound).to_dict(),
            "config": asdict(config),
            "pools": {name: _one_pool(found) for name, found in results.items()},
            "commit": commit(),
        },
    }


def pools_figures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Ratios over all pools, each pool the same weight; intervals by resampling days within pools."""

    def ratios(name: str, rival: str) -> list[Array]:
        return [_ratio(found, name, rival)[None] for found in results.values()]

    figures: dict[str, float] = {}
    for figure, name, rival in (
        ("pools_ratio", "agent", RIVAL),
        ("rule_planner", "rule_planner", "rule"),
        ("rule_ppo", "rule_ppo", "rule"),
        ("all", "all", "rule"),
        ("ppo_in_planner", "all", "rule_planner"),
    ):
        interval = geometric_ratio(ratios(name, rival))
        figures |= {figure: interval.value, f"{figure}_hi": interval.high}
    each = {name: geometric_ratio([_ratio(found, "agent", RIVAL)[None]]).value for name, found in results.items()}
    figures["pools"] = float(len(each))
    figures["pools_won"] = float(sum(value < 1 for value in each.values()))
    figures["pools_worst"] = max(each.values())
    return figures


def _ratio(found: Mapping[str, Any], name: str, rival: str) -> Array:
    """Cost over the rival's, day by day; "agent" is the part that the agent is."""
    named = found["agent"] if name == "agent" else name
    ratio: Array = np.array(found["cost_usd"][named]) / np.array(found["cost_usd"][rival])
    return ratio


def _one_pool(found: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one pool: what the agent is, and ratios to the rival of the same time."""
    ratios = {each: geometric_ratio([_ratio(found, each, RIVAL)[None]])._asdict() for each in ("agent", *_ABLATION)}
    return {"agent": found["agent"], "days": len(found["cost_usd"][RIVAL]), "cpu_s": found["cpu_s"], **ratios}


def table(report: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [f"{'pool':26s} {'agent':>13s} " + " ".join(f"{name:>13s}" for name in _ABLATION)]
    for name, found in report["context"]["pools"].items():
        cells = " ".join(f"{found[each]['value']:13.3f}" for each in _ABLATION)
        lines.append(f"{name:26s} {found['agent']:>13s} {cells}")
    return "\n".join([*lines, "", *(f"  {name} = {value:.4g}" for name, value in report["figures"].items())])
