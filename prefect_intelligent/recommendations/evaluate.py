"""Evaluate candidates: the history is replayed in the twin as it was and with one change.

Both replays have the same runs with the same durations and outcomes, so that the difference in cost is caused by the
change. Differences per day are resampled for the confidence interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.runs_frame import duration_s, settled
from prefect_intelligent.policy.census import Array
from prefect_intelligent.recommendations.candidates import MOST_SLOTS, propose
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation, ReplayInput
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import COMPLETES, FAILS, World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

KIND: Final = "recommendations"
MIN_RUNS: Final = 50
DAY_S: Final = 86400.0
_LEAST_USD_PER_DAY: Final = 0.01
_RUN_OUT_S: Final = 86400.0
_NEVER_S: Final = 1e9


def recommend(inputs: ReplayInput, rng: np.random.Generator, *, most: int = 10, seed: int = 0) -> list[Recommendation]:
    """Return the changes that would have saved money, the largest saving first.

    Only changes that save a cent a day and whose 90 % interval is above zero are returned, and of each kind and subject
    the best one.

    Args:
        inputs: Runs and settings to replay.
        rng: Random generator of the bootstrap.
        most: Largest number of recommendations.
        seed: Seed of the twin's polls and start-ups.

    Raises:
        InvalidInputError: Fewer than `MIN_RUNS` ended runs or fewer than two days.
    """
    runs = replayable_runs(inputs)
    changes = propose(inputs, runs)
    daily = replay_daily_cost(inputs, [None, *changes], seed=seed)
    found: dict[tuple[str, str], Recommendation] = {}
    for change, series in zip(changes, daily[1:], strict=True):
        one = Recommendation.from_daily_savings(change, daily[0] - series, rng)
        key = (change.kind, change.subject)
        worth_it = one.interval[0] > 0 and one.saving_usd_per_day >= _LEAST_USD_PER_DAY
        if worth_it and (key not in found or found[key].saving_usd_per_day < one.saving_usd_per_day):
            found[key] = one
    return sorted(found.values(), key=lambda one: -one.saving_usd_per_day)[:most]


def replay_daily_cost(inputs: ReplayInput, changes: Sequence[ProposedChange | None], *, seed: int = 0) -> Array:
    """Return the cost of each day with each change (None is no change), shape (changes, days), US dollars.

    The cost of runs that are unfinished at the end is added to the last day.
    """
    runs = replayable_runs(inputs)
    start = float(runs["scheduled_s"].min())
    days = max(1, int((float(runs["scheduled_s"].max()) - start) // DAY_S) + 1)
    twin = Twin(stack([changed_world(inputs, runs, change, start, seed) for change in changes]))
    cost_usd = [np.zeros(len(changes))]
    for day in range(1, days + 1):
        twin.advance(start + day * DAY_S)
        cost_usd.append(twin.money.sum(axis=1))
    idle_after = np.array([_limit(inputs, change) for change in changes])
    twin.advance(start + days * DAY_S + _RUN_OUT_S)
    tail = twin.money.sum(axis=1) - cost_usd[-1]
    price = inputs.prices.slot_usd_per_hour * inputs.prices.idle_fraction * _RUN_OUT_S / 3600.0
    series = np.diff(np.stack(cost_usd), axis=0)
    series[-1] += np.maximum(0.0, tail - idle_after * price)
    out: Array = series.T
    return out


def replayable_runs(inputs: ReplayInput) -> pd.DataFrame:
    """Return the runs that can be replayed: those that have ended, in queues that exist.

    Raises:
        InvalidInputError: There are fewer than `MIN_RUNS`, or they span less than two days.
    """
    runs = inputs.runs[settled(inputs.runs)].copy()
    runs["scheduled_s"] = runs["scheduled_s"].fillna(runs["submitted_s"])
    known = {queue.name for queue in inputs.queues}
    runs = runs[runs["queue"].astype(str).isin(known)]
    if len(runs) < MIN_RUNS:
        raise InvalidInputError("ended runs to replay", len(runs), f"not enough data: {MIN_RUNS} are needed")
    if float(runs["scheduled_s"].max() - runs["scheduled_s"].min()) < 2 * DAY_S:
        raise InvalidInputError("history to replay", "less than two days", "not enough data: savings are per day")
    return runs


def _limit(inputs: ReplayInput, change: ProposedChange | None) -> int:
    """Return the limit of the pool with a change."""
    limit = inputs.pool.limit if change is None or change.pool_limit is None else change.pool_limit
    return MOST_SLOTS if limit is None else limit


def changed_world(
    inputs: ReplayInput, runs: pd.DataFrame, change: ProposedChange | None, start_s: float, seed: int
) -> World:
    """Return the history as a world of the twin, with one change."""
    queues = list(inputs.queues)
    if change is not None:
        new_queues = sorted(set(change.assignments.values()) - {queue.name for queue in queues})
        queues += [QueueSetting(name=name, priority=1) for name in new_queues]
        queues = [replace(q, limit=change.limits[q.name]) if q.name in change.limits else q for q in queues]
        if change.order:
            place = {name: number for number, name in enumerate(change.order)}
            queues = [replace(q, priority=10 * (place[q.name] + 1)) for q in queues]
    pool = PoolSpec(
        queues=tuple(queues),
        limit=_limit(inputs, change),
        prices=inputs.prices,
        owned=inputs.prices.idle_fraction > 0,
        max_slots=MOST_SLOTS,
        poll_s=inputs.poll_s,
        startup_s=1.0,
    )
    names = sorted(runs["deployment"].astype(str).unique())
    number = {name: place for place, name in enumerate(names)}
    deployment = runs["deployment"].astype(str).map(number).to_numpy(dtype=np.int64)
    home = runs.groupby(deployment)["queue"].last().astype(str)
    if change is not None:
        home = home.where(~pd.Series(names).isin(change.assignments), pd.Series(names).map(change.assignments))
    late = runs.groupby(deployment)["late_usd_per_hour"].median().fillna(0.0)
    failure = runs.groupby(deployment)["failure_usd"].median().fillna(0.0)
    specs = [
        DeploymentSpec(
            name=name,
            queue=str(home[place]),
            late_usd_per_hour=float(late[place]),
            failure_usd=float(failure[place]),
        )
        for place, name in enumerate(names)
    ]
    work = np.maximum(0.1, duration_s(runs).to_numpy(dtype=float))
    scheduled = runs["scheduled_s"].to_numpy(dtype=float)
    count = len(runs)
    due = runs["due_s"].to_numpy(dtype=float)
    if change is not None:
        of = runs["deployment"].astype(str)
        own_due = of.map(change.due_s).to_numpy(dtype=float)
        due = np.where(np.isfinite(own_due), scheduled + own_due, due)
        scheduled = scheduled + of.map(change.shift_s).fillna(0.0).to_numpy(dtype=float)
        scheduled[of.isin(change.paused).to_numpy()] += _NEVER_S
        tries = np.maximum(1.0, runs["attempts"].fillna(1.0).to_numpy(dtype=float))
        once = of.isin(change.without_retries).to_numpy() & runs["failed"].to_numpy(dtype=bool)
        work = np.where(once, work / tries, work)  # all attempts of a run are assumed to take equally long
    columns = Runs(
        deployment=deployment,
        scheduled_s=scheduled.astype(np.float64),
        known_s=np.full(count, -np.inf),
        work_s=work,
        p50_s=work,
        spread=np.full(count, 0.3),
        due_s=np.where(np.isfinite(due), due, np.inf),
        due_within_s=np.full(count, np.inf),
        outcome_source=np.where(runs["failed"].to_numpy(dtype=bool), FAILS, COMPLETES).astype(np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    return build_world([pool], specs, columns, seed=seed, start_s=start_s)
