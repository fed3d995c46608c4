"""Recommendations with their money: history is replayed in the twin as it was and with one thing changed.

Both replays have the same runs with the same durations and outcomes, so the difference is the change's alone. It is
taken day by day, which gives the interval.
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
from prefect_intelligent.recommendations.candidates import MOST_SLOTS, propose
from prefect_intelligent.recommendations.model import (
    Array,
    ProposedChange,
    Recommendation,
    ReplayInput,
    bootstrap_saving,
)
from prefect_intelligent.twin.model.world import COMPLETES, FAILS, World, stack
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs, build_world

KIND: Final = "recommendations"
MIN_RUNS: Final = 50
DAY_S: Final = 86400.0
_TAIL_S: Final = 86400.0
_NEVER_S: Final = 1e9


def recommend(past: ReplayInput, rng: np.random.Generator, *, most: int = 10, seed: int = 0) -> list[Recommendation]:
    """What would have saved money, most first; only what has saved on resampled days nine times out of ten.

    Args:
        past: What is replayed.
        rng: Draws the resampled days.
        most: How many at most; the best of each kind and subject.
        seed: Of the twin's polls and start-ups.

    Raises:
        InvalidInputError: Fewer than `MIN_RUNS` ended runs or fewer than two days.
    """
    runs = usable(past)
    changes = propose(past, runs)
    daily = replay_daily_cost(past, [None, *changes], seed=seed)
    found: dict[tuple[str, str], Recommendation] = {}
    for change, series in zip(changes, daily[1:], strict=True):
        one = bootstrap_saving(change, daily[0] - series, rng)
        key = (change.kind, change.subject)
        if one.interval[0] > 0 and (key not in found or found[key].saving_usd_per_day < one.saving_usd_per_day):
            found[key] = one
    return sorted(found.values(), key=lambda one: -one.saving_usd_per_day)[:most]


def replay_daily_cost(past: ReplayInput, changes: Sequence[ProposedChange | None], *, seed: int = 0) -> Array:
    """Money spent on each whole day with each change (None is as it was), shape (changes, days), US dollars."""
    runs = usable(past)
    start = float(runs["scheduled_s"].min())
    days = max(1, int((float(runs["scheduled_s"].max()) - start) // DAY_S) + 1)
    twin = Twin(stack([as_world(past, runs, change, start, seed) for change in changes]))
    money = [np.zeros(len(changes))]
    for day in range(1, days + 1):
        twin.advance(start + day * DAY_S)
        money.append(twin.money.sum(axis=1))
    idle_after = np.array([_limit(past, change) for change in changes])
    twin.advance(start + days * DAY_S + _TAIL_S)
    tail = twin.money.sum(axis=1) - money[-1]
    price = past.prices.slot_usd_per_hour * past.prices.idle_fraction * _TAIL_S / 3600.0
    series = np.diff(np.stack(money), axis=0)
    series[-1] += np.maximum(0.0, tail - idle_after * price)  # what is left over is charged to the last day
    out: Array = series.T
    return out


def usable(past: ReplayInput) -> pd.DataFrame:
    """The runs that can be replayed: ended, of a known queue.

    Raises:
        InvalidInputError: They are too few or span less than two days.
    """
    runs = past.runs[settled(past.runs)].copy()
    runs["scheduled_s"] = runs["scheduled_s"].fillna(runs["submitted_s"])
    known = {queue.name for queue in past.queues}
    runs = runs[runs["queue"].astype(str).isin(known)]
    if len(runs) < MIN_RUNS:
        raise InvalidInputError("ended runs to replay", len(runs), f"not enough data: {MIN_RUNS} are needed")
    if float(runs["scheduled_s"].max() - runs["scheduled_s"].min()) < 2 * DAY_S:
        raise InvalidInputError("history to replay", "less than two days", "not enough data: savings are per day")
    return runs


def _limit(past: ReplayInput, change: ProposedChange | None) -> int:
    """Slots paid for."""
    limit = past.pool.limit if change is None or change.pool_limit is None else change.pool_limit
    return MOST_SLOTS if limit is None else limit


def as_world(past: ReplayInput, runs: pd.DataFrame, change: ProposedChange | None, start_s: float, seed: int) -> World:
    """The history as a world of the twin, with one thing changed."""
    queues = list(past.queues)
    if change is not None:
        lanes = sorted(set(change.homes.values()) - {queue.name for queue in queues})
        queues += [QueueSetting(name=name, priority=1) for name in lanes]
        queues = [replace(q, limit=change.limits[q.name]) if q.name in change.limits else q for q in queues]
        if change.order:
            place = {name: number for number, name in enumerate(change.order)}
            queues = [replace(q, priority=10 * (place[q.name] + 1)) for q in queues]
    pool = PoolSpec(
        queues=tuple(queues),
        limit=_limit(past, change),
        prices=past.prices,
        owned=past.prices.idle_fraction > 0,
        max_slots=MOST_SLOTS,
        poll_s=past.poll_s,
        startup_s=1.0,
    )
    names = sorted(runs["deployment"].astype(str).unique())
    number = {name: place for place, name in enumerate(names)}
    deployment = runs["deployment"].astype(str).map(number).to_numpy(dtype=np.int64)
    home = runs.groupby(deployment)["queue"].last().astype(str)
    if change is not None:
        home = home.where(~pd.Series(names).isin(change.homes), pd.Series(names).map(change.homes))
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
        scheduled[of.isin(change.without).to_numpy()] += _NEVER_S
        tries = np.maximum(1.0, runs["attempts"].fillna(1.0).to_numpy(dtype=float))
        once = of.isin(change.once).to_numpy() & runs["failed"].to_numpy(dtype=bool)
        work = np.where(once, work / tries, work)  # the tries of a run share its time alike
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
