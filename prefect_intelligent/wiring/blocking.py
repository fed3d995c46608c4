"""What keeps runs from starting, with the estimate of their start by the twin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prefect_intelligent.blocking.adapters.free_slots import free_leaked_slots
from prefect_intelligent.blocking.adapters.prefect_facts import read_facts, read_run
from prefect_intelligent.blocking.adapters.subjects import Subject, find_subject
from prefect_intelligent.blocking.chain import BlockerFinding, findings, why_deployment, why_run
from prefect_intelligent.blocking.facts import BlockingFacts, RunFacts
from prefect_intelligent.blocking.reasons import Blocker, Reason
from prefect_intelligent.blocking.verdict import WhyVerdict
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import PoolSettings, Settings

if TYPE_CHECKING:
    from prefect_intelligent.replay.eta import Eta

_FUTURES = 32


def explain_why(settings: Settings, text: str, *, estimate: bool = True) -> WhyVerdict:
    """Why a run, or the next run of a deployment, does not start.

    Args:
        settings: All settings.
        text: Id or name of a run, "flow/deployment", or the id of a deployment.
        estimate: Whether the twin estimates the start of a run that will start by itself.

    Raises:
        UnknownNameError: There is neither such a run nor such a deployment.
        OrchestratorError: Prefect cannot be asked.
    """
    api = PrefectApi(timeout_s=30.0)
    try:
        subject = find_subject(api, text)
        facts = pool_facts(settings, api, subject.pool, subject)
    finally:
        api.close()
    run, blockers, about = _judge(facts, subject)
    deployment = facts.deployments.get("" if run is None else run.deployment_id or "")
    start_s = None
    if estimate and run is not None and facts.name and not any(one.lasts for one in blockers):
        start_s = _estimate(settings, facts, run, blockers)
    queue = facts.queues.get("" if run is None else run.queue_id or "")
    return WhyVerdict(
        subject=about,
        run=None if run is None else run.id,
        deployment=None if deployment is None else deployment.name,
        pool=facts.name or None,
        queue=None if queue is None else queue.name,
        blockers=blockers,
        start_s=start_s,
    )


def pool_facts(settings: Settings, api: PrefectApi, pool: str | None, subject: Subject | None = None) -> BlockingFacts:
    """The facts about a pool, with what our settings know of its workers."""
    own = settings.pools.get(pool or "", PoolSettings())
    return read_facts(api, pool, subject=subject, worker_slots=own.worker_slots, poll_s=own.poll_s)


def pool_findings(settings: Settings, api: PrefectApi, pool: str) -> tuple[BlockerFinding, ...]:
    """What keeps due runs of a pool from starting until somebody does something."""
    return findings(pool_facts(settings, api, pool))


def free_slots(deployment: str) -> int:
    """Free the slots of a deployment's limit that nobody holds; returns their number.

    Raises:
        UnknownNameError: There is no such deployment.
        OrchestratorError: Prefect cannot be asked.
    """
    api = PrefectApi(timeout_s=30.0)
    try:
        return free_leaked_slots(api, deployment)
    finally:
        api.close()


def _judge(facts: BlockingFacts, subject: Subject) -> tuple[RunFacts | None, tuple[Blocker, ...], str]:
    if subject.run is not None:
        known = {run.id: run for run in (*facts.scheduled, *facts.active)}
        run = known.get(str(subject.run["id"])) or read_run(subject.run)
        deployment = facts.deployments.get(run.deployment_id or "")
        name = "a deployment that has gone" if deployment is None else deployment.name
        return run, why_run(facts, run), f"run {run.name} of {name}"
    assert subject.deployment is not None
    deployment = facts.deployments[str(subject.deployment["id"])]
    coming, blockers = why_deployment(facts, deployment)
    next_one = "" if coming is None else f", next run {coming.name}"
    return coming, blockers, f"{deployment.name}{next_one}"


def _estimate(
    settings: Settings, facts: BlockingFacts, run: RunFacts, blockers: tuple[Blocker, ...]
) -> tuple[float, float] | None:
    """When the run starts by the twin; of one at its deployment's limit, when a slot of that is free."""
    if blockers[0].kind == "state" or {one.kind for one in blockers} <= {"none", "time"}:
        return None
    try:  # the reasons are worth telling also without the twin (an extra), or where it cannot be asked
        from prefect_intelligent.wiring.eta import predict_runs

        etas = {eta.run.id: eta for eta in predict_runs(settings, facts.name, futures=_FUTURES)[2]}
    except (ImportError, PrefectIntelligentError):
        return None
    own = etas.get(run.id)
    if own is not None:
        return None if own.start_p50_s is None else _finite(own.start_p50_s, own.start_p90_s)
    if all(one.reason is not Reason.DEPLOYMENT_LIMIT for one in blockers):
        return None
    at_work = {one.id for one in facts.active if one.deployment_id == run.deployment_id}
    ends = sorted((eta for key, eta in etas.items() if key in at_work), key=_end)
    if not ends:
        return None
    limit = facts.deployments[str(run.deployment_id)].limit
    first = ends[max(0, len(ends) - (len(ends) if limit is None else limit.limit))]
    return _finite(first.end_p50_s, first.end_p90_s)


def _end(eta: Eta) -> float:
    return eta.end_p50_s


def _finite(p50_s: float, p90_s: float | None) -> tuple[float, float] | None:
    if p90_s is None or not (math.isfinite(p50_s) and math.isfinite(p90_s)):
        return None
    return p50_s, p90_s
