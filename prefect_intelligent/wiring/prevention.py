"""Prevention of one pool: what the rules may do, what they look at, and the actions they take."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prefect_client.heartbeats import read_heartbeats
from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions
from prefect_intelligent.prevention.evidence import Evidence, LiveRun, WaitingRun, read_evidence
from prefect_intelligent.prevention.measures import RuleSettings
from prefect_intelligent.prevention.rules import RULES
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocking import pool_facts

if TYPE_CHECKING:
    import pandas as pd

    from prefect_intelligent.domain import Deployment, Terms
    from prefect_intelligent.wiring.steering import PoolController

_QUALITY_S = 3 * 86400.0


def rule_settings(settings: Settings, *, write: bool = False) -> dict[str, RuleSettings]:
    """What each rule may do; `write` turns "shadow" into "auto"."""
    own = {str(name): given for name, given in settings.prevention.items()}
    terms = {}
    for name in RULES:
        given = own.get(name)
        found = RuleSettings() if given is None else RuleSettings(**given.model_dump())
        mode = "auto" if write and found.mode == "shadow" else found.mode
        terms[name] = RuleSettings(mode=mode, most=found.most, per_day=found.per_day, again=found.again)
    return terms


def open_prevention_actions(settings: Settings) -> PrefectPreventionActions:
    """The actions on the server of the profile in force; roll-backs through the versions that `deploy` keeps."""

    def roll_back(deployment: str, version: str | None) -> bool:
        from prefect_intelligent.wiring.pipelines import open_workspace

        with contextlib.suppress(PrefectIntelligentError):
            workspace = open_workspace(settings)
            with workspace.exclusive():
                workspace.rollout.roll_back(deployment)
                return True
        return False

    return PrefectPreventionActions(roll_back)


def look(settings: Settings, controller: PoolController, runs: pd.DataFrame) -> Evidence:
    """What the rules look at now: history, live runs, declared inputs and resources, quality results."""
    snapshot = controller.orchestrator.observe()
    now_s = controller.api.now_s()  # runs end, and send heartbeats, by the server's clock
    deployments = controller.orchestrator.deployments()
    at_work = [run.id for run in snapshot.runs() if run.started_s is not None]
    beats = read_heartbeats(controller.api, at_work)
    live = [
        LiveRun(run.id, run.deployment, run.scheduled_s, run.started_s, beats.get(run.id), run.due_s)
        for run in snapshot.runs()
    ]
    return read_evidence(
        runs,
        now_s,
        live=live,
        upstream=_upstream(deployments),
        unhealthy=_unhealthy(deployments, controller.history, now_s),
        waiting=_waiting(settings, controller, {found.name: found.terms for found in deployments}),
        terms={found.name: found.terms for found in deployments},
        resources={found.name: found.terms.resources for found in deployments if found.terms.resources},
    )


def _waiting(settings: Settings, controller: PoolController, terms: Mapping[str, Terms]) -> list[WaitingRun]:
    """Due runs without a slot, also those that are held; none are read if no deployment says what is stale."""
    if all(one.stale == "keep" and one.most_waiting is None for one in terms.values()):
        return []
    facts = pool_facts(settings, controller.api, controller.orchestrator.pool)
    return [
        WaitingRun(
            run_id=run.id,
            deployment=facts.deployments[str(run.deployment_id)].name,
            scheduled_s=run.expected_s,
            parameters=run.parameters,
            begun=run.begun,
            awaited=run.awaited,
        )
        for run in facts.scheduled
        if run.expected_s <= facts.at_s and run.deployment_id in facts.deployments and not run.own_retry
    ]


def _upstream(deployments: tuple[Deployment, ...]) -> dict[str, tuple[str, ...]]:
    """Deployment to those that write what it reads, by what they declare."""
    writers: dict[str, list[str]] = {}
    for found in deployments:
        for dataset in found.terms.outputs:
            writers.setdefault(dataset, []).append(found.name)
    upstream = {
        found.name: tuple(
            sorted({name for data in found.terms.inputs for name in writers.get(data, ())} - {found.name})
        )
        for found in deployments
    }
    return {name: sources for name, sources in upstream.items() if sources}


def _unhealthy(deployments: tuple[Deployment, ...], history: HistoryStore, now_s: float) -> frozenset[str]:
    """Deployments with an output whose last quality check of three days was bad."""
    last: dict[str, Mapping[str, object]] = {}
    for record in past_results(history, since_s=now_s - _QUALITY_S):
        last[record["dataset"]] = record
    bad = {dataset for dataset, record in last.items() if record["good"] is False}
    return frozenset(found.name for found in deployments if bad & set(found.terms.outputs))
