"""Batches of worlds played to the end in a regime, and their cost."""

from __future__ import annotations

from typing import Final

import numpy as np

from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.planner import Planner, propose_by
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.futures import TwinFutures
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from rl.service import Service, play_service
from simulations.metrics import EpisodeMetrics, measure

_LEAST_RUNNING: Final = 0.7
"""Finished worlds are dropped from a batch when a smaller share than this still runs."""


def play(
    world: World, policy: Policy | Service, regime: Regime, *, clairvoyant: bool = False, seed: int = 0
) -> EpisodeMetrics:
    """Play a batch of episodes to their end under a policy and the guard.

    Args:
        world: The episodes.
        policy: What decides.
        regime: How.
        clairvoyant: Whether a planner knows what will truly happen; else its futures are drawn.
        seed: Of those draws.
    """
    if isinstance(policy, Service):
        return play_service(world, policy, regime)
    loop = ClosedLoop(Twin(world), regime, audit=True)
    if isinstance(policy, Planner):
        play_planner(loop, policy, None if clairvoyant else np.random.default_rng(seed))
    else:
        loop.play(policy)
    return measure(loop.twin, loop.violations)


def play_planner(loop: ClosedLoop, planner: Planner, rng: np.random.Generator | None) -> None:
    """Let a planner decide until every run is over.

    Args:
        loop: The worlds.
        planner: What decides; its choices are kept for `every_s`.
        rng: Draws its futures; None gives it the true ones.
    """
    every = max(1, round(planner.config.every_s / loop.regime.interval_s))
    chosen = np.zeros(len(loop.census.pool), dtype=np.int64)
    for number in range(loop.regime.most_decisions):
        running = np.flatnonzero(loop.running)
        if running.size == 0:
            break
        if number % every == 0:
            source = TwinFutures(loop=loop, rows=running, rng=rng, step_s=planner.config.step_s)
            found = planner.estimate(source)
            chosen[running] = 0 if found is None else found.best(planner.config.margin, planner.config.doubt)
        loop.step(planner.propose_chosen(loop.census, chosen))
    loop.twin.finish()


def spent_usd(world: World, regime: Regime, *policies: Policy) -> Array:
    """What each world costs under each policy, shape (policies, worlds, 3), US dollars.

    The result is that of `ClosedLoop.play` for one policy after the other. It takes less time, because all are played
    in one batch, from which finished worlds are dropped (a few days last much longer than the others).
    """
    count = world.n_worlds
    loop = ClosedLoop(Twin(World(*(np.concatenate([table] * len(policies)) for table in world))), regime)
    rows = np.arange(count * len(policies))
    spent = np.zeros((rows.size, 3))
    for _ in range(regime.most_decisions):
        running = loop.running
        if not running.any():
            break
        if running.mean() < _LEAST_RUNNING:
            spent[rows[~running]] = loop.twin.money[~running]
            loop, rows = loop.fork(np.flatnonzero(running)), rows[running]
        loop.step(propose_by(policies, rows // count, loop.census))
    loop.twin.finish()
    spent[rows] = loop.twin.money
    return spent.reshape(len(policies), count, 3)
