"""Recommendations put into force, taken back, and scored after the fact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from prefect_intelligent.domain import Change as Setting
from prefect_intelligent.domain import Plan, QueueSetting, diff
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.recommendations.evaluate import replay_daily_cost
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation, ReplayInput, bootstrap_saving
from prefect_intelligent.steering.ports import Orchestrator

APPLIED: Final = "recommendation-applied"
SCORED: Final = "recommendation-scored"
_LAST: Final = 1_000_000
"""Priority of a new queue until its place is written."""


def settings_to_change(row: Mapping[str, Any], orchestrator: Orchestrator) -> tuple[Setting, ...]:
    """What to write to Prefect for a recommendation as kept by `Recommendation.row`; empty if it already holds.

    Raises:
        InvalidInputError: It is not ours to write; says what a person has to do.
    """
    if row["by_hand"]:
        raise InvalidInputError("recommendation", row["title"], f"is done by hand: {row['by_hand']}")
    pool, queues = orchestrator.settings()
    queues = (*queues, *(QueueSetting(name=name, priority=_LAST) for name in queues_to_create(row, orchestrator)))
    order = [queue.name for queue in sorted(queues, key=lambda q: (q.priority, q.name))]
    wanted = [name for name in row["order"] if name in order]
    plan = Plan(
        order=tuple(wanted + [name for name in order if name not in wanted]) if wanted else tuple(order),
        limits=row["limits"],
        pool_limit=row["pool_limit"],
        sets_pool_limit=row["pool_limit"] is not None,
    )
    return diff(pool, queues, plan)


def queues_to_create(row: Mapping[str, Any], orchestrator: Orchestrator) -> tuple[str, ...]:
    """Queues that have to be made first."""
    _, queues = orchestrator.settings()
    return tuple(sorted(set(row["homes"].values()) - {queue.name for queue in queues}))


def deployments_to_move(row: Mapping[str, Any], orchestrator: Orchestrator) -> tuple[tuple[str, str, str], ...]:
    """Deployments to send to another queue: name, from, to."""
    homes = {found.name: found.queue for found in orchestrator.deployments()} if row["homes"] else {}
    return tuple((name, homes[name], to) for name, to in sorted(row["homes"].items()) if homes.get(name, to) != to)


def apply_recommendation(
    row: Mapping[str, Any], orchestrator: Orchestrator, history: HistoryStore, clock: Clock
) -> tuple[Setting, ...]:
    """Write a recommendation and keep what was there before, for `undo_last`; returns the settings that hold now."""
    wanted, lanes, moves = (
        settings_to_change(row, orchestrator),
        queues_to_create(row, orchestrator),
        deployments_to_move(row, orchestrator),
    )
    now_s = clock.now_s()
    record = {
        "what": "applied",
        "title": row["title"],
        "saving_usd_per_day": row["saving_usd_per_day"],
        "interval": list(row.get("interval", ())),
        "values": [[change.queue, change.field, change.before, change.after] for change in wanted],
        "lanes": list(lanes),
        "moves": [list(move) for move in moves],
        "at_s": now_s,
    }
    history.append(APPLIED, orchestrator.pool, now_s, record)  # before the write
    for name in lanes:
        orchestrator.create_queue(QueueSetting(name=name, priority=_LAST))
    done = orchestrator.apply(wanted)
    for name, _, to in moves:
        orchestrator.assign(name, to)
    return done


def undo_last(orchestrator: Orchestrator, history: HistoryStore, clock: Clock) -> tuple[Setting, ...]:
    """Put back what the recommendation applied last has changed, where nobody has changed it since.

    A queue that was made for it is deleted once no deployment is sent to it; while it has runs it stays, since they
    would be lost with it.

    Raises:
        InvalidInputError: None is applied.
    """
    last = last_applied(orchestrator.pool, history)
    homes = {found.name: found.queue for found in orchestrator.deployments()} if last["moves"] else {}
    for name, before, to in last["moves"]:
        if homes.get(name) == to:
            orchestrator.assign(name, before)
            homes[name] = before
    back = [
        Setting(queue=queue, field=name, before=after, after=before)
        for queue, name, before, after in reversed(last["values"])
        if queue not in last["lanes"]
    ]
    done = orchestrator.apply(back)
    for lane in last["lanes"]:
        state = next((queue for queue in orchestrator.observe().queues if queue.name == lane), None)
        if state is not None and lane not in homes.values() and not (state.waiting or state.active or state.upcoming):
            orchestrator.delete_queue(lane)
    history.append(APPLIED, orchestrator.pool, clock.now_s(), {"what": "undone", "title": last["title"]})
    return done


def last_applied(pool: str, history: HistoryStore) -> Mapping[str, Any]:
    """The record of what was applied last and is in force.

    Raises:
        InvalidInputError: None is applied.
    """
    last = history.latest(APPLIED, pool)
    if last is None or last["what"] != "applied":
        raise InvalidInputError("recommendation", None, "none is applied to this pool, or it has been undone")
    return last


def rescore(past: ReplayInput, record: Mapping[str, Any], rng: np.random.Generator, *, seed: int = 0) -> Recommendation:
    """What an applied recommendation has really saved: the days since, as they were and without it.

    Args:
        past: The runs since it was applied, with the settings as they are now.
        record: That of its application.
        rng: Draws the resampled days.
        seed: Of the twin's polls and start-ups.

    Raises:
        InvalidInputError: Too little has happened since.
    """
    values = {(queue, name): before for queue, name, before, _ in record["values"]}
    order = {queue.name: values.get((queue.name, "priority"), queue.priority) for queue in past.queues}
    without = ProposedChange(
        kind="undo",
        subject=past.pool.name,
        title=record["title"],
        evidence="",
        pool_limit=values.get((None, "limit")),
        limits={queue: before for (queue, name), before in values.items() if queue and name == "limit"},
        order=tuple(sorted(order, key=lambda name: (order[name] or 0, name))),
        homes={name: before for name, before, _ in record["moves"]},
    )
    was, would = replay_daily_cost(past, [None, without], seed=seed)
    return bootstrap_saving(without, would - was, rng)
