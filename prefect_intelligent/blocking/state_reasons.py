"""What the state of a run itself says about its start."""

from __future__ import annotations

import shlex
from typing import Final

from prefect_intelligent.blocking.facts import BlockingFacts, RunFacts
from prefect_intelligent.blocking.reasons import Blocker, BlockerKind, Reason
from prefect_intelligent.domain.instants import iso
from prefect_intelligent.domain.spans import describe_span

_START_S: Final = 300.0
"""Longer than a start usually takes, also on infrastructure that has to be provided."""
_PATIENCE_S: Final = 60.0
"""A process that lives tries again within seconds."""
_ENDED: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def of_state(facts: BlockingFacts, run: RunFacts) -> Blocker | None:
    """The reason that lies in the run's state; None for a run that a worker may start."""
    deployment = facts.deployments.get(run.deployment_id or "")
    name = "its deployment" if deployment is None else deployment.name
    anew = f"prefect deployment run {shlex.quote(name)}"
    if run.state in _ENDED:
        if run.state == "CANCELLED" and "concurrency limit" in run.message:
            what = f"{name} was at its concurrency limit, and its strategy CANCEL_NEW cancels what finds no slot"
            return _of(run, Reason.CANCELLED_BY_LIMIT, "state", what, f"start it anew: {anew}")
        return _of(run, Reason.ENDED, "state", f"it has ended: {run.state_name or run.state.title()}")
    if run.state == "CANCELLING":
        return _of(run, Reason.CANCELLING, "state", f"it is being cancelled since {_ago(facts, run)}")
    if run.state == "RUNNING":
        kept = f", and waits for {len(run.children)} runs that it has started" if run.children else ""
        return _of(run, Reason.RUNNING, "state", f"it runs, since {_ago(facts, run)}{kept}")
    if run.state == "PENDING":
        if facts.at_s - run.state_s <= _START_S:
            return _of(run, Reason.STARTING, "state", f"a worker took it {_ago(facts, run)} ago and is starting it")
        what = f"a worker has taken it {_ago(facts, run)} ago, and it has not begun: its infrastructure does not start"
        advice = f"look into the worker's log; to free its slot: prefect flow-run cancel {run.id}"
        return _of(run, Reason.PENDING_TOO_LONG, "fault", what, advice)
    if run.state == "PAUSED":
        resume = f"prefect api POST /flow_runs/{run.id}/resume"
        if run.state_name == "Suspended":
            what = f"it is suspended since {_ago(facts, run)}; it holds no slot, and starts again when it is resumed"
            return _of(run, Reason.SUSPENDED, "choice", what, resume)
        what = f"it is paused since {_ago(facts, run)}"
        if run.pause_ends_s is not None:
            what += f"; if nobody resumes it, it fails at {iso(run.pause_ends_s)}"
        return _of(run, Reason.PAUSED, "choice", what, resume)
    if run.own_retry:
        overdue_s = facts.at_s - run.next_s
        if overdue_s <= _PATIENCE_S:
            what = f"its own process tries it again at {iso(run.next_s)}; no worker may start it"
            return _of(run, Reason.AWAITS_RETRY, "time", what, until_s=run.next_s)
        what = (
            f"run {run.name} of {name} is to be tried again by its own process since {describe_span(overdue_s)}, and "
            "has not been: no worker may start it, so it waits for ever"
        )
        advice = f"if its process is dead: prefect flow-run cancel {run.id}, then start it anew with {anew}; "
        return _of(run, Reason.OWN_RETRY, "fault", what, advice + "flow-run retry would leave it to its process")
    return None


def of_time(facts: BlockingFacts, run: RunFacts) -> list[Blocker]:
    """Whether it is due."""
    if run.state_name == "AwaitingConcurrencySlot":
        at_s = max(run.next_s, facts.at_s + facts.poll_s)
        what = f"it found no slot of its deployment, and asks again at {iso(run.next_s)}"
        return [_of(run, Reason.AWAITS_SLOT, "time", what, until_s=at_s)]
    if run.next_s <= facts.due_s:
        return []
    if run.state_name == "AwaitingRetry":
        return [_of(run, Reason.AWAITS_RETRY, "time", f"it is tried again at {iso(run.next_s)}", until_s=run.next_s)]
    word = "postponed" if run.expected_s <= facts.due_s else "scheduled"
    return [_of(run, Reason.NOT_DUE, "time", f"it is {word} to {iso(run.next_s)}", until_s=run.next_s)]


def _of(
    run: RunFacts, reason: Reason, kind: BlockerKind, what: str, advice: str = "", until_s: float | None = None
) -> Blocker:
    return Blocker(reason=reason, kind=kind, subject=run.id, what=what, advice=advice, until_s=until_s)


def _ago(facts: BlockingFacts, run: RunFacts) -> str:
    return describe_span(facts.at_s - run.state_s)
