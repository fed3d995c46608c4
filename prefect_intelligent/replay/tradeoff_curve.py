"""Capacity cost against lateness cost of the policy in charge, for several weights of lateness.

The weight is `lateness_weight`, also called the dial. Lateness is always counted at its unweighted price, so that the
points can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.replay.replay import REFERENCE, ReplayResult, replay
from prefect_intelligent.twin.spec import PoolSpec

KIND: Final = "front"
DIALS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights tried, as multiples of the one in force."""


def tradeoff_curve(
    runs: pd.DataFrame,
    pool: PoolSpec,
    policies: Mapping[str, Policy],
    policy: str,
    *,
    regime: Regime,
    dials: Sequence[float] = DIALS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Points of the curve: `name`, `dial` (None for other policies), `capacity_usd`, `lateness_usd`, `here`.

    Args:
        runs: Table of `history.runs_frame`.
        pool: The pool as it is set today, with its prices.
        policies: Name to policy; must contain the reference of a replay.
        policy: Name of the one in charge; it is replayed with every weight, the others with today's.
        regime: How often is decided and what is permitted, the same for all.
        dials: Multiples of the weight in force.
        seed: See `replay`.
    """
    points: list[dict[str, Any]] = []
    now = pool.prices.lateness_weight
    for dial in dict.fromkeys((1.0, *dials)):
        weight = now * dial
        priced = replace(pool, prices=replace(pool.prices, lateness_weight=weight))
        asked = policies if dial == 1.0 else {REFERENCE: policies[REFERENCE], policy: policies[policy]}
        found = {each.policy: each for each in replay(runs, priced, asked, regime=regime, seed=seed)}
        points.append(_point(found[policy], weight, here=dial == 1.0, dial=weight))
        if dial == 1.0:
            points += [_point(each, weight, here=False, dial=None) for name, each in found.items() if name != policy]
    return points


def _point(found: ReplayResult, weight: float, *, here: bool, dial: float | None) -> dict[str, Any]:
    return {
        "name": found.policy,
        "dial": dial,
        "capacity_usd": found.cost.capacity_usd,
        "lateness_usd": found.cost.lateness_usd / weight if weight > 0 else 0.0,
        "here": here,
    }
