"""Worlds drawn ahead for training, with what the base rule costs in each: the yardstick of the reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.model.world import World, stack
from prefect_intelligent.twin.simulator import Twin
from simulations.play import Steered


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """Drawn worlds and the base rule's money in them.

    Attributes:
        world: The worlds, one row each.
        seeds: Which seed made each.
        end_s: When the last run may come, shape (n,).
        base_usd: What the base rule has cost after each decision, shape (n, decisions + 1).
    """

    world: World
    seeds: tuple[int, ...]
    end_s: Array
    base_usd: Array

    @property
    def scale_usd(self) -> Array:
        """What the base rule costs per decision on average, shape (n,); at least a tenth of a cent."""
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
    """Let the base rule run the worlds of some seeds to the end of their hours."""
    world = stack(list(worlds))
    twin = Twin(world)
    arena = Steered(twin, guard, decision_s, budget_slots, base)
    start_s = twin.now_s.copy()
    usd = [twin.money.sum(axis=1)]
    for number in range(1, int(np.ceil(hours * 3600.0 / decision_s)) + 1):
        arena.follow(start_s + number * decision_s)
        usd.append(twin.money.sum(axis=1))
    return Deck(world=world, seeds=tuple(seeds), end_s=start_s + hours * 3600.0, base_usd=np.stack(usd, axis=1))
