"""Dedicated work queues: made by `control adopt`, one per deployment or per class of value.

Prefect has no priority per run, so runs of different worth that share a queue cannot be put in order. Adoption gives
each deployment, or each class of value, a queue of its own. `control restore` takes it back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from prefect_intelligent.domain import Deployment, QueueSetting, QueueState
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.domain.plans import PRIORITY_GAP
from prefect_intelligent.errors import ConflictError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.steering.ports import Orchestrator

KIND = "adoption"
PREFIX = "pi-"
_CLASSES = 5

Grouping = Literal["deployment", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Which queues to make and which deployments to send where.

    Attributes:
        create: Queues to make, with explicit priorities.
        assign: Deployment, the queue it has, the queue it gets.
    """

    create: tuple[QueueSetting, ...]
    assign: tuple[tuple[str, str, str], ...]


def plan_adoption(deployments: Sequence[Deployment], queues: Sequence[QueueSetting], by: Grouping) -> Adoption:
    """Dedicated queues for the deployments that have none yet.

    They come after the queues that exist, the most valuable deployment first, at `PRIORITY_GAP` from each other; so
    adoption alone moves no queue of the user's.

    Args:
        deployments: All of the pool.
        queues: All of the pool.
        by: One queue per deployment, or one per class of value (equal prices of lateness; at most five classes).
    """
    ranked = sorted(deployments, key=lambda d: (-d.terms.late_usd_per_hour, d.name))
    names = _names_by_value(ranked) if by == "value" else {d.name: _dedicated_name(d.name) for d in ranked}
    there = {queue.name for queue in queues}
    number = max((queue.priority for queue in queues), default=0)
    create: dict[str, QueueSetting] = {}
    for deployment in ranked:
        name = names[deployment.name]
        if name not in there and name not in create:
            number += PRIORITY_GAP
            create[name] = QueueSetting(name=name, priority=number)
    return Adoption(
        create=tuple(create.values()),
        assign=tuple((d.name, d.queue, names[d.name]) for d in ranked if d.queue != names[d.name]),
    )


def adopt(orchestrator: Orchestrator, history: HistoryStore, clock: Clock, adoption: Adoption) -> None:
    """Make the queues, then send the deployments to them; what was before is stored first.

    Running it again finishes what was interrupted.

    Raises:
        OrchestratorError: Prefect refused; run it again.
    """
    record: dict[str, Any] = {
        "what": "adopted",
        "created": [queue.name for queue in adoption.create],
        "assigned": [list(move) for move in adoption.assign],
    }
    history.append(KIND, orchestrator.pool, clock.now_s(), record)
    for queue in adoption.create:
        orchestrator.create_queue(queue)
    for deployment, _, queue_name in adoption.assign:
        orchestrator.assign(deployment, queue_name)
    orchestrator.emit("adopted", record)


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedQueue:
    """What becomes of a dedicated queue when its adoption is undone.

    Attributes:
        name: Its name.
        stays: Why it is not deleted; None if it is.
    """

    name: str
    stays: str | None


def undo_adoption(orchestrator: Orchestrator, history: HistoryStore, clock: Clock) -> tuple[str, ...]:
    """Send deployments back to the queue they had and remove the dedicated queues that are empty.

    A deployment that somebody has sent elsewhere since stays there. A queue that still has runs stays too, since
    Prefect would delete them with it.

    Returns:
        Names of the dedicated queues that had to stay.
    """
    created, moved = _adopted(history, orchestrator.pool)
    if not created and not moved:
        return ()
    for deployment, _, before in plan_undo(orchestrator, history):
        with suppress(UnknownNameError):  # its old queue has gone: it keeps the one it has
            orchestrator.assign(deployment, before)
    kept = []
    for queue in plan_removal(orchestrator, history):
        if queue.stays is not None:
            kept.append(queue.name)
            continue
        try:
            orchestrator.delete_queue(queue.name)
        except ConflictError:
            kept.append(queue.name)
    if not kept:
        history.append(KIND, orchestrator.pool, clock.now_s(), {"what": "undone"})
    return tuple(kept)


