"""The cost of a world computed a second way: from its event log alone, with the formulas of `domain.objective`."""

from __future__ import annotations

import math

import numpy as np

from prefect_intelligent.domain import Cost
from prefect_intelligent.domain.objective import busy_usd, idle_usd, lateness_usd
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model.state import CRASHED, FAILED
from prefect_intelligent.twin.model.world import Table, World


def cost_of_log(world: World, log: Table, row: int = 0, until_s: float | None = None) -> Cost:
    """The cost of a world by its log.

    Args:
        world: The batch.
        log: The complete log of one of its worlds, in which every run has ended.
        row: Which world.
        until_s: Until when slots are paid for; None for the last entry.

    Raises:
        InvalidInputError: Nodes have a minimum billing; a log does not say when each node was ordered.
    """
    if np.any(world.pools["node_min_billing_s"][row] > 0):
        raise InvalidInputError("node_min_billing_s", "above 0", "a log does not say when each node was ordered")
    pools = range(world.pools.shape[1])
    lateness, failure = _lateness_and_failure_usd(world, log, row)
    return Cost(
        capacity_usd=sum(_capacity_usd(world, log, row, pool, until_s) for pool in pools),
        lateness_usd=lateness,
        failure_usd=failure,
    )


def _lateness_and_failure_usd(world: World, log: Table, row: int) -> tuple[float, float]:
    """What the runs that are over cost for being late, and for having failed."""
    weight = float(world.settings["lateness_weight"][row])
    lateness = failure = 0.0
    for done in log[log["kind"] == kinds.DONE]:
        deployment = world.deployments[row, world.runs["deployment"][row, done["run"]]]
        late_s = float(done["value"])
        if math.isfinite(late_s):
            lateness += lateness_usd(late_s, float(deployment["late_usd_per_hour"]), weight)
        if done["where"] in (FAILED, CRASHED):
            failure += float(deployment["failure_usd"])
    return lateness, failure


def _capacity_usd(world: World, log: Table, row: int, pool: int, until_s: float | None) -> float:
    """What the slots of a pool cost, summed from entry to entry, and what is missing to the minimum billing."""
    spec = world.pools[row, pool]
    takes_slot = kinds.PLACED if spec["claims_ahead"] else kinds.CLAIMED
    usd_per_hour = owned = total = 0.0
    held = 0
    at_s = float(world.settings["start_s"][row])

    def span_usd(span_s: float) -> float:
        """Cost of a time in which `held` of `owned` slots are in use."""
        usd = held * busy_usd(span_s, usd_per_hour, 0.0) if span_s > 0 else 0.0
        if spec["owned"]:
            usd += idle_usd(span_s * max(owned - held, 0.0), usd_per_hour, float(spec["idle_fraction"]))
        return usd

    for entry in log:
        total += span_usd(float(entry["at_s"]) - at_s)
        at_s = float(entry["at_s"])
        kind, value = entry["kind"], float(entry["value"])
        if kind == kinds.OWNED and entry["where"] == pool:
            owned = value
        elif kind == kinds.PRICED and entry["where"] == pool:
            usd_per_hour = value
        elif kind == takes_slot and _pool_of(world, row, entry["run"]) == pool:
            held += 1
        elif kind == kinds.ENDED and _pool_of(world, row, entry["run"]) == pool:
            held -= 1
            if not spec["owned"]:
                total += busy_usd(max(float(spec["min_billing_s"]) - value, 0.0), usd_per_hour, 0.0)
    return total if until_s is None else total + span_usd(until_s - at_s)


def _pool_of(world: World, row: int, run: int) -> int:
    """The pool of a run."""
    return int(world.runs["queue"][row, run]) // world.width
