"""Batches of worlds in the training regime: started, played to the end, and their cost."""

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
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.planner import Planner
from prefect_intelligent.twin.simulator import Twin
from simulations.metrics import EpisodeMetrics, measure
from simulations.regime import TRAINING_GUARD, TRAINING_INTERVAL_S

MOST_STEPS: Final = 1200
"""Decisions after which a day goes on without further ones."""
_LEAST_RUNNING: Final = 0.7
"""Finished worlds are dropped from a batch when a smaller share than this still runs."""


def start_closed_loop(world: World, base: RulePolicy | None = None, threads: int = 1) -> ClosedLoop:
    """A batch of worlds at its beginning.

    Args:
        world: The worlds.
        base: The rule that `follow` obeys and `act` corrects; None if neither is called.
        threads: Among how many threads the worlds are divided.
    """
    return ClosedLoop(Twin(world, threads=threads), TRAINING_GUARD, TRAINING_INTERVAL_S, base)


def play(world: World, policy: Policy | Planner) -> EpisodeMetrics:
    """Play a batch of episodes to their end under a policy and the guard."""
    loop = ClosedLoop(Twin(world), TRAINING_GUARD, TRAINING_INTERVAL_S, audit=True)
    if isinstance(policy, Planner):
        policy.play(loop)
    else:
        loop.play(policy)
    return measure(loop.twin, loop.violations)


def spent_usd(world: World, *policies: Policy) -> Array:
    """What each world costs under each policy, shape (policies, worlds, 3), US dollars.

    The result is that of `ClosedLoop.play` for one policy after the other. It takes less time, because all are played
    in one batch, from which finished worlds are dropped (a few days last much longer than the others).
    """
    count = world.n_worlds
    loop = start_closed_loop(World(*(np.concatenate([table] * len(policies)) for table in world)))
    rows = np.arange(count * len(policies))
    spent = np.zeros((rows.size, 3))
    for _ in range(MOST_STEPS):
        running = loop.running
        if not running.any():
            break
        if running.mean() < _LEAST_RUNNING:
            spent[rows[~running]] = loop.twin.money[~running]
            loop, rows = loop.fork(np.flatnonzero(running)), rows[running]
        loop.step(_propose(policies, rows // count, loop.census))
    loop.twin.finish()
    spent[rows] = loop.twin.money
    return spent.reshape(len(policies), count, 3)


def _propose(policies: Sequence[Policy], owner: npt.NDArray[np.int64], census: Census) -> Proposal:
    """The proposals of each policy for its own rows; `owner` is the policy of each row, ascending."""
    if len(policies) == 1:
        return policies[0].propose(census)
    cuts = np.searchsorted(owner, np.arange(len(policies) + 1))
    parts = [
        policy.propose(Census(census.queues[first:after], census.pool[first:after]))
        for policy, (first, after) in zip(policies, pairwise(cuts), strict=True)
        if first < after
    ]
    return Proposal(*(np.concatenate([getattr(part, name) for part in parts]) for name in Proposal.__slots__))
