"""Apply a recommendation, undo it, and measure what it has saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from prefect_intelligent.domain import Change as SettingChange
from prefect_intelligent.domain import Plan, QueueSetting, diff
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.recommendations.evaluate import replay_daily_cost
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation, ReplayInput
from prefect_intelligent.steering.ports import Orchestrator

APPLIED: Final = "recommendation-applied"
SCORED: Final = "recommendation-scored"
_LAST_PRIORITY: Final = 1_000_000
"""Priority of a new queue until its final one is written."""


def settings_to_change(row: Mapping[str, Any], orchestrator: Orchestrator) -> tuple[SettingChange, ...]:
    """Return the settings to change for a recommendation in the form of `Recommendation.row`; empty if it is in force.

    Raises:
        InvalidInputError: It must be done by hand; the message says what to do.
    """
    if row["by_hand"]:
        raise InvalidInputError("recommendation", row["title"], f"is done by hand: {row['by_hand']}")
    pool, queues = orchestrator.settings()
    new_queues = queues_to_create(row, orchestrator)
    queues = (*queues, *(QueueSetting(name=name, priority=_LAST_PRIORITY) for name in new_queues))
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
    """Return the names of queues to create for a recommendation."""
    _, queues = orchestrator.settings()
    return tuple(sorted(set(row["homes"].values()) - {queue.name for queue in queues}))


def deployments_to_move(row: Mapping[str, Any], orchestrator: Orchestrator) -> tuple[tuple[str, str, str], ...]:
    """Return deployments to move to another queue: (name, from, to)."""
    queue_of = {found.name: found.queue for found in orchestrator.deployments()} if row["homes"] else {}
    return tuple(
        (name, queue_of[name], to) for name, to in sorted(row["homes"].items()) if queue_of.get(name, to) != to
    )


def apply_recommendation(
    row: Mapping[str, Any], orchestrator: Orchestrator, history: HistoryStore, clock: Clock
) -> tuple[SettingChange, ...]:
    """Write a recommendation and record the previous settings for `undo_last`; returns the changes that were made."""
    wanted, new_queues, moves = (
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
        "lanes": list(new_queues),
        "moves": [list(move) for move in moves],
        "at_s": now_s,
    }
    history.append(APPLIED, orchestrator.pool, now_s, record)  # before the write
    for name in new_queues:
        orchestrator.create_queue(QueueSetting(name=name, priority=_LAST_PRIORITY))
    done = orchestrator.apply(wanted)
    for name, _, to in moves:
        orchestrator.assign(name, to)
    return done


def undo_last(orchestrator: Orchestrator, history: HistoryStore, clock: Clock) -> tuple[SettingChange, ...]:
    """Revert the recommendation that was applied last, except settings that were changed since.

    A queue that was created for it is deleted if no deployment uses it and it has no runs, which would be lost with it.

    Raises:
        InvalidInputError: No recommendation is applied.
    """
    last = last_applied(orchestrator.pool, history)
    queue_of = {found.name: found.queue for found in orchestrator.deployments()} if last["moves"] else {}
    for name, before, to in last["moves"]:
        if queue_of.get(name) == to:
            orchestrator.assign(name, before)
            queue_of[name] = before
    back = [
        SettingChange(queue=queue, field=name, before=after, after=before)
        for queue, name, before, after in reversed(last["values"])
        if queue not in last["lanes"]
    ]
    done = orchestrator.apply(back)
    for name in last["lanes"]:
        state = next((queue for queue in orchestrator.observe().queues if queue.name == name), None)
        if state is None or name in queue_of.values():
            continue
        if state.empty:
            orchestrator.delete_queue(name)
    history.append(APPLIED, orchestrator.pool, clock.now_s(), {"what": "undone", "title": last["title"]})
    return done


def last_applied(pool: str, history: HistoryStore) -> Mapping[str, Any]:
    """Return the record of the recommendation that was applied last and is in force.

    Raises:
        InvalidInputError: No recommendation is applied.
    """
    last = read_latest(history, APPLIED, pool, _read)
    if last is None or last["what"] != "applied":
        raise InvalidInputError("recommendation", None, "none is applied to this pool, or it has been undone")
    return last


def _read(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of an application, with defaults for fields that earlier versions did not write."""
    found = {"title": "", "saving_usd_per_day": 0.0, "values": (), "lanes": (), "moves": (), **record}
    found["values"] = [(queue, name, before, after) for queue, name, before, after, *_ in found["values"]]
    found["moves"] = [(name, before, to) for name, before, to, *_ in found["moves"]]
    return found | {"what": str(record["what"]), "at_s": float(record.get("at_s", 0.0))}


def rescore(
    inputs: ReplayInput, record: Mapping[str, Any], rng: np.random.Generator, *, seed: int = 0
) -> Recommendation:
    """Measure what an applied recommendation has saved: the days since then, replayed with and without it.

    Args:
        inputs: The runs since it was applied, with the present settings.
        record: Record of its application.
        rng: Random generator of the bootstrap.
        seed: Seed of the twin's polls and start-ups.

    Raises:
        InvalidInputError: There are too few runs or days.
    """
    values = {(queue, name): before for queue, name, before, _ in record["values"]}
    order = {queue.name: values.get((queue.name, "priority"), queue.priority) for queue in inputs.queues}
    without = ProposedChange(
        kind="undo",
        subject=inputs.pool.name,
        title=record["title"],
        evidence="",
        pool_limit=values.get((None, "limit")),
        limits={queue: before for (queue, name), before in values.items() if queue and name == "limit"},
        order=tuple(sorted(order, key=lambda name: (order[name] or 0, name))),
        assignments={name: before for name, before, _ in record["moves"]},
    )
    with_usd, without_usd = replay_daily_cost(inputs, [None, without], seed=seed)
    return Recommendation.from_daily_savings(without, without_usd - with_usd, rng)
