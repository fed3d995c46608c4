"""What its queue, its pool and the workers say about the start of a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from prefect_intelligent.blocking.facts import BlockingFacts, QueueFacts, RunFacts
from prefect_intelligent.blocking.reasons import Blocker, Reason
from prefect_intelligent.blocking.service import NextPoll
from prefect_intelligent.domain.spans import describe_span

ALIVE_S: Final = 90.0
"""A worker whose last heartbeat is older does not poll; its default is 30 s."""
_POLLED_S: Final = 60.0
"""As Prefect judges the health of a queue."""


def of_place(facts: BlockingFacts, run: RunFacts, served: NextPoll) -> list[Blocker]:
    """Reasons that lie in the run's queue, its pool and the workers."""
    queue = facts.queues.get(run.queue_id or "")
    if queue is None:
        return _without_queue(facts, run)
    found = [*_pool_closed(facts), *_queue_closed(queue, facts), *unpolled(facts, queue)]
    if run.next_s > facts.due_s and run.state_name != "AwaitingConcurrencySlot":
        return found
    full = _full(facts, queue)
    if facts.paused or facts.limit == 0 or queue.paused or queue.limit == 0:
        return [*found, *(blocker for blocker in full if blocker.reason is Reason.PARENTS)]
    if full or run.id in served.blocked:
        return [*found, *full]
    return [*found, *_behind(facts, queue, run, served)]


def unpolled(facts: BlockingFacts, queue: QueueFacts | None = None) -> list[Blocker]:
    """Whether somebody takes the runs of the pool, and of one of its queues."""
    pool = facts.name
    if facts.type.endswith((":push", ":managed")):
        return []
    if facts.type == "prefect-agent":
        what = f"a pool for agents ({facts.type}) is not supported: Prefect 3 has no agents, nobody starts its runs"
        advice = (
            "move its deployments to a pool with workers: prefect work-pool create NAME --type process "
            f"(instead of {pool})"
        )
        return [Blocker(reason=Reason.AGENT_POOL, kind="fault", subject=pool, what=what, advice=advice)]
    polls = [one.polled_s for one in facts.queues.values() if one.polled_s is not None]
    signs = [*facts.heartbeats_s, *polls]
    alive = [at_s for at_s in facts.heartbeats_s if facts.at_s - at_s < ALIVE_S]
    if not alive and not any(facts.at_s - at_s < _POLLED_S for at_s in polls):
        seen = f"the last one was seen {describe_span(facts.at_s - max(signs))} ago" if signs else "none was ever seen"
        what = f"no worker polls the pool {pool}; {seen}"
        advice = f"prefect worker start --pool {shlex.quote(pool)}"
        return [Blocker(reason=Reason.NO_WORKER, kind="fault", subject=pool, what=what, advice=advice)]
    if queue is None:
        return []
    last_s = max(queue.polled_s or 0.0, queue.created_s)
    others = [at_s for at_s in polls if facts.at_s - at_s < _POLLED_S]
    if facts.at_s - last_s < _POLLED_S or not others:
        return []
    seen = "never has" if queue.polled_s is None else f"last did {describe_span(facts.at_s - queue.polled_s)} ago"
    what = f"workers poll other queues of {pool}, but none polls {queue.name}: one {seen}"
    advice = f"prefect worker start --pool {shlex.quote(pool)} --work-queue {shlex.quote(queue.name)}"
    return [Blocker(reason=Reason.QUEUE_NOT_POLLED, kind="fault", subject=queue.name, what=what, advice=advice)]


def parents(holders: Sequence[RunFacts], within: Sequence[RunFacts]) -> bool:
    """Whether every run that holds a slot waits for one that can only start in a slot of the same kind.

    It may wait for another that holds one and waits itself.
    """
    ids = {run.id for run in (*within, *holders)}
    return bool(holders) and all(ids.intersection(run.children) for run in holders)


def _without_queue(facts: BlockingFacts, run: RunFacts) -> list[Blocker]:
    deployment = facts.deployments.get(run.deployment_id or "")
    if run.queue_id is None and (deployment is None or deployment.pool is None):
        return []
    name = "its deployment" if deployment is None else deployment.name
    what = "its work queue has gone, and no worker asks for runs outside of queues"
    advice = f"prefect flow-run cancel {run.id}, then start it anew: prefect deployment run {shlex.quote(name)}"
    return [Blocker(reason=Reason.NO_QUEUE, kind="fault", subject=run.id, what=what, advice=advice)]


