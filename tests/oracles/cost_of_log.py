"""Money computed from an event log alone, with `domain.objective`: a second way to the figures of the kernel."""

from __future__ import annotations

import math

import numpy as np

from prefect_intelligent.domain import Cost
from prefect_intelligent.domain.objective import busy_usd, idle_usd, lateness_usd
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.model.world import Table, World


def cost_of_log(world: World, log: Table, row: int = 0, until_s: float | None = None) -> Cost:
    """What a log says that a world has cost.

    Args:
        world: The batch.
        log: The complete log of one of its worlds, in which every run has ended.
        row: Which world.
        until_s: When to stop paying for slots; None for the last entry.

    Raises:
        InvalidInputError: The worlds' nodes have a minimum billing, which a log does not tell.
    """
    if np.any(world.pools["node_min_billing_s"][row] > 0):
        raise InvalidInputError("node_min_billing_s", "above 0", "a log does not say when each node was ordered")
    weight = float(world.settings["lateness_weight"][row])
    capacity = sum(_capacity_usd(world, log, row, pool, until_s) for pool in range(world.pools.shape[1]))
    lateness = failure = 0.0
    for entry in log[log["kind"] == kinds.DONE]:
        terms = world.deployments[row, world.runs["deployment"][row, entry["run"]]]
        if math.isfinite(entry["value"]):
            lateness += lateness_usd(float(entry["value"]), float(terms["late_usd_per_hour"]), weight)
        if entry["where"] in (phases.FAILED, phases.CRASHED):
            failure += float(terms["failure_usd"])
    return Cost(capacity_usd=capacity, lateness_usd=lateness, failure_usd=failure)


def _capacity_usd(world: World, log: Table, row: int, pool: int, until_s: float | None) -> float:
    """Busy and idle slots of one pool, interval by interval, and minimum billing."""
    terms = world.pools[row, pool]
    total = price = owned = 0.0
    held = 0
    at_s = float(world.settings["start_s"][row])
    for entry in log:
        kind = entry["kind"]
        span_s = float(entry["at_s"]) - at_s
        total += held * busy_usd(span_s, price, 0.0) if span_s > 0 else 0.0
        if terms["owned"]:
            total += idle_usd(span_s * max(owned - held, 0.0), price, float(terms["idle_fraction"]))
        at_s = float(entry["at_s"])
        if kind in (kinds.OWNED, kinds.PRICED):
            if entry["where"] == pool:
                owned, price = (entry["value"], price) if kind == kinds.OWNED else (owned, entry["value"])
        elif kind in (kinds.SEATED, kinds.CLAIMED, kinds.ENDED) and _pool_of(world, row, entry["run"]) == pool:
            if kind == kinds.ENDED:
                held -= 1
                if not terms["owned"]:
                    short = max(float(terms["min_billing_s"]) - float(entry["value"]), 0.0)
                    total += busy_usd(short, float(price), 0.0)
            else:
                held += kind == (kinds.SEATED if terms["claims_ahead"] else kinds.CLAIMED)
    if until_s is not None:
        total += held * busy_usd(until_s - at_s, price, 0.0)
        if terms["owned"]:
            total += idle_usd((until_s - at_s) * max(owned - held, 0.0), price, float(terms["idle_fraction"]))
    return float(total)


def _pool_of(world: World, row: int, run: int) -> int:
    return int(world.runs["queue"][row, run]) // world.width
