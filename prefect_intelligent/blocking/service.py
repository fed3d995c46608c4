"""Which runs the next poll of a worker would start, and in which order the others come: as Prefect's query does it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prefect_intelligent.blocking.facts import BlockingFacts, RunFacts
from prefect_intelligent.blocking.startable import blocked_runs, slots_of

_LONGEST: Final = 200
"""Runs that Prefect gives a worker at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextPoll:
    """What the next poll would do.

    Attributes:
        starts: Ids of the runs that it would start.
        before: Id of each due run that could start to the number of those that are served before it.
        before_own: Id of each due run of a deployment with a limit to the number of its own that are served before it.
        blocked: Ids of the runs whose deployment is held or at its limit.
        refused: Runs that every poll brings and Prefect refuses each time: their deployment's limit is 0.
        without_refused: Ids of the runs that it would start if those were not there.
    """

    starts: frozenset[str]
    before: Mapping[str, int]
    before_own: Mapping[str, int]
    blocked: frozenset[str]
    refused: tuple[RunFacts, ...]
    without_refused: frozenset[str]


def next_poll(facts: BlockingFacts) -> NextPoll:
    """Play the next poll."""
    busy = Counter(run.deployment_id for run in facts.active)
    slots = {
        key: 0 if one.held_by else most
        for key, one in facts.deployments.items()
        if (most := slots_of(one.limit, busy[key])) is not None or one.held_by
    }
    given = {key: most or 0 for key, most in slots.items()}
    blocked = blocked_runs([run for run in facts.scheduled if not run.own_retry], facts.active, given, facts.due_s)
    due = [run for run in facts.scheduled if run.next_s <= facts.due_s and not run.own_retry]
    zero = {
        key
        for key, one in facts.deployments.items()
        if one.limit is not None and one.limit.enabled and one.limit.limit == 0 and not one.held_by
    }
    refused = tuple(run for run in due if run.deployment_id in zero)
    ready = [run for run in due if run.id not in blocked]
    before_own: dict[str, int] = {}
    seen: Counter[str | None] = Counter()
    for run in sorted(facts.scheduled, key=lambda run: (run.next_s, run.id)):
        if run.deployment_id in given:
            before_own[run.id] = seen[run.deployment_id]
            seen[run.deployment_id] += 1
    order = _order(facts, ready)
    return NextPoll(
        starts=_starts(facts, [*ready, *refused], refused),
        before={run.id: place for place, run in enumerate(order)},
        before_own=before_own,
        blocked=frozenset(blocked),
        refused=refused,
        without_refused=_starts(facts, ready, ()),
    )


def _order(facts: BlockingFacts, runs: list[RunFacts]) -> list[RunFacts]:
    """Runs in the order in which the pool serves them; without those of queues that are paused or have gone."""
    open_ = {key: queue for key, queue in facts.queues.items() if not queue.paused and queue.limit != 0}
    there = [run for run in runs if run.queue_id in open_]
    return sorted(there, key=lambda run: (open_[str(run.queue_id)].priority, run.next_s, run.id))


def _starts(facts: BlockingFacts, runs: list[RunFacts], refused: tuple[RunFacts, ...]) -> frozenset[str]:
    """Of each queue as many as it has slots, of these as many as the pool has, of these as many as workers carry."""
    if facts.paused:
        return frozenset()
    held = Counter(run.queue_id for run in facts.active)
    taken: defaultdict[str | None, int] = defaultdict(int)
    room = _LONGEST if facts.limit is None else min(_LONGEST, max(0, facts.limit - len(facts.active)))
    carried = math.inf if facts.worker_slots is None else facts.worker_slots - len(facts.active)
    never = {run.id for run in refused}
    found: list[str] = []
    for run in _order(facts, runs):
        queue = facts.queues[str(run.queue_id)]
        most = _LONGEST if queue.limit is None else max(0, queue.limit - held[queue.id])
        if taken[queue.id] >= most:
            continue
        taken[queue.id] += 1
        if room <= 0:
            break
        room -= 1
        if run.id not in never and len(found) < carried:
            found.append(run.id)
    return frozenset(found)