def plan_undo(orchestrator: Orchestrator, history: HistoryStore) -> tuple[tuple[str, str, str], ...]:
    """Deployments that would be sent back: name, the dedicated queue they have, the queue they get."""
    _, moved = _adopted(history, orchestrator.pool)
    if not moved:
        return ()
    now_at = {deployment.name: deployment.queue for deployment in orchestrator.deployments()}
    return tuple((name, ours, before) for name, (before, ours) in moved.items() if now_at.get(name) == ours)


def plan_removal(orchestrator: Orchestrator, history: HistoryStore) -> tuple[DedicatedQueue, ...]:
    """What becomes of each dedicated queue that still exists, once `plan_undo` has been carried out.

    Scheduled runs of a deployment that is sent back do not count: Prefect makes them anew where it goes.
    """
    created, _ = _adopted(history, orchestrator.pool)
    if not created:
        return ()
    sent_back = {name for name, _, _ in plan_undo(orchestrator, history)}
    users: dict[str, list[str]] = {}
    for deployment in orchestrator.deployments():
        if deployment.name not in sent_back:
            users.setdefault(deployment.queue, []).append(deployment.name)

    def reason(queue: QueueState) -> str | None:
        upcoming = sum(run.deployment not in sent_back for run in queue.upcoming)
        runs = len(queue.waiting) + len(queue.active) + upcoming + queue.beyond
        if runs:
            what = "1 run is" if runs == 1 else f"{runs} runs are"
            return f"{what} in it, and would be deleted with it; run this again when none is left"
        if users.get(queue.setting.name):
            return f"{', '.join(sorted(users[queue.setting.name]))} was sent to it since"
        return None

    queues = orchestrator.observe().queues
    return tuple(DedicatedQueue(name=q.name, stays=reason(q)) for q in queues if q.name in created)


def after_removal(before: Sequence[DedicatedQueue], after: Sequence[DedicatedQueue]) -> tuple[DedicatedQueue, ...]:
    """What has become of the dedicated queues: those still there stay, whatever was foreseen."""
    left = {queue.name: queue.stays or "Prefect did not delete it; run this again" for queue in after}
    return tuple(DedicatedQueue(name=queue.name, stays=left.get(queue.name)) for queue in before)


def _adopted(history: HistoryStore, pool: str) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """Queues made, and deployment -> (first queue, dedicated queue), since the adoption was last undone."""
    created: set[str] = set()
    moved: dict[str, tuple[str, str]] = {}
    for what, made, assigned in read_each(KIND, history.records(KIND, pool), _read):
        if what == "undone":
            created, moved = set(), {}
        created |= made
        for deployment, before, ours in assigned:
            moved[deployment] = (moved[deployment][0] if deployment in moved else before, ours)
    return created, moved


def _read(record: Mapping[str, Any]) -> tuple[str, set[str], list[tuple[str, str, str]]]:
    """What happened, the queues that were made, and which deployments were sent from where to which."""
    what = record["what"]
    if what not in ("adopted", "undone"):
        raise ValueError(what)
    assigned = [(str(name), str(before), str(ours)) for name, before, ours, *_ in record.get("assigned", ())]
    return what, set(record.get("created", ())), assigned


def _dedicated_name(deployment: str) -> str:
    """Name of the queue of one deployment: the deployment's, in characters that are safe in a URL."""
    return PREFIX + re.sub(r"[^a-z0-9]+", "-", deployment.lower()).strip("-")


def _names_by_value(ranked: Sequence[Deployment]) -> dict[str, str]:
    """Deployment to queue name: equal prices share one; with more than `_CLASSES` prices, neighbouring ones do too."""
    prices = sorted({deployment.terms.late_usd_per_hour for deployment in ranked}, reverse=True)
    classes = min(_CLASSES, len(prices))
    place = {price: index * classes // len(prices) + 1 for index, price in enumerate(prices)}
    return {d.name: f"{PREFIX}lane-{place[d.terms.late_usd_per_hour]}" for d in ranked}
