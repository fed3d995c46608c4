"""From the metrics of episodes to figures and a verdict: paired cost ratios, the gap to the clairvoyant planner.

Two contestants are compared on the episodes that both have played; planners, which take long, play only the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.replay.bootstrap import ConfidenceInterval
from rl.evaluation.statistics import (
    geometric_ratio,
    interquartile_ratio,
    performance_profile,
    probability_of_improvement,
)
from simulations.metrics import EpisodeMetrics

WORST_PERMITTED: Final = 1.05
PROFILE_AT: Final = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0, 1.025, 1.05, 1.1, 1.2, 1.5, 2.0)
TRAINED: Final = ("seen", "unseen")
"""Groups of cases like those of the training."""
TUNED, DEFAULT, CLAIRVOYANT, PLANNER, REGRESSED = "tuned", "prefect-default", "clairvoyant", "planner", "regressed"
DEFAULT_RULE: Final = "default-rule"
"""What a controller does without a setting."""
SERVICE: Final = "service"
"""The controller itself, with its planner."""
REPORTED: Final = (
    "cost_usd",
    "capacity_usd",
    "lateness_usd",
    "failure_usd",
    "miss_rate",
    "weighted_late_hours",
    "wait_p95_s",
    "wait_p99_s",
    "late_cvar95_s",
    "violations",
)
"""Figures whose means a report holds."""
_LEAST_USD: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Played:
    """Figures of one case.

    Attributes:
        group: Group of the case.
        outcomes: Per contestant one batch of episodes per training seed.
        bound_usd: Lower bound of the cost under any policy, shape (episodes,); NaN where it is not known.
    """

    group: str
    outcomes: Mapping[str, Sequence[EpisodeMetrics]]
    bound_usd: Array = field(default_factory=lambda: np.zeros(0))

    def costs(self, name: str) -> Array:
        """Cost of a contestant, shape (training seeds, episodes), US dollars."""
        return np.maximum(np.stack([outcome.cost_usd for outcome in self.outcomes[name]]), _LEAST_USD)

    def ratios(self, name: str, rival: str) -> Array:
        """Cost over the rival's in the episodes that both played, shape (training seeds, episodes)."""
        ours, theirs = self.costs(name), self.costs(rival)[:1]
        both = min(ours.shape[1], theirs.shape[1])
        return ours[:, :both] / theirs[:, :both]


Results = Mapping[str, Played]


def names_of(results: Results) -> list[str]:
    """The contestants."""
    return list(next(iter(results.values())).outcomes)


def compare(results: Results, name: str, rival: str) -> dict[str, Any]:
    """Paired comparison of one contestant with another over all cases."""
    ratios = {case: played.ratios(name, rival) for case, played in results.items()}
    tables = list(ratios.values())
    flat = np.concatenate([ratio.ravel() for ratio in tables])
    groups = sorted({played.group for played in results.values()})
    return {
        "ratio": geometric_ratio(tables)._asdict(),
        "iqm_ratio": interquartile_ratio(tables)._asdict(),
        "probability_of_improvement": probability_of_improvement(flat),
        "profile": dict(zip(map(str, PROFILE_AT), performance_profile(flat, PROFILE_AT), strict=True)),
        "episodes": min(table.shape[1] for table in tables),
        "groups": {
            group: geometric_ratio([ratios[case] for case in ratios if results[case].group == group])._asdict()
            for group in groups
        },
        "cases": {case: geometric_ratio([ratio])._asdict() for case, ratio in ratios.items()},
    }


def against_bound(results: Results, name: str) -> dict[str, Any] | None:
    """Paired ratio of a contestant to the lower bound, over the cases for which there is one."""
    ratios = {}
    for case, played in results.items():
        cost = played.costs(name)
        bound = played.bound_usd[: cost.shape[1]]
        known = np.isfinite(bound) & (bound > 0)
        if known.any():
            ratios[case] = cost[:, : len(bound)][:, known] / bound[known]
    if not ratios:
        return None
    return {
        "ratio": geometric_ratio(list(ratios.values()))._asdict(),
        "cases": {case: geometric_ratio([ratio])._asdict() for case, ratio in ratios.items()},
    }


def best_rule(results: Results, rules: Sequence[str]) -> str:
    """The single rule with the smallest mean log cost over all cases."""
    return min(rules, key=lambda name: np.mean([np.log(played.costs(name)).mean() for played in results.values()]))


