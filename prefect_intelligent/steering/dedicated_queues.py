"""Dedicated work queues: made by `control adopt`, one per deployment or per class of value.

Prefect has no priority per run, so runs of different worth that share a queue cannot be put in order. Adoption gives
each deployment, or each class of value, a queue of its own. `control restore` takes it back.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
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
from prefect_intelligent.steering.identity import ids_of, remade
from prefect_intelligent.steering.ports import Orchestrator

KIND = "adoption"
PREFIX = "pi-"
_CLASSES = 5
_SLUG_CHARACTERS = 60
_DIGITS = 8
_POLLED_S = 90.0
_LOOK_S = 2.0

Grouping = Literal["deployment", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Which queues to make and which deployments to send where.

    Attributes:
        create: Queues to make, with explicit priorities.
        assign: Deployment, the queue it has, the queue it gets.
        stay: Queue and its deployments that are left in it, since it means more than an order: it is paused, or has a
            limit that holds for all of them together. The limit of a queue with one deployment goes with it.
        unpolled: Why no worker would take runs from the new queues, one sentence; None if nothing says so.
    """

    create: tuple[QueueSetting, ...]
    assign: tuple[tuple[str, str, str], ...]
    stay: tuple[tuple[QueueSetting, tuple[str, ...]], ...] = ()
    unpolled: str | None = None


def plan_adoption(
    deployments: Sequence[Deployment], queues: Sequence[QueueSetting], by: Grouping, now_s: float | None = None
) -> Adoption:
    """Dedicated queues for the deployments that have none yet.

    They come after the queues that exist, the most valuable deployment first, at `PRIORITY_GAP` from each other; so
    adoption alone moves no queue of the user's.

    Args:
        deployments: All of the pool.
        queues: All of the pool.
        by: One queue per deployment, or one per class of value (equal prices of lateness; at most five classes).
        now_s: The present instant, to which polls are compared; they are not looked at without it.
    """
    there = {queue.name: queue for queue in queues}
    users = Counter(deployment.queue for deployment in deployments)
    kept = {
        name
        for name, queue in there.items()
        if queue.paused or (queue.limit is not None and (users[name] > 1 or by == "value"))
    }
    kept -= {name for name in kept if name.startswith(PREFIX)}  # dedicated ones: their limit is of steering
    ranked = sorted(deployments, key=lambda d: (-d.terms.late_usd_per_hour, d.name))
    names = _names_by_value(ranked) if by == "value" else _names_by_deployment(ranked)
    ranked = [deployment for deployment in ranked if deployment.queue not in kept]
    number = max((queue.priority for queue in queues), default=0)
    create: dict[str, QueueSetting] = {}
    for deployment in ranked:
        name = names[deployment.name]
        if name not in there and name not in create:
            number += PRIORITY_GAP
            before = None if deployment.queue.startswith(PREFIX) else there.get(deployment.queue)
            limit = None if before is None else before.limit
            create[name] = QueueSetting(name=name, priority=number, limit=limit)
    return Adoption(
        create=tuple(create.values()),
        assign=tuple((d.name, d.queue, names[d.name]) for d in ranked if d.queue != names[d.name]),
        stay=tuple(
            (there[name], tuple(sorted(d.name for d in deployments if d.queue == name)))
            for name in sorted(kept)
            if any(d.queue == name for d in deployments)
        ),
        unpolled=None if now_s is None else _why_unpolled(queues, now_s),
    )


def _why_unpolled(queues: Sequence[QueueSetting], now_s: float) -> str | None:
    """Whether workers ask for the runs of some queues only; then they would not ask for those of a new one."""
    open_ = [queue for queue in queues if not queue.paused]
    polled = [q.name for q in open_ if q.polled_s is not None and now_s - q.polled_s <= _POLLED_S]
    others = [q.name for q in open_ if q.name not in polled]
    if not polled or not others:
        return None
    return (
        f"workers poll the queues {', '.join(sorted(polled))} only (not {', '.join(sorted(others))}): they run with "
        "--work-queue, and would not take runs from a new queue"
    )