def _pool_closed(facts: BlockingFacts) -> list[Blocker]:
    pool = shlex.quote(facts.name)
    found = []
    if facts.paused:
        what, advice = f"work pool {facts.name} is paused", f"prefect work-pool resume {pool}"
        found.append(Blocker(reason=Reason.POOL_PAUSED, kind="choice", subject=facts.name, what=what, advice=advice))
    if facts.limit == 0:
        what = f"the limit of work pool {facts.name} is 0"
        advice = f"prefect work-pool set-concurrency-limit {pool} N"
        found.append(Blocker(reason=Reason.POOL_ZERO, kind="choice", subject=facts.name, what=what, advice=advice))
    return found


def _queue_closed(queue: QueueFacts, facts: BlockingFacts) -> list[Blocker]:
    name, pool = shlex.quote(queue.name), shlex.quote(facts.name)
    found = []
    if queue.paused:
        what, advice = f"work queue {queue.name} is paused", f"prefect work-queue resume {name} --pool {pool}"
        found.append(Blocker(reason=Reason.QUEUE_PAUSED, kind="choice", subject=queue.name, what=what, advice=advice))
    if queue.limit == 0:
        what = f"the limit of work queue {queue.name} is 0"
        advice = f"prefect work-queue set-concurrency-limit {name} N --pool {pool}"
        found.append(Blocker(reason=Reason.QUEUE_ZERO, kind="choice", subject=queue.name, what=what, advice=advice))
    return found


def _full(facts: BlockingFacts, queue: QueueFacts) -> list[Blocker]:
    """Limits of the pool, the queue and the workers that are reached."""
    found, pool = [], shlex.quote(facts.name)
    inside = [one for one in facts.active if one.queue_id == queue.id]
    if facts.limit is not None and len(facts.active) >= facts.limit:
        name = f"work pool {facts.name}"
        raised = f"prefect work-pool set-concurrency-limit {shlex.quote(facts.name)} N"
        found.append(_slots(name, facts.name, facts.limit, facts.active, facts.scheduled, Reason.POOL_LIMIT, raised))
    if queue.limit is not None and len(inside) >= queue.limit:
        waiting = [one for one in facts.scheduled if one.queue_id == queue.id]
        raised = f"prefect work-queue set-concurrency-limit {shlex.quote(queue.name)} N --pool {pool}"
        name = f"work queue {queue.name}"
        found.append(_slots(name, queue.name, queue.limit, inside, waiting, Reason.QUEUE_LIMIT, raised))
    if facts.worker_slots is not None and len(facts.active) >= facts.worker_slots:
        what = f"the workers of {facts.name} carry {facts.worker_slots} runs at once, and are full"
        advice = f"wait, or start another one: prefect worker start --pool {shlex.quote(facts.name)}"
        found.append(Blocker(reason=Reason.WORKERS_FULL, kind="capacity", subject=facts.name, what=what, advice=advice))
    return found


def _behind(facts: BlockingFacts, queue: QueueFacts, run: RunFacts, served: NextPoll) -> list[Blocker]:
    """What is served before it, if the next poll does not start it."""
    if run.id in served.starts or run.next_s > facts.due_s:
        return []
    pool = shlex.quote(facts.name)
    if run.id in served.without_refused:
        count = len(served.refused)
        names = sorted({facts.deployments[str(one.deployment_id)].name for one in served.refused})
        what = (
            f"{count} run{'s' * (count > 1)} of {', '.join(names)} stand before it in every poll, and are refused each "
            "time, since the limit of their deployment is 0"
        )
        advice = f"cancel them, or give them a queue of their own: prefect-intelligent control adopt --pool {pool}"
        return [Blocker(reason=Reason.REFUSED_BEFORE, kind="fault", subject=queue.name, what=what, advice=advice)]
    before = served.before.get(run.id, 0)
    what = f"{before} run{'s are' if before != 1 else ' is'} served before it"
    advice = f"wait, or let its worth decide the order: prefect-intelligent control run --pool {pool}"
    return [Blocker(reason=Reason.BEHIND, kind="capacity", subject=queue.name, what=what, advice=advice)]


def _slots(
    what: str,
    subject: str,
    limit: int,
    holders: Sequence[RunFacts],
    waiting: Sequence[RunFacts],
    reason: Reason,
    raised: str,
) -> Blocker:
    """The slots of a queue or pool are all held: by runs that will end, or by parents of runs that wait for them."""
    if parents(holders, waiting):
        return Blocker(
            reason=Reason.PARENTS,
            kind="fault",
            subject=subject,
            what=f"all {limit} slots of {what} are held by parents that wait for runs in the same place",
            advice=f"raise it: {raised}; or cancel a parent: prefect flow-run cancel {holders[0].id}",
        )
    held = f"all {limit} slots of {what} are held" if limit > 1 else f"the one slot of {what} is held"
    return Blocker(reason=reason, kind="capacity", subject=subject, what=held, advice=f"wait, or raise it: {raised}")
