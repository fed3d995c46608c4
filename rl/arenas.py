"""The arena as it is set up for tuning, teaching, training and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin

INTERVAL_S: Final = 120.0
"""Seconds between decisions."""
GUARD: Final = GuardSettings(interval_s=INTERVAL_S, step_fraction=2.0, step_slots=8.0)
"""What the guard permits."""
MOST_STEPS: Final = 1200
"""Decisions after which what is left of a day runs out by itself."""
_CROWDED: Final = 0.7
"""Worlds that are over are dropped from a batch when fewer than this share go on."""


def open_arena(world: World, base: RulePolicy | None = None, threads: int = 1) -> ClosedLoop:
    """A batch of worlds at its beginning; `base` is the rule that may be followed or corrected."""
    return ClosedLoop(Twin(world, threads=threads), GUARD, INTERVAL_S, base)


def spent_usd(world: World, *policies: Policy) -> Array:
    """What each world costs under each policy, shape (policies, worlds, 3), US dollars.

    The same as `ClosedLoop.play` for one policy after the other, sooner: all are played in one batch, and since a few
    days last much longer than the others, those that are over are left out of the steps.
    """
    count = world.n_worlds
    arena = open_arena(World(*(np.concatenate([table] * len(policies)) for table in world)))
    rows = np.arange(count * len(policies))
    spent = np.zeros((rows.size, 3))
    for _ in range(MOST_STEPS):
        running = arena.running
        if not running.any():
            break
        if running.mean() < _CROWDED:
            spent[rows[~running]] = arena.twin.money[~running]
            arena, rows = arena.fork(np.flatnonzero(running)), rows[running]
        arena.step(_propose(policies, rows // count, arena.census))
    arena.twin.finish()
    spent[rows] = arena.twin.money
    return spent.reshape(len(policies), count, 3)


def _propose(policies: Sequence[Policy], whose: npt.NDArray[np.int64], census: Census) -> Proposal:
    """What each policy proposes for its own rows, which follow one another."""
    if len(policies) == 1:
        return policies[0].propose(census)
    cuts = np.searchsorted(whose, np.arange(len(policies) + 1))
    parts = [
        policy.propose(Census(census.queues[first:behind], census.pool[first:behind]))
        for policy, (first, behind) in zip(policies, pairwise(cuts), strict=True)
        if first < behind
    ]
    return Proposal(*(np.concatenate([getattr(part, name) for part in parts]) for name in Proposal.__slots__))
