"""Worlds drawn ahead, with the cost of the base rule in each, to which rewards are relative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.model.world import World, stack
from prefect_intelligent.twin.simulator import Twin
from simulations.play import BudgetedLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """Drawn worlds and the cost of the base rule in them.

    Attributes:
        world: The worlds, one row each.
        seeds: Seed of each.
        end_s: Instant of the last arrival, shape (n,).
        base_usd: Cost of the base rule so far after each decision, shape (n, decisions + 1), US dollars.
    """

    world: World
    seeds: tuple[int, ...]
    end_s: Array
    base_usd: Array

    @property
    def scale_usd(self) -> Array:
        """Mean cost of the base rule per decision, shape (n,), US dollars; at least a tenth of a cent."""
        mean: Array = np.maximum(self.base_usd[:, -1] / max(1, self.base_usd.shape[1] - 1), 1e-3)
        return mean


def draw_deck(
    worlds: Sequence[World],
    seeds: Sequence[int],
    *,
    hours: float,
    base: RulePolicy,
    decision_s: float,
    guard: GuardSettings | None,
    budget_slots: int | None = None,
) -> Deck:
    """Play the base rule in the given worlds to the end of their hours.

    Args:
        worlds: One per seed.
        seeds: Their seeds.
        hours: Length of each.
        base: The rule.
        decision_s: Time between two decisions.
        guard: What is permitted; None applies proposals as they are.
        budget_slots: See `BudgetedLoop`.
    """
    world = stack(list(worlds))
    twin = Twin(world)
    loop = BudgetedLoop(twin, guard, decision_s, budget_slots, base)
    start_s = twin.now_s.copy()
    usd = [twin.money.sum(axis=1)]
    for number in range(1, int(np.ceil(hours * 3600.0 / decision_s)) + 1):
        loop.follow(start_s + number * decision_s)
        usd.append(twin.money.sum(axis=1))
    return Deck(world=world, seeds=tuple(seeds), end_s=start_s + hours * 3600.0, base_usd=np.stack(usd, axis=1))
