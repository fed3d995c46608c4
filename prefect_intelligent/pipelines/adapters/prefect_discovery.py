"""Read deployments, pools, terms, durations, lineage and source files for the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from prefect_intelligent.domain import Estimate, Terms
from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.adapters.contract_columns import read_promises
from prefect_intelligent.pipelines.adapters.prefect_lineage import automation_links, observed_links
from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer, sort_schedules
from prefect_intelligent.pipelines.deployments import DeploymentCall, DeploymentNode, PoolFacts, Schedule, TableSchema
from prefect_intelligent.pipelines.flow_source import FlowSource, read_source
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence
from prefect_intelligent.pipelines.survey import Survey
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.queues import read_queues
from prefect_intelligent.prefect_client.terms import read_terms

_HISTORY_PAGES = 5
"""Pages of 200 ended runs from which durations are computed."""


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """Terms, contract and source of the version that a deployment runs.

    Attributes:
        terms: Its terms; None without any.
        contract: Text of its data contract; None without one.
        read: Returns the text of one of its source files; None if there is no such file or its source is not stored.
    """

    terms: Terms | None = None
    contract: str | None = None
    read: Callable[[str], str | None] = lambda path: None


def survey(
    api: PrefectApi,
    server: PrefectPipelineServer,
    folder: Path,
    *,
    history: bool = True,
    recorded: Callable[[Mapping[str, Any]], RecordedVersion | None] = lambda stored: None,
) -> Survey:
    """Read deployments, pools, terms, durations, automations, lineage and source.

    Args:
        api: The server.
        server: The same server's resources.
        folder: Folder of relative entrypoints.
        history: Whether to read durations and observed lineage too (a few more calls).
        recorded: Returns the recorded version that a deployment runs; its terms take precedence over published ones.
    """
    deployments = server.deployments()
    published = read_terms(api)
    notes = list(published.problems)
    estimates, rates = _durations(api, server) if history else ({}, {})
    nodes: dict[str, DeploymentNode] = {}
    edges: list[Edge] = []
    calls: list[DeploymentCall] = []
    for name, stored in deployments.items():
        version = recorded(stored) or RecordedVersion()
        roots = _roots(stored, folder)
        source, where = _source_of(stored, roots, version, notes)
        flow, _, short = name.partition("/")
        terms = version.terms or published.of(flow, short)
        if source is not None:
            line = EdgeEvidence("source", f"{where}:{source.line}")
            if terms is None and (source.inputs is not None or source.outputs is not None):
                terms = Terms(inputs=source.inputs or (), outputs=source.outputs or (), batch=source.batch)
            edges += [Edge(key, name, "reads", (EdgeEvidence("asset", line.where),)) for key in source.asset_inputs]
            edges += [Edge(name, key, "writes", (EdgeEvidence("asset", line.where),)) for key in source.asset_outputs]
            for call in source.calls:
                at = f"{where}:{call.line}"
                edges.append(Edge(name, call.name, "calls", (EdgeEvidence("source", at),)))
                calls.append(
                    DeploymentCall(
                        caller=name,
                        callee=call.name,
                        waits=call.waits,
                        parameters=call.parameters,
                        unknown=call.unknown,
                        where=at,
                    )
                )
        step = _node(name, stored, terms or Terms(), estimates.get(name), rates.get(name))
        nodes[name] = replace(step, promises=_promises(step.terms, version.contract, roots, notes))
    for more_edges, more_calls in (
        automation_links(api, server, deployments),
        observed_links(api, server, deployments) if history else ([], []),
    ):
        edges += more_edges
        calls += more_calls
    for edge in edges:
        if edge.kind == "calls" and edge.target not in nodes:
            notes.append(f"{edge.source} calls {edge.target}, which does not exist ({edge.evidence[0].where})")
    return Survey(
        nodes=nodes,
        pools=_pools(api),
        edges=tuple(edge for edge in edges if edge.kind != "calls" or edge.target in nodes),
        calls=tuple(call for call in calls if call.callee in nodes and call.caller in nodes),
        notes=tuple(notes),
    )


def _node(
    name: str, stored: Mapping[str, Any], terms: Terms, estimate: Estimate | None, rate: float | None
) -> DeploymentNode:
    limit = stored.get("global_concurrency_limit")
    return DeploymentNode(
        name=name,
        pool=stored["work_pool_name"],
        queue=stored["work_queue_name"],
        schedules=tuple(read_schedule(item) for item in sort_schedules(stored["schedules"])),
        estimate=estimate,
        terms=terms,
        limit=None if limit is None else limit["limit"],
        parameters=stored["parameters"] or {},
        schema=stored["parameter_openapi_schema"] or None,
        arrivals_per_hour=rate,
        paused=bool(stored["paused"]),
        job_variables=stored["job_variables"] or {},
    )


def read_schedule(stored: Mapping[str, Any]) -> Schedule:
    """Parse a schedule as Prefect's API gives it."""
    schedule = stored["schedule"]
    zone = schedule.get("timezone") or "UTC"
    common: dict[str, Any] = {"active": stored["active"], "parameters": stored.get("parameters") or {}}
    if "cron" in schedule:
        return Schedule(cron=schedule["cron"], zone=zone, day_or=schedule.get("day_or") is not False, **common)
    if "interval" in schedule:
        anchor = schedule.get("anchor_date")
        anchor_s = 0.0 if anchor is None else unix_s(str(anchor))
        return Schedule(every_s=float(schedule["interval"]), anchor_s=anchor_s, zone=zone, **common)
    return Schedule(rrule=schedule["rrule"], zone=zone, **common)


