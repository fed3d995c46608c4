"""From days played on a server and in the twin to figures: paired cost ratios, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.live.arms import AGENT, DEFAULT, RULE
from benchmarks.live.real_day import LiveDay
from prefect_intelligent.domain import Cost
from prefect_intelligent.policy.census import Array
from rl.evaluation.statistics import geometric_ratio

MOST_DELAY: Final = 1.25
"""Largest mean time between two polls or decisions, over what it should be, of a machine that keeps up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDay:
    """A day under every arm.

    Attributes:
        seed: What it was drawn from.
        live: What happened on the server, by arm.
        twin: What it costs in the twin, by arm; once for each way in which the polls may fall.
    """

    seed: int
    live: Mapping[str, LiveDay]
    twin: Mapping[str, Sequence[Cost]]

    def live_usd(self, arm: str) -> float:
        """Cost on the server."""
        return self.live[arm].cost.total_usd

    def twin_usd(self, arm: str) -> float:
        """Mean cost in the twin."""
        return float(np.mean([cost.total_usd for cost in self.twin[arm]]))


def figures_of(days: Sequence[PairedDay]) -> dict[str, float]:
    """The figures of some days, all with the same arms."""
    arms = list(days[0].live)
    figures: dict[str, float] = {"live_days": float(len(days))}
    live = {arm: np.array([day.live_usd(arm) for day in days]) for arm in arms}
    twin = {arm: np.array([day.twin_usd(arm) for day in days]) for arm in arms}
    for name, ours, rival in (
        ("ratio_vs_default", AGENT, DEFAULT),
        ("ratio_vs_rule", AGENT, RULE),
        ("rule_ratio_vs_default", RULE, DEFAULT),
    ):
        if ours in arms and rival in arms:
            figures |= _ratio(f"live_{name}", live[ours] / live[rival])
            figures |= _ratio(f"twin_{name}", twin[ours] / twin[rival])
    errors = {arm: live[arm] / twin[arm] - 1.0 for arm in arms}
    figures["live_vs_twin_error"] = float(np.mean([np.abs(error).mean() for error in errors.values()]))
    for arm, error in errors.items():
        figures[f"live_vs_twin_error_{arm}"] = float(np.abs(error).mean())
        figures[f"live_vs_twin_bias_{arm}"] = float(np.exp(np.log1p(error).mean()) - 1.0)
    return figures


def _ratio(name: str, ratios: Array) -> dict[str, float]:
    """Geometric mean of paired ratios, with the ends of its 95 % bootstrap interval."""
    found = geometric_ratio([ratios])
    return {name: found.value, f"{name}_lo": found.low, f"{name}_hi": found.high}


def kept_up(days: Sequence[PairedDay], *, poll_s: float, interval_s: float) -> float:
    """Share of the days and arms in which worker and controller came as often as they should; 0 to 1.

    Args:
        days: The days.
        poll_s: Seconds between two polls of the pool's worker.
        interval_s: Longest time between two decisions.
    """
    return float(np.mean([_kept_up(live, poll_s, interval_s) for day in days for live in day.live.values()]))


def _kept_up(live: LiveDay, poll_s: float, interval_s: float) -> bool:
    polled = live.polled_every_s is not None and live.polled_every_s <= MOST_DELAY * poll_s
    decided = live.decisions == 0 or (live.decided_every_s or live.lasted_s) <= MOST_DELAY * interval_s
    return polled and decided


def describe_days(days: Sequence[PairedDay]) -> list[dict[str, Any]]:
    """Every day under every arm, JSON-ready: costs in US dollars, and how the server and the processes kept up."""
    return [
        {
            "seed": day.seed,
            "arm": arm,
            "usd": round(live.cost.total_usd, 4),
            "capacity_usd": round(live.cost.capacity_usd, 4),
            "lateness_usd": round(live.cost.lateness_usd, 4),
            "twin_usd": round(day.twin_usd(arm), 4),
            "twin_usd_spread": round(float(np.std([cost.total_usd for cost in day.twin[arm]])), 4),
            **{name: _rounded(getattr(live, name)) for name in LiveDay.__slots__ if name not in ("cost", "runs")},
        }
        for day in days
        for arm, live in day.live.items()
    ]


def speed_error(slow: Sequence[LiveDay], fast: Sequence[LiveDay]) -> float:
    """Mean relative difference of the cost in fast time from that of the same day at factor 1."""
    pairs = zip(slow, fast, strict=True)
    return float(np.mean([abs(quick.cost.total_usd / real.cost.total_usd - 1.0) for real, quick in pairs]))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
