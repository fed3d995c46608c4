"""Why a learned policy departs from its base rule: its corrections, their predicted savings, the features behind them.

A feature's contribution is the change of a correction's predicted saving when the feature is set to its mean over the
training data (a finite difference, feature by feature). Contributions need not add up to the whole saving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefect_intelligent.policy.actions import (
    CAPACITY_FACTORS,
    NEUTRAL_CAPACITY,
    NEUTRAL_PLACE,
    NEUTRAL_SHARE,
    PLACES,
    SHARES,
)
from prefect_intelligent.policy.census import Census
from prefect_intelligent.policy.encoding import POOL_FEATURES, QUEUE_FEATURES, Observation
from prefect_intelligent.policy.learned import LearnedPolicy, is_sound
from prefect_intelligent.policy.network import Gains, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One departure from the base rule.

    Attributes:
        queue: Row of the queue in the census; None for the pool.
        what: The correction in words.
        saves: Predicted saving, in hours of the pool's mean cost.
        because: The features with the largest contributions to `saves`, with their contributions, largest first.
    """

    queue: int | None
    what: str
    saves: float
    because: tuple[tuple[str, float], ...]

    def sentence(self) -> str:
        """The correction in one line."""
        why = ", ".join(f"{name} {value:+.3f}" for name, value in self.because)
        return f"{self.what}: should save {self.saves:.3f} hours of mean cost ({why})"


def explain(policy: LearnedPolicy, census: Census, most: int = 3) -> tuple[Correction, ...]:
    """The corrections of one pool's decision.

    Args:
        policy: The policy.
        census: One pool, no batch dimension.
        most: Features named per correction.
    """
    _, seen, gains = policy.predict(census)
    if not is_sound(seen, gains):
        return ()  # the rule decides alone
    levels = choose(gains, policy.margin)
    found: list[Correction] = []
    if levels.capacity != NEUTRAL_CAPACITY:
        level = int(levels.capacity)
        what = f"pool limit x {CAPACITY_FACTORS[level]:g}"
        found.append(_correction(policy, seen, gains, 0, None, level, what, most))
    for queue in np.flatnonzero(seen.mask):
        row = int(queue)
        if levels.place[row] != NEUTRAL_PLACE:
            level = int(levels.place[row])
            what = "served in front of the others" if PLACES[level] > 0 else "served behind the others"
            found.append(_correction(policy, seen, gains, 1, row, level, what, most))
        if levels.share[row] != NEUTRAL_SHARE:
            level = int(levels.share[row])
            what = f"at most {SHARES[level]:.0%} of the pool"
            found.append(_correction(policy, seen, gains, 2, row, level, what, most))
    return tuple(found)


def _correction(
    policy: LearnedPolicy,
    seen: Observation,
    gains: Gains,
    head: int,
    queue: int | None,
    level: int,
    what: str,
    most: int,
) -> Correction:
    """One correction with its most important features."""
    place = (level,) if queue is None else (queue, level)
    saves = float(gains[head][place])
    names, occluded = _occluded(policy, seen, queue)
    predicted = policy.network.gains(occluded)[head]
    without = predicted[(slice(None), *place)]
    effect = saves - without
    order = np.argsort(-np.abs(effect))[:most]
    because = tuple((names[i], float(effect[i])) for i in order)
    return Correction(queue=queue, what=what, saves=saves, because=because)


def _occluded(policy: LearnedPolicy, seen: Observation, queue: int | None) -> tuple[list[str], Observation]:
    """A batch of observations, each with one feature at its mean; a queue feature of all queues if `queue` is None."""
    w = policy.network.weights
    count = len(POOL_FEATURES) + len(QUEUE_FEATURES)
    queues = np.repeat(seen.queues[None], count, axis=0)
    pool = np.repeat(seen.pool[None], count, axis=0)
    for i in range(len(POOL_FEATURES)):
        pool[i, i] = w["pool.mean"][i]
    for j in range(len(QUEUE_FEATURES)):
        rows = slice(None) if queue is None else queue
        queues[len(POOL_FEATURES) + j, rows, j] = w["queues.mean"][j]
    queues *= seen.mask[None, :, None]
    whose = "queues'" if queue is None else "queue's"
    names = [f"pool's {name}" for name in POOL_FEATURES] + [f"{whose} {name}" for name in QUEUE_FEATURES]
    return names, Observation(queues, pool, np.repeat(seen.mask[None], count, axis=0))
