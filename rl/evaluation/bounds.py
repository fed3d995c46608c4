"""Lower bounds of a world's cost under any policy, even one that knows the future.

The relaxation holds for worlds of any size: every run starts when it arrives, at full speed, in a slot that costs
nothing while it is idle. Its cost is that of the bare work, of the lateness that no number of slots could avoid, and of
failures that are not due to contention. For worlds of few runs an exact solver also takes the number of slots into
account (OR-Tools CP-SAT, `scheduled_usd`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import objective
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.model.world import AFTER_ALL, World
from prefect_intelligent.twin.simulator import Twin

FEW_RUNS: Final = 40
"""Runs up to which the exact bound is tried."""
_HOUR_S: Final = 3600.0


def relaxed_usd(world: World) -> Array:
    """The relaxation of every world of a batch, shape (worlds,), US dollars.

    NaN where runs may be cancelled instead of waiting: a cancelled run costs nothing, so the relaxation is no bound.
    """
    immediate = _played(_unlimited(world))
    without_prefetch = _unlimited(world)
    without_prefetch.pools["prefetch_s"] = 0.0  # a slot taken before the scheduled start is paid for
    capacity = _played(without_prefetch)[:, 0]
    total: Array = capacity + immediate[:, 1] + immediate[:, 2]
    cancels = np.isfinite(world.pools["room"]).any(1) | (world.deployments["cancels_new"] != 0).any(1)
    return np.where(cancels, np.nan, total)


def lower_bound_usd(world: World, *, seconds: float = 5.0) -> Array:
    """The best known bound of every world of a batch: the relaxation, or the exact one where runs are few.

    Args:
        world: The batch.
        seconds: For the solver, per world.
    """
    bound = relaxed_usd(world)
    for row in range(world.n_worlds):
        if world.settings["runs"][row] <= FEW_RUNS and math.isfinite(bound[row]) and _is_plain(world, row):
            bound[row] = max(bound[row], scheduled_usd(world, row, seconds=seconds))
    return bound


def scheduled_usd(world: World, row: int = 0, *, seconds: float = 5.0) -> float:
    """Least cost of running the runs of one world in at most the slots that can be bought, US dollars.

    A slot costs only while it works; runs never fail and work at full speed. Times are rounded to whole seconds such
    that the result stays a bound; if the solver runs out of time, it is the bound proved so far.

    Args:
        world: The batch.
        row: Which world.
        seconds: For the solver.
    """
    from ortools.sat.python import cp_model

    count = int(world.settings["runs"][row])
    runs, pool = world.runs[row, :count], world.pools[row, 0]
    price = float(world.prices["usd_per_hour"][row, 0, np.isfinite(world.prices["at_s"][row, 0]) | _first(world)].min())
    begin_s = float(world.settings["start_s"][row])
    busy = sum(objective.busy_usd(float(run["work_s"]), price, float(pool["min_billing_s"])) for run in runs)
    weight = float(world.settings["lateness_weight"][row])
    late_usd = world.deployments["late_usd_per_hour"][row][runs["deployment"]] * weight
    if not (late_usd > 0).any():
        return busy

    model = cp_model.CpModel()
    lengths = [max(1, math.floor(run["work_s"])) for run in runs]
    release = [max(0, math.floor(run["scheduled_s"] - pool["prefetch_s"] - begin_s)) for run in runs]
    horizon = max(release) + sum(lengths) + 1
    starts = [model.new_int_var(release[i], horizon, f"start{i}") for i in range(count)]
    spans = [model.new_fixed_size_interval_var(starts[i], lengths[i], f"run{i}") for i in range(count)]
    model.add_cumulative(spans, [1] * count, int(pool["max_slots"]))
    for upstream in range(count):
        first, edges = int(runs["first_edge"][upstream]), int(runs["edges"][upstream])
        for downstream in world.edges[row, first : first + edges]:
            model.add(starts[int(downstream)] >= starts[upstream] + lengths[upstream])
    scale = 1000.0 / float(late_usd.max())
    terms = []
    for i, run in enumerate(runs):
        if math.isfinite(run["due_s"]) and late_usd[i] > 0:
            late = model.new_int_var(0, horizon, f"late{i}")
            model.add(late >= starts[i] + lengths[i] - math.ceil(run["due_s"] - begin_s))
            terms.append(math.floor(late_usd[i] * scale) * late)
    model.minimize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.solve(model)
    return float(busy + max(0.0, solver.best_objective_bound) / scale / _HOUR_S)


def _is_plain(world: World, row: int) -> bool:
    """Whether `scheduled_usd` holds: one pool, no attempt fails or times out, and all due instants are fixed."""
    count = int(world.settings["runs"][row])
    terms = world.deployments[row]
    return bool(
        world.pools.shape[1] == 1
        and (terms["after_when"] == AFTER_ALL).all()
        and (world.runs["calls"][row, :count] == 0).all()
        and (terms["fails"] == 0).all()
        and (terms["crashes"] == 0).all()
        and (world.resources["failure"][row] == 0).all()
        and (world.runs["outcome_source"][row, :count] <= 1).all()
        and np.isinf(terms["timeout_s"]).all()
        and np.isinf(world.runs["due_within_s"][row, :count]).all()
    )


def _first(world: World) -> npt.NDArray[np.bool_]:
    """Marks the price in force at the beginning, whose instant is minus infinity."""
    first: npt.NDArray[np.bool_] = np.arange(world.prices.shape[2]) == 0
    return first


def _unlimited(world: World) -> World:
    """The worlds without limits, and with slots that cost only while they work."""
    free = World(*(table.copy() for table in world))
    free.pools["owned"] = 0
    free.pools["follows_demand"] = free.pools["claims_ahead"] = 0
    free.pools["limit"] = free.queues["limit"] = free.deployments["limit"] = np.inf
    free.pools["paused"] = free.queues["paused"] = free.pools["workers"] = 0
    free.pools["poll_s"] = free.pools["overshoot"] = 0.0
    free.resources["capacity"] = np.inf
    free.reclaims["share"] = 0.0
    least = np.where(np.isinf(free.prices["at_s"]) & ~_first(world), np.inf, free.prices["usd_per_hour"]).min(-1)
    free.prices["usd_per_hour"] = least[..., None]
    return free


def _played(world: World) -> Array:
    """Money of each world at its end, shape (worlds, 3)."""
    twin = Twin(world)
    twin.finish()
    return twin.money
