"""What its deployment says about the start of a run: holds, its concurrency limit, its schedules."""

from __future__ import annotations

import re
import shlex

from prefect_intelligent.blocking.facts import BlockingFacts, DeploymentFacts, RunFacts
from prefect_intelligent.blocking.reasons import Blocker, Reason
from prefect_intelligent.blocking.service import NextPoll
from prefect_intelligent.domain.spans import describe_span

_SERVED_S = 90.0
_MEASURE = re.compile(r"prevention of (?P<pool>.+?): (?P<measure>.+)")


def of_deployment(facts: BlockingFacts, run: RunFacts, served: NextPoll) -> list[Blocker]:
    """Reasons that lie in the run's deployment."""
    deployment = facts.deployments.get(run.deployment_id or "")
    if deployment is None:
        what = "its deployment has gone, and a worker that takes it finds no flow to run"
        advice = f"prefect flow-run cancel {run.id}"
        return [Blocker(reason=Reason.DEPLOYMENT_GONE, kind="fault", subject=run.id, what=what, advice=advice)]
    found = []
    if deployment.pool is None and run.queue_id is None:
        found += _unserved(facts, deployment)
    if deployment.held_by:
        return [*found, _held(deployment)]
    return [*found, *_limited(facts, deployment, run, served)]


def of_schedules(facts: BlockingFacts, deployment: DeploymentFacts, *, coming: bool) -> list[Blocker]:
    """Why a deployment gets no runs.

    Args:
        facts: Of its pool.
        deployment: The deployment.
        coming: Whether a run of it is scheduled.
    """
    name = shlex.quote(deployment.name)
    if deployment.paused:
        what = f"the schedules of {deployment.name} are paused: only runs that somebody starts by hand come"
        advice = f"prefect api POST /deployments/{deployment.id}/resume_deployment"
        return [
            Blocker(reason=Reason.SCHEDULES_PAUSED, kind="choice", subject=deployment.name, what=what, advice=advice)
        ]
    if coming:
        return []
    if not deployment.schedules:
        what = f"{deployment.name} has no active schedule and no run that waits"
        advice = f"prefect deployment run {name}"
        return [Blocker(reason=Reason.NO_SCHEDULE, kind="choice", subject=deployment.name, what=what, advice=advice)]
    off = "scheduler" in facts.services_off
    what = f"{deployment.name} has an active schedule, and Prefect has made no run of it"
    what += ": the server's scheduler is switched off" if off else ": its scheduler fails, or the schedule is over"
    advice = "set PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=true on the server (or run `prefect server services start`)"
    return [Blocker(reason=Reason.SCHEDULER_OFF, kind="fault", subject=deployment.name, what=what, advice=advice)]


def leak(deployment: DeploymentFacts) -> Blocker | None:
    """Slots of its limit that nobody holds; None without any."""
    limit = deployment.limit
    if limit is None or not deployment.leaked:
        return None
    slots = f"{deployment.leaked} of the {limit.limit} slots of {deployment.name} are"
    slots = f"1 of the {limit.limit} slots of {deployment.name} is" if deployment.leaked == 1 else slots
    return Blocker(
        reason=Reason.LEAKED_SLOTS,
        kind="fault",
        subject=deployment.name,
        what=f"{slots} taken though no run holds {'it' if deployment.leaked == 1 else 'them'}",
        advice=f"free them: prefect-intelligent control free-slots {shlex.quote(deployment.name)}",
    )


def _unserved(facts: BlockingFacts, deployment: DeploymentFacts) -> list[Blocker]:
    if deployment.polled_s is not None and facts.at_s - deployment.polled_s < _SERVED_S:
        return []
    seen = (
        "none was ever seen"
        if deployment.polled_s is None
        else f"it last asked {describe_span(facts.at_s - deployment.polled_s)} ago"
    )
    what = f"{deployment.name} has no work pool, and the process that serves it does not ask for runs; {seen}"
    advice = "start the process with `flow.serve()` again, or deploy it to a work pool"
    return [Blocker(reason=Reason.NOT_SERVED, kind="fault", subject=deployment.name, what=what, advice=advice)]


def _held(deployment: DeploymentFacts) -> Blocker:
    key = deployment.held_by[0]
    measure = _MEASURE.fullmatch(key)
    if measure is None:
        holders = "its input is bad: " + ", ".join(deployment.held_by)
        advice = f"mend the data; to let it run as it is: prefect-intelligent quality unblock {shlex.quote(key)}"
    else:
        holders = f"by prevention: {measure['measure']}"
        advice = (
            f"mend the cause; to undo it: prefect-intelligent control restore --pool {shlex.quote(measure['pool'])}"
        )
    what = f"{deployment.name} is held, {holders}"
    return Blocker(reason=Reason.HELD, kind="choice", subject=deployment.name, what=what, advice=advice)


def _limited(facts: BlockingFacts, deployment: DeploymentFacts, run: RunFacts, served: NextPoll) -> list[Blocker]:
    limit = deployment.limit
    if limit is None:
        return []
    name, prefect = deployment.name, f"deployment:{deployment.id}"
    if not limit.enabled:
        what = f"the concurrency limit of {name} is disabled, and then Prefect gives no slot of it"
        advice = f"prefect gcl enable {prefect}"
        return [Blocker(reason=Reason.LIMIT_DISABLED, kind="choice", subject=name, what=what, advice=advice)]
    if limit.limit == 0:
        what = f"the concurrency limit of {name} is 0"
        advice = f"prefect gcl update {prefect} --limit N"
        return [Blocker(reason=Reason.LIMIT_ZERO, kind="choice", subject=name, what=what, advice=advice)]
    found = []
    leaked = leak(deployment)
    if leaked is not None and limit.taken >= limit.limit:
        found.append(leaked)
    if run.id in served.blocked and deployment.in_flight + served.before_own.get(run.id, 0) > 0:
        found.append(_at_limit(facts, deployment, run, served))
    return found


def _at_limit(facts: BlockingFacts, deployment: DeploymentFacts, run: RunFacts, served: NextPoll) -> Blocker:
    limit, name = deployment.limit, deployment.name
    assert limit is not None
    own = [one for one in facts.active if one.deployment_id == deployment.id]
    inside = {one.id for one in facts.scheduled if one.deployment_id == deployment.id}
    if len(own) >= limit.limit and all(inside & set(one.children) for one in own):
        what = f"all {limit.limit} slots of {name} are held by parents that wait for runs of the same deployment"
        advice = f"cancel one: prefect flow-run cancel {own[0].id}; then raise the limit above what parents hold"
        return Blocker(reason=Reason.PARENTS, kind="fault", subject=name, what=what, advice=advice)
    ahead = served.before_own.get(run.id, 0)
    what = f"{name} is at its concurrency limit: {deployment.in_flight} of {limit.limit} runs at work"
    what += f", {ahead} more of it wait before this one" if ahead else ""
    if limit.cancels:
        what += "; its strategy is CANCEL_NEW: Prefect cancels this run when it asks for a slot"
    advice = f"wait, or raise it: prefect gcl update deployment:{deployment.id} --limit N"
    return Blocker(reason=Reason.DEPLOYMENT_LIMIT, kind="capacity", subject=name, what=what, advice=advice)
