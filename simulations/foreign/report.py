"""All comparisons with foreign code as one table of figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulations.foreign.jobshop import compare_jobshops, instances
from simulations.foreign.networks import compare_networks
from simulations.foreign.nodes import compare_nodes
from simulations.foreign.shop_planner import plan_shops

CUSTOMERS: Final = 4000
CAPACITY_WORLDS: Final = 200
_NEEDED: Final[Mapping[str, tuple[float, float]]] = {
    "jobshop_makespan_agree": (1.0, 1.0),
    "jobshop_starts_agree": (1.0, 1.0),
    "ciw_starts_agree": (1.0, 1.0),
    "ciw_ends_error_s": (0.0, 1e-6),
    "nodes_cost_error": (0.0, 1e-9),
    "nodes_starts_error_s": (0.0, 1e-6),
}
"""Least and largest value of the figures that say whether the twin agrees."""


def compare(seed: int) -> dict[str, float]:
    """Every figure of the comparisons; some minutes, most of which the planner takes."""
    shops = instances()
    others = compare_networks(CUSTOMERS, seed) | compare_nodes(CAPACITY_WORLDS, seed)
    return compare_jobshops(shops) | plan_shops(shops) | others


def disagreements(figures: Mapping[str, float]) -> list[str]:
    """What the twin and the others do not agree about, a sentence for each figure."""
    wrong = [
        f"{name} is {figures[name]:g} and has to be between {least:g} and {most:g}"
        for name, (least, most) in _NEEDED.items()
        if not least <= figures[name] <= most
    ]
    planner, rule = figures["jobshop_planner_gap"], figures["jobshop_best_rule_gap"]
    if not planner < rule:
        wrong.append(f"jobshop_planner_gap is {planner:g} and has to be below jobshop_best_rule_gap, {rule:g}")
    return wrong