def _pools(api: PrefectApi) -> dict[str, PoolFacts]:
    found = {}
    for page in api.pages("/work_pools/filter", {}):
        for pool in page:
            queues = read_queues(api, pool)
            found[pool["name"]] = PoolFacts(
                name=pool["name"],
                limit=pool["concurrency_limit"],
                priorities={queue["name"]: queue["priority"] for queue in queues},
                queue_limits={queue["name"]: queue["concurrency_limit"] for queue in queues},
            )
    return found


def _roots(stored: Mapping[str, Any], folder: Path) -> list[Path]:
    """Return folders that may contain the files of a deployment."""
    roots = [Path(stored["path"])] if stored.get("path") else []
    for step in stored.get("pull_steps") or ():
        for inputs in step.values():
            if isinstance(inputs, Mapping) and "directory" in inputs:
                roots.append(Path(str(inputs["directory"])))
    return [*roots, folder]


def _source_of(
    stored: Mapping[str, Any], roots: list[Path], version: RecordedVersion, notes: list[str]
) -> tuple[FlowSource | None, str]:
    """Read the source file of a deployment: that of its version, else one on this machine; with its path."""
    path, _, function = str(stored["entrypoint"] or "").partition(":")
    if not path.endswith(".py"):
        return None, ""
    try:
        text = version.read(path)
        if text is None:
            text = next((file.read_text() for root in roots if (file := root / path).is_file()), None)
        return (None if text is None else read_source(text, path).get(function.split(".")[-1])), path
    except (SyntaxError, UnicodeDecodeError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return None, path


def _promises(terms: Terms, contract: str | None, roots: list[Path], notes: list[str]) -> dict[str, TableSchema]:
    """Return the columns that a deployment's contract guarantees: the version's contract, else one on this machine."""
    if terms.contract is None or not terms.outputs:
        return {}
    try:
        if contract is None:
            contract = next((f.read_text() for root in roots if (f := root / terms.contract).is_file()), None)
        return {} if contract is None else read_promises(contract, terms.contract, terms.outputs)
    except (InvalidInputError, UnicodeDecodeError) as error:
        notes.append(f"contract {terms.contract} is left out: {error}")
        return {}


def _durations(api: PrefectApi, server: PrefectPipelineServer) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Return quantiles of recent durations, and the hourly rate of runs that no schedule made, by deployment."""
    durations: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC"}
    for index, page in enumerate(api.pages("/flow_runs/filter", body)):
        for run in page:
            if run["deployment_id"] is None or not run["start_time"] or not run["end_time"]:
                continue
            name = server.deployment_name(run["deployment_id"])
            start, end = (unix_s(run[key]) for key in ("start_time", "end_time"))
            durations.setdefault(name, []).append(max(end - start, 0.001))
            if not run["auto_scheduled"]:
                starts.setdefault(name, []).append(start)
        if index + 1 >= _HISTORY_PAGES:
            break
    estimates = {}
    for name, values in durations.items():
        p50, p90 = np.quantile(values, [0.5, 0.9])
        estimates[name] = Estimate(p50_s=float(p50), p90_s=float(max(p50, p90)))
    now_s = datetime.now(UTC).timestamp()
    rates = {}
    for name, times in starts.items():
        hours = (now_s - min(times)) / 3600
        if len(times) >= 10 and hours >= 1 and math.isfinite(hours):
            rates[name] = len(times) / hours
    return estimates, rates
