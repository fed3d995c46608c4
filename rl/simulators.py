"""The arena as it is set up for tuning, teaching, training and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.engine.world import World
from prefect_intelligent.twin.planner import Planner
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.watched import WatchedArena
from simulations.metrics import EpisodeMetrics, measure
from simulations.regime import TRAINING_GUARD, TRAINING_INTERVAL_S

MOST_STEPS: Final = 1200
"""Decisions after which what is left of a day runs out by itself."""
_CROWDED: Final = 0.7
"""Worlds that are over are dropped from a batch when fewer than this share go on."""


def start_closed_loop(world: World, base: RulePolicy | None = None, threads: int = 1) -> ClosedLoop:
    """A batch of worlds at its beginning; `base` is the rule that may be followed or corrected."""
    return ClosedLoop(Twin(world, threads=threads), TRAINING_GUARD, TRAINING_INTERVAL_S, base)


def play(world: World, policy: Policy | Planner) -> EpisodeMetrics:
    """Play a batch of episodes to their end under a policy and the guard."""
    loop = WatchedArena(Twin(world), TRAINING_GUARD, TRAINING_INTERVAL_S)
    if isinstance(policy, Planner):
        policy.play(loop)
    else:
        loop.play(policy)
    return measure(loop.twin, loop.violations)


def spent_usd(world: World, *policies: Policy) -> Array:
    """What each world costs under each policy, shape (policies, worlds, 3), US dollars.

    The same as `ClosedLoop.play` for one policy after the other, sooner: all are played in one batch, and since a few
    days last much longer than the others, those that are over are left out of the steps.
    """
    count = world.n_worlds
    arena = start_closed_loop(World(*(np.concatenate([table] * len(policies)) for table in world)))
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
