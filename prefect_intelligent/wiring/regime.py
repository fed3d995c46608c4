"""The regime in which a controller with our settings runs a policy, and in what it differs from that of a bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.policy.bundle import IDLE_FRACTION, SHIPPED, Bundle, read_bundle
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.settings import BoundSettings, PoolSettings, Settings
from prefect_intelligent.steering.decide import LimitBounds

PLANNER = "planner"
"""Before a colon and a policy: that policy with a planner around it."""


def guard_of(settings: Settings) -> GuardSettings:
    """What the guard permits in every pool."""
    return GuardSettings(**settings.guard.model_dump())


def bounds_of(settings: Settings, pool: str) -> LimitBounds:
    """How far the limit of a pool may go."""
    own = settings.pools.get(pool, PoolSettings())
    return LimitBounds(least=own.least_slots, most=own.most_slots)


def pool_regime(settings: Settings, pool: str, queues: Sequence[QueueSetting], given: int | None) -> Regime:
    """How a controller runs a pool.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        queues: Its queues by name, the order in which the twin has them.
        given: The limit that people have given the pool, which steering may have lowered; None is unlimited.
    """
    own = settings.pools.get(pool, PoolSettings())
    bounds = [own.queues.get(queue.name, BoundSettings()) for queue in queues]
    least, most = bounds_of(settings, pool).of_pool(given)
    guard = GuardSettings(
        **settings.guard.model_dump(),
        pool_min=least,
        pool_max=most,
        queue_min=np.array([float(each.least) for each in bounds]),
        queue_max=np.array([math.inf if each.most is None else float(each.most) for each in bounds]),
    )
    return Regime(interval_s=settings.interval_s, guard=guard, pool_factor=math.inf)


def outside_regime(settings: Settings, pool: str, given: int | None = None) -> tuple[str, ...]:
    """In what a controller of the pool differs from its bundle's figures: regime, and price of unused slots.

    There is nothing to tell for rules and for bundles that do not say their regime.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        given: The limit that people gave the pool, where it is known.
    """
    named = settings.policy.removeprefix(f"{PLANNER}:")
    folder = SHIPPED if named == "shipped" else Path(named).expanduser()
    bundle = read_bundle(folder) if folder.is_dir() else None
    if bundle is None or bundle.regime is None:
        return ()
    most = settings.pools.get(pool, PoolSettings()).most_slots
    factor = max(1.0, most / given) if most and given else 1.0
    ours = Regime(interval_s=settings.interval_s, guard=guard_of(settings), pool_factor=factor)
    return (*ours.outside(bundle.regime), *_outside_prices(settings, pool, bundle))


def _outside_prices(settings: Settings, pool: str, bundle: Bundle) -> tuple[str, ...]:
    """Whether an unused slot costs nothing in one of both, the pool and the days of the bundle's figures."""
    free = settings.prices_of(pool).idle_fraction == 0
    was_free = bundle.evaluation.get(IDLE_FRACTION, 1.0) == 0  # bundles of before do not say: their days had prices
    if free == was_free:
        return ()
    if free:
        return ("an unused slot costs nothing, where it does on the days of the figures (prices.idle_fraction)",)
    return ("an unused slot costs something, where it does not on the days of the figures (prices.idle_fraction)",)
