"""From the facts about a pool to what blocks one run, one deployment, and the runs of the whole pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prefect_intelligent.blocking.deployment_reasons import leak, of_deployment, of_schedules
from prefect_intelligent.blocking.facts import BlockingFacts, DeploymentFacts, RunFacts
from prefect_intelligent.blocking.pool_reasons import of_place
from prefect_intelligent.blocking.reasons import Blocker, Reason
from prefect_intelligent.blocking.service import next_poll
from prefect_intelligent.blocking.state_reasons import of_state, of_time

_ORDER = {reason: place for place, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerFinding:
    """A blocker with the runs that it keeps.

    Attributes:
        blocker: The blocker.
        runs: Number of due runs that it keeps from starting.
        since_s: From when the longest waiting of them was expected, Unix seconds.
    """

    blocker: Blocker
    runs: int
    since_s: float


def why_run(facts: BlockingFacts, run: RunFacts) -> tuple[Blocker, ...]:
    """Everything that keeps a run from starting, what has to be dealt with first first; at least one.

    A run that has started or ended has the one entry that says so.
    """
    state = of_state(facts, run)
    if state is not None:
        return (state,)
    served = next_poll(facts)
    found = [*of_deployment(facts, run, served), *of_place(facts, run, served)]
    set_aside = run.expected_s <= facts.due_s and any(blocker.reason is Reason.HELD for blocker in found)
    return _in_order(found if set_aside else [*found, *of_time(facts, run)], facts, run.name)


def why_deployment(facts: BlockingFacts, deployment: DeploymentFacts) -> tuple[RunFacts | None, tuple[Blocker, ...]]:
    """What keeps the next run of a deployment from starting, and that run; None if there is none to come."""
    own = [run for run in facts.scheduled if run.deployment_id == deployment.id]
    schedules = of_schedules(facts, deployment, coming=bool(own))
    if own:
        run = min(own, key=lambda run: (run.next_s, run.id))
        return run, _in_order([*schedules, *why_run(facts, run)], facts, deployment.name)
    stand_in = RunFacts(
        id="", name="its next run", state="SCHEDULED", deployment_id=deployment.id,
        queue_id=next(iter(facts.queues), None), expected_s=facts.at_s, next_s=facts.at_s,
    )  # fmt: skip
    standing = [blocker for blocker in of_deployment(facts, stand_in, next_poll(facts)) if blocker.lasts]
    return None, _in_order([*schedules, *standing], facts, deployment.name)


def findings(facts: BlockingFacts) -> tuple[BlockerFinding, ...]:
    """What keeps due runs of the pool from starting until somebody does something, most urgent first."""
    served = next_poll(facts)
    runs: Counter[tuple[Reason, str]] = Counter()
    first: dict[tuple[Reason, str], Blocker] = {}
    since: dict[tuple[Reason, str], float] = {}
    for run in facts.scheduled:
        state = of_state(facts, run)
        due = run.expected_s <= facts.due_s
        blockers = [state] if state is not None else [*of_deployment(facts, run, served), *of_place(facts, run, served)]
        for blocker in blockers if due else ():
            if blocker.lasts:
                key = blocker.reason, blocker.subject
                runs[key] += 1
                first.setdefault(key, blocker)
                since[key] = min(since.get(key, run.expected_s), run.expected_s)
    for run in facts.active:
        stuck = of_state(facts, run)
        if stuck is not None and stuck.reason is Reason.PENDING_TOO_LONG:
            first[stuck.reason, stuck.subject], since[stuck.reason, stuck.subject] = stuck, run.state_s
    found = [BlockerFinding(blocker=blocker, runs=runs[key], since_s=since[key]) for key, blocker in first.items()]
    for deployment in facts.deployments.values():
        leaked = leak(deployment)
        if leaked is not None and (leaked.reason, leaked.subject) not in first:
            found.append(BlockerFinding(blocker=leaked, runs=0, since_s=facts.at_s))
    return tuple(sorted(found, key=lambda one: (_ORDER[one.blocker.reason], -one.runs, one.blocker.subject)))


def _in_order(found: Sequence[Blocker], facts: BlockingFacts, name: str) -> tuple[Blocker, ...]:
    if found:
        return tuple(sorted(dict.fromkeys(found), key=lambda blocker: _ORDER[blocker.reason]))
    at_s = facts.at_s + facts.poll_s
    what = f"nothing keeps it: the next poll of a worker starts it, within about {facts.poll_s:g} s"
    return (Blocker(reason=Reason.NEXT_POLL, kind="none", subject=name, what=what, until_s=at_s),)


def decisive(blockers: Sequence[Blocker]) -> Blocker:
    """The one to deal with: the first that lasts, else the one that ends last."""
    lasting = [blocker for blocker in blockers if blocker.lasts]
    if lasting:
        return lasting[0]
    unknown = [blocker for blocker in blockers if blocker.until_s is None]
    return unknown[0] if unknown else max(blockers, key=lambda blocker: blocker.until_s or 0.0)
