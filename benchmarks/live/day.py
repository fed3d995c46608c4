"""A day to be played: the runs that come, when each is submitted, how long it works, and what its lateness costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from prefect_intelligent.domain import Cost, Prices
from prefect_intelligent.domain.period_cost import period_cost
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.twin.model.world import COMPLETES, World
from prefect_intelligent.twin.spec import PoolSpec
from simulations.scenario import with_load
from simulations.workload import Scenario, draw_world

_CREATING_S: Final = 0.05
"""Seconds of the clock allowed to create one run; the API needs half of that on an idle machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRun:
    """A run of a day; instants in Unix seconds of the day.

    Attributes:
        deployment: Name of its deployment, "flow/deployment".
        queue: Its work queue.
        submitted_s: When it is submitted to Prefect; -inf before the day begins.
        scheduled_s: When it should start.
        work_s: How long it works, without start-up.
        due_s: When it should have been finished; None if it cannot be late.
        late_usd_per_hour: Price of its lateness.
    """

    deployment: str
    queue: str
    submitted_s: float
    scheduled_s: float
    work_s: float
    due_s: float | None
    late_usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day.

    Attributes:
        seed: What it was drawn from.
        scenario: The scenario.
        world: It, as a world of the twin; run i is `runs[i]`.
        runs: Its runs, in the order of their scheduled starts.
    """

    seed: int
    scenario: Scenario
    world: World
    runs: tuple[DayRun, ...]

    @property
    def pool(self) -> PoolSpec:
        """The pool."""
        return self.scenario.pools[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRun:
    """A run that was played, on a server or in the twin; instants in Unix seconds of the day.

    Attributes:
        started_s: When it took its slot.
        finished_s: When it gave it back.
        due_s: When it should have been finished; None if it cannot be late.
        late_usd_per_hour: Price of its lateness.
        failure_usd: Price of its failure.
        failed: Whether it failed.
    """

    started_s: float
    finished_s: float
    due_s: float | None
    late_usd_per_hour: float
    failure_usd: float = 0.0
    failed: bool = False


def played(run: DayRun, started_s: float, finished_s: float) -> PlayedRun:
    """The record of a run that has been played."""
    return PlayedRun(
        started_s=started_s, finished_s=finished_s, due_s=run.due_s, late_usd_per_hour=run.late_usd_per_hour
    )


def day_cost(
    runs: Sequence[PlayedRun], prices: Prices, limits: Sequence[tuple[float, int | None]], begin_s: float
) -> Cost:
    """What a day has cost, from its begin to the end of its last run, on a server as in the twin.

    Args:
        runs: All runs of the day.
        prices: Prices in force.
        limits: The pool's limit over time, see `period_cost`.
        begin_s: When the day began, Unix seconds.
    """
    return period_cost(runs, prices, limits, begin_s=begin_s, end_s=max(run.finished_s for run in runs))


def shape_day(scenario: Scenario, *, begin_h: float = 0.0, hours: float | None = None, load: float = 1.0) -> Scenario:
    """A part of a scenario that can be played on a server: no run fails, and a poll takes only runs that are due.

    Args:
        scenario: The whole.
        begin_h: Hours of it that are left out at the beginning.
        hours: Hours for which runs come; all that are left if None.
        load: Factor on all durations.

    Raises:
        InvalidInputError: The scenario has something that the worker cannot do, or nothing is left of it.
    """
    _refuse_what_cannot_be_played(scenario)
    left_h = scenario.hours - begin_h
    if not (begin_h >= 0 and 0 < (left_h if hours is None else hours) <= left_h):
        wanted = f"{begin_h:g} h to {begin_h + (hours or 0.0):g} h"
        raise InvalidInputError(
            "part of the scenario", wanted, f"{scenario.name!r} has {scenario.hours:g} hours; take a part of them"
        )
    sources = tuple(
        replace(source, terms=replace(source.terms, fails=0.0, crashes=0.0, failure_probability=0.0))
        for source in scenario.sources
    )
    pool = replace(scenario.pools[0], prefetch_s=0.0, startup_spread=0.0)
    part = replace(
        scenario,
        start_s=scenario.start_s + 3600.0 * begin_h,
        hours=left_h if hours is None else hours,
        sources=sources,
        pools=(pool,),
    )
    return with_load(part, load)


def _refuse_what_cannot_be_played(scenario: Scenario) -> None:
    pool = scenario.pools[0]
    found = {
        "more than one pool": len(scenario.pools) > 1,
        "deployments that wait for others": any(source.after for source in scenario.sources),
        "shared resources": any(source.terms.resources for source in scenario.sources),
        "time-outs": any(source.terms.timeout_s is not None for source in scenario.sources),
        "spot prices or reclaims": bool(pool.spot_prices or pool.reclaims),
        "nodes that boot, are kept, or follow demand": bool(pool.boot_s or pool.cooldown_s or pool.follows_demand),
        "nodes of several slots or a least number": pool.node_slots > 1 or pool.min_slots > 0,
        "serverless slots": not pool.owned,
    }
    if what := [name for name, there in found.items() if there]:
        raise InvalidInputError(
            "scenario", scenario.name, f"has {', '.join(what)}, which the worker of live days does not do; take another"
        )


def draw_day(scenario: Scenario, seed: int, factor: float) -> Day:
    """Draw a day; with the same seed and factor it is the same.

    A run that Prefect does not know in advance is submitted when it comes, or as much earlier as it takes to create all
    of its burst in time; from then on it is known, in the twin too.

    Raises:
        InvalidInputError: No run comes in it.
    """
    world = draw_world(scenario, seed)
    count = int(world.settings["runs"][0])
    if count == 0:
        raise InvalidInputError("day", f"seed {seed}", f"no run comes in {scenario.hours:g} hours of {scenario.name!r}")
    table = world.runs[0, :count]
    table["known_s"] = _submission_s(table["known_s"], table["scheduled_s"], _CREATING_S * factor)
    table["outcome_source"] = COMPLETES
    sources = [scenario.sources[number] for number in table["deployment"]]
    runs = tuple(
        DayRun(
            deployment=source.terms.name,
            queue=source.terms.queue,
            submitted_s=float(run["known_s"]),
            scheduled_s=float(run["scheduled_s"]),
            work_s=float(run["work_s"]),
            due_s=float(run["due_s"]) if math.isfinite(run["due_s"]) else None,
            late_usd_per_hour=source.terms.late_usd_per_hour,
        )
        for run, source in zip(table, sources, strict=True)
    )
    return Day(seed=seed, scenario=scenario, world=world, runs=runs)


def _submission_s(
    known_s: np.ndarray[tuple[int], np.dtype[np.float64]],
    scheduled_s: np.ndarray[tuple[int], np.dtype[np.float64]],
    creating_s: float,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """When each run is submitted: one after the other, each in time, and none earlier than that needs."""
    out = np.where(np.isneginf(known_s), -np.inf, scheduled_s)
    next_s = math.inf
    for row in np.argsort(scheduled_s, kind="stable")[::-1]:
        if np.isfinite(out[row]):
            next_s = out[row] = min(float(scheduled_s[row]), next_s) - creating_s
    return out
