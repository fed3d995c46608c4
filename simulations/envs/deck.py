"""Worlds drawn ahead, with what the base rule spends in them, to which rewards are relative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from simulations.arrivals import HOUR_S
from simulations.family import Family
from simulations.play import BudgetedLoop
from simulations.scenario import load_scenario
from simulations.workload import Scenario

DRAIN_HOURS: Final = 0.2
"""Time at the end of a day, after the last arrival, for which decisions go on."""
_DAYS: Final = 8
"""Days that are drawn of each seed."""
_TOGETHER: Final = 64
LEAST_USD: Final = 1e-6
"""Costs of a day below this count as this."""


class Source(Protocol):
    """Where worlds come from: a `Scenario`, a `Family`, or anything like them."""

    @property
    def hours(self) -> float:
        """Length of the time in which runs arrive."""

    def world(self, seed: int, day: int, /) -> World:
        """The world of a seed and a day."""


def find_source(scenario: str | Path | Source) -> Source:
    """The source of a scenario's name or file, or of "family"; a source itself.

    Raises:
        UnknownNameError: There is no such scenario.
        InvalidInputError: The file cannot be used.
    """
    if not isinstance(scenario, str | Path):
        return scenario
    return Family() if str(scenario) == "family" else load_scenario(scenario)


def decisions_per_day(hours: float, regime: Regime) -> int:
    """Decisions from the first arrival to a little after the last."""
    return math.ceil((hours + DRAIN_HOURS) * HOUR_S / regime.interval_s)


def start_loop(twin: Twin, source: Source, regime: Regime, base: RulePolicy, guarded: bool) -> BudgetedLoop:
    """The closed loop in which actions and the base rule are played."""
    budget = source.budget_slots if isinstance(source, Scenario) else None
    return BudgetedLoop(twin, regime, budget, base, guarded=guarded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """Worlds, and what the base rule spends in each.

    Attributes:
        worlds: The worlds, one each, as large as they are.
        largest: Some of them that have, together, the most rows of every table.
        spent_usd: What the base rule has spent after each step, shape (worlds, steps + 1), US dollars.
        total_usd: What it spends in the whole day, shape (worlds,).
    """

    worlds: Sequence[World]
    largest: Sequence[World]
    spent_usd: Array
    total_usd: Array

    @property
    def steps(self) -> int:
        """Steps in a day."""
        return int(self.spent_usd.shape[1]) - 1

    def deal(self, first: int, count: int) -> tuple[World, npt.NDArray[np.int64]]:
        """So many worlds from number `first` on, begun again after the last, and their numbers.

        Tables are as large as the largest of the deck, and longer by some rows of other worlds.
        """
        numbers = (first + np.arange(count, dtype=np.int64)) % len(self.worlds)
        return stack([*(self.worlds[int(number)] for number in numbers), *self.largest]), numbers


def draw_deck(
    source: Source,
    seeds: range,
    *,
    count: int,
    deck_seed: int,
    regime: Regime,
    hold: int,
    base: RulePolicy,
    guarded: bool,
) -> Deck:
    """Draw worlds and play the base rule in them.

    Args:
        source: Where they come from.
        seeds: The split from which their seeds are drawn.
        count: How many.
        deck_seed: Seed of that draw.
        regime: How the rule is run.
        hold: Decisions per step.
        base: The rule.
        guarded: Whether it passes the guard.
    """
    rng = np.random.default_rng([deck_seed, 5])
    drawn = zip(rng.integers(len(seeds), size=count).tolist(), rng.integers(_DAYS, size=count).tolist(), strict=True)
    worlds = [source.world(seeds[seed], day) for seed, day in drawn]
    steps = math.ceil(decisions_per_day(source.hours, regime) / hold)
    spent, total = [], []
    for first in range(0, count, _TOGETHER):
        loop = start_loop(Twin(stack(worlds[first : first + _TOGETHER])), source, regime, base, guarded)
        column = [loop.spent_usd]
        for _ in range(steps):
            for _ in range(hold):
                loop.follow()
            column.append(loop.spent_usd)
        spent.append(np.stack(column, axis=1))
        loop.twin.finish()
        total.append(loop.spent_usd)
    return Deck(
        worlds=worlds,
        largest=_largest(worlds),
        spent_usd=np.concatenate(spent),
        total_usd=np.concatenate(total),
    )


def _largest(worlds: Sequence[World]) -> list[World]:
    """For each table and axis a world with the most rows."""
    found: dict[int, World] = {}
    for name in World._fields:
        for axis in range(1, getattr(worlds[0], name).ndim):
            number = max(range(len(worlds)), key=lambda each: getattr(worlds[each], name).shape[axis])
            found[number] = worlds[number]
    return list(found.values())