def gap_closed(results: Results, name: str) -> float | None:
    """Share of the gap from the tuned rule to the clairvoyant planner that is closed, in logarithms of cost.

    Over the episodes that the planner has played; None if the planner is not better than the tuned rule.
    """
    logs = []
    for policy in (name, CLAIRVOYANT):
        means = []
        for played in results.values():
            both = min(played.costs(each).shape[1] for each in (name, CLAIRVOYANT, TUNED))
            means.append(np.log(played.ratios(policy, TUNED)[:, :both]).mean())
        logs.append(float(np.mean(means)))
    ours, best = logs
    return ours / best if best < 0 else None


def summary(results: Results, ours: str, rules: Sequence[str]) -> dict[str, float]:
    """The figures of a report, by name."""
    names = names_of(results)
    figures: dict[str, float] = {}

    def put(figure: str, rival: str) -> None:
        interval = compare(results, ours, rival)["ratio"]
        figures[figure], figures[f"{figure}_hi"] = interval["value"], interval["high"]

    single = [name for name in rules if name in names]
    if single:
        put("ratio_vs_best_rule", best_rule(results, single))
        put("served_ratio_vs_best_rule", best_rule(results, single))
    if DEFAULT_RULE in names and ours != DEFAULT_RULE:
        put("served_ratio_vs_default_rule", DEFAULT_RULE)
        cases = compare(results, ours, DEFAULT_RULE)["cases"].values()
        figures["served_worst_case"] = max(case["value"] for case in cases)
    for figure, rival in (("ratio_vs_tuned", TUNED), ("ratio_vs_default", DEFAULT), ("ratio_vs_planner", CLAIRVOYANT)):
        if rival in names and rival != ours:
            put(figure, rival)
    if TUNED in names and ours != TUNED:
        cases = compare(results, ours, TUNED)["cases"].values()
        figures["worst_scenario_ratio"] = max(case["value"] for case in cases)
    figures |= _gaps(results, ours, names)
    if REGRESSED in names and ours != REGRESSED:
        put("ratio_vs_regression", REGRESSED)
    bound = against_bound(results, ours)
    if bound is not None:
        figures["ratio_vs_bound"] = bound["ratio"]["value"]
    figures["guard_violations"] = float(
        sum(outcome.violations.sum() for played in results.values() for outcome in played.outcomes[ours])
    )
    return figures


def _gaps(results: Results, ours: str, names: Sequence[str]) -> dict[str, float]:
    """The gap closed on clusters like those of the training and on recorded workloads."""
    if not {CLAIRVOYANT, TUNED} <= set(names):
        return {}
    trained = {case: played for case, played in results.items() if played.group in TRAINED} or results
    traces = {case: played for case, played in results.items() if played.group == "trace"}
    wanted = [("gap_closed", ours, trained), ("gap_closed_traces", ours, traces)]
    if SERVICE in names:
        wanted.append(("served_gap_closed", SERVICE, trained))
    if PLANNER in names:
        wanted += [("gap_closed_with_planner", PLANNER, trained), ("gap_closed_traces_with_planner", PLANNER, traces)]
    gaps = {figure: gap_closed(chosen, name) for figure, name, chosen in wanted if chosen}
    return {figure: gap for figure, gap in gaps.items() if gap is not None}


def verdict(figures: Mapping[str, float]) -> str:
    """The claim that the figures support."""
    if not {"ratio_vs_best_rule_hi", "ratio_vs_tuned_hi", "worst_scenario_ratio"} <= set(figures):
        return "no claim: compare with 'rules' and 'tuned' to make one"
    if not (figures["ratio_vs_best_rule_hi"] < 1 and figures["ratio_vs_tuned_hi"] < 1):
        return "no proven gain"
    if figures["guard_violations"] > 0:
        return f"no proven gain: {figures['guard_violations']:.0f} decisions broke a bound of the guard"
    if figures["worst_scenario_ratio"] > WORST_PERMITTED:
        return f"gain proven over all cases, but one case is worse than {WORST_PERMITTED} of the tuned rule"
    return "gain proven"


def means(played: Played, bound: bool = True) -> dict[str, dict[str, float]]:
    """Mean figures of every contestant in one case, and of the bound."""
    found = {
        name: {figure: float(np.mean([getattr(one, figure) for one in seeds])) for figure in REPORTED}
        for name, seeds in played.outcomes.items()
    }
    known = played.bound_usd[np.isfinite(played.bound_usd)]
    if bound and known.size:
        found["lower bound"] = {"cost_usd": float(known.mean())}
    return found


def interval_text(interval: Mapping[str, float] | ConfidenceInterval) -> str:
    """An interval as text, "value [low, high]"."""
    found = interval._asdict() if isinstance(interval, ConfidenceInterval) else interval
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