def adopt(
    orchestrator: Orchestrator, history: HistoryStore, clock: Clock, adoption: Adoption, *, wait_s: float = 0.0
) -> None:
    """Make the queues, then send the deployments to them; what was before is stored first.

    Running it again finishes what was interrupted.

    Args:
        orchestrator: The pool.
        history: Where it is recorded.
        clock: The time.
        adoption: What to do.
        wait_s: How long to wait for a worker to poll the new queues before deployments are sent to them, seconds.

    Raises:
        ConflictError: No worker has polled the new queues; they were removed again.
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
    ids = {q.name: q.id for q in orchestrator.settings()[1] if q.name in record["created"] and q.id is not None}
    if ids:
        history.append(KIND, orchestrator.pool, clock.now_s(), {"what": "adopted", "ids": ids})
    if adoption.create and wait_s > 0 and not _polled(orchestrator, record["created"], clock, wait_s):
        undo_adoption(orchestrator, history, clock)
        raise ConflictError(
            f"no worker asked for runs of the new queues within {wait_s:.0f} s, so they were removed again: start the "
            "workers without --work-queue, or name the new queues too, or use --force"
        )
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


def _polled(orchestrator: Orchestrator, names: Sequence[str], clock: Clock, wait_s: float) -> bool:
    """Whether a worker asks for runs of one of these queues before the time is over."""
    until_s = clock.now_s() + wait_s
    while not any(q.polled_s is not None for q in orchestrator.settings()[1] if q.name in names):
        if clock.now_s() >= until_s:
            return False
        clock.sleep(_LOOK_S)
    return True


def undo_adoption(orchestrator: Orchestrator, history: HistoryStore, clock: Clock) -> tuple[str, ...]:
    """Send deployments back to the queue they had and remove the dedicated queues that are empty.

    A deployment that somebody has sent elsewhere since stays there. A queue that still has runs stays too, since
    Prefect would delete them with it.

    Returns:
        Names of the dedicated queues that had to stay.
    """
    created, moved, ids = _adopted(history, orchestrator.pool)
    if not created and not moved:
        return ()
    others = remade(ids, ids_of(*orchestrator.settings()))
    created -= others
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
    _, moved, _ = _adopted(history, orchestrator.pool)
    if not moved:
        return ()
    now_at = {deployment.name: deployment.queue for deployment in orchestrator.deployments()}
    return tuple((name, ours, before) for name, (before, ours) in moved.items() if now_at.get(name) == ours)


def plan_removal(orchestrator: Orchestrator, history: HistoryStore) -> tuple[DedicatedQueue, ...]:
    """What becomes of each dedicated queue that still exists, once `plan_undo` has been carried out.

    Scheduled runs of a deployment that is sent back do not count: Prefect makes them anew where it goes.
    """
    created, _, ids = _adopted(history, orchestrator.pool)
    created -= remade(ids, ids_of(*orchestrator.settings()))
    if not created:
        return ()
    sent_back = {name for name, _, _ in plan_undo(orchestrator, history)}
    users: dict[str, list[str]] = {}
    for deployment in orchestrator.deployments():
        if deployment.name not in sent_back:
            users.setdefault(deployment.queue, []).append(deployment.name)

    def reason(queue: QueueState) -> str | None:
        upcoming = sum(run.deployment not in sent_back for run in queue.upcoming)
        runs = len(queue.waiting) + len(queue.active) + upcoming + queue.beyond + queue.blocked
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


def _adopted(
    history: HistoryStore, pool: str
) -> tuple[set[str | None], dict[str, tuple[str, str]], dict[str | None, str]]:
    """Queues made, deployment -> (first queue, dedicated queue), ids of the queues, since the adoption was undone."""
    created: set[str | None] = set()
    moved: dict[str, tuple[str, str]] = {}
    ids: dict[str | None, str] = {}
    for what, made, assigned, found in read_each(KIND, history.records(KIND, pool), _read):
        if what == "undone":
            created, moved, ids = set(), {}, {}
        created |= made
        ids |= found
        for deployment, before, ours in assigned:
            moved[deployment] = (moved[deployment][0] if deployment in moved else before, ours)
    return created, moved, ids


def _read(record: Mapping[str, Any]) -> tuple[str, set[str], list[tuple[str, str, str]], dict[str | None, str]]:
    """What happened, the queues that were made, which deployments were sent from where to which, ids of the queues."""
    what = record["what"]
    if what not in ("adopted", "undone"):
        raise ValueError(what)
    assigned = [(str(name), str(before), str(ours)) for name, before, ours, *_ in record.get("assigned", ())]
    return what, set(record.get("created", ())), assigned, dict(record.get("ids", {}))


def _names_by_deployment(ranked: Sequence[Deployment]) -> dict[str, str]:
    """Deployment to queue name; one that sits alone in a queue as versions up to 0.2 named it keeps that."""
    former = {d.name: PREFIX + re.sub(r"[^a-z0-9]+", "-", d.name.lower()).strip("-") for d in ranked}
    alone = Counter(d.queue for d in ranked)
    return {
        d.name: d.queue if d.queue == former[d.name] and alone[d.queue] == 1 else _dedicated_name(d.name)
        for d in ranked
    }


def _dedicated_name(deployment: str) -> str:
    """Name of the queue of one deployment: the deployment's, in letters of its own script, digits and hyphens.

    It hangs on the deployment's name alone. Where another name could give the same, a digest tells them apart.
    """
    if re.fullmatch(r"[a-z0-9]+/[a-z0-9]+", deployment):
        return PREFIX + deployment.replace("/", "-")
    slug = re.sub(r"[\W_]+", "-", deployment.lower())[:_SLUG_CHARACTERS].strip("-")
    digest = hashlib.sha256(deployment.encode()).hexdigest()[:_DIGITS]
    return f"{PREFIX}{slug}-{digest}" if slug else PREFIX + digest


def _names_by_value(ranked: Sequence[Deployment]) -> dict[str, str]:
    """Deployment to queue name: equal prices share one; with more than `_CLASSES` prices, neighbouring ones do too."""
    prices = sorted({deployment.terms.late_usd_per_hour for deployment in ranked}, reverse=True)
    classes = min(_CLASSES, len(prices))
    place = {price: index * classes // len(prices) + 1 for index, price in enumerate(prices)}
    return {d.name: f"{PREFIX}lane-{place[d.terms.late_usd_per_hour]}" for d in ranked}
