"""Inferred edges: from automations that others have made, and from observed events and runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.pipelines.adapters.prefect_resources import TAG, PrefectPipelineServer
from prefect_intelligent.pipelines.deployments import DeploymentCall
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, EdgeKind
from prefect_intelligent.prefect_client.api import PrefectApi

Links = tuple[list[Edge], list[DeploymentCall]]

_DEPLOYMENT: Final = "prefect.deployment."
_FLOW: Final = "prefect.flow."
_ENDED: Final = "prefect.flow-run.Completed"
_BEGAN: Final = frozenset({"prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Scheduled"})
_ASSET_WRITTEN: Final = "prefect.asset.materialization.succeeded"
_ASSET_READ: Final = "prefect.asset.referenced"
_EVENT_PAGES: Final = 20  # of 50 events


def automation_links(
    api: PrefectApi, server: PrefectPipelineServer, deployments: Mapping[str, Mapping[str, Any]]
) -> Links:
    """Return edges and calls from automations that others have made.

    An automation that waits for the end of a deployment's runs (or of a flow's) gives a `triggers` edge, one that waits
    for an asset a `reads` edge. One that reacts to failures gives no edge, only a call whose parameters are checked.
    """
    edges: list[Edge] = []
    calls: list[DeploymentCall] = []
    of_flow: dict[str, list[str]] = {}
    for name, stored in deployments.items():
        of_flow.setdefault(stored["flow_id"], []).append(name)
    for page in api.pages("/automations/filter", {}):
        for stored in page:
            if TAG in stored["tags"] or not stored["enabled"]:
                continue
            where = f"automation {stored['name']}"
            evidence = (EdgeEvidence("automation", where),)
            for trigger in _event_triggers(stored["trigger"]):
                watched = _watched(trigger)
                sources = {
                    server.deployment_name(v.removeprefix(_DEPLOYMENT)) for v in watched if v.startswith(_DEPLOYMENT)
                }
                sources |= {
                    name for v in watched if v.startswith(_FLOW) for name in of_flow.get(v.removeprefix(_FLOW), ())
                }
                expected = set(trigger.get("expect") or ())
                kind = _kind(expected)
                assets = {v for v in watched if "://" in v} if not expected or _ASSET_WRITTEN in expected else set()
                for action in stored["actions"]:
                    if action.get("type") != "run-deployment":
                        continue
                    chosen = action.get("deployment_id")
                    given = action.get("parameters") or {}
                    targets = [server.deployment_name(chosen)] if chosen else sorted(sources)
                    for target in (name for name in targets if name in deployments):
                        edges += [Edge(asset, target, "reads", evidence) for asset in sorted(assets)]
                        for source in sorted(sources & set(deployments)):
                            if not chosen and source != target:  # source "inferred" starts the deployment of the event
                                continue
                            if kind is not None:
                                edges.append(Edge(source, target, kind, evidence))
                            calls.append(
                                DeploymentCall(caller=source, callee=target, waits=False, parameters=given, where=where)
                            )
    return edges, calls


def _event_triggers(trigger: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the event triggers within a trigger."""
    children = trigger.get("triggers")
    return [trigger] if not children else [item for child in children for item in _event_triggers(child)]


def _kind(expected: Collection[str]) -> EdgeKind | None:
    """Return the kind of edge of an automation that waits for these events; None if they all report failures."""
    if not expected or any(name == _ENDED or name.endswith("*") for name in expected):
        return "triggers"
    if _BEGAN & set(expected):
        return "calls"
    return None if all(name.startswith("prefect.flow-run.") for name in expected) else "triggers"


def _watched(trigger: Mapping[str, Any]) -> set[str]:
    """Return ids of the resources that an event trigger matches."""
    found: set[str] = set()
    for key in ("match", "match_related"):
        specifications = trigger.get(key) or {}
        for item in specifications if isinstance(specifications, list) else [specifications]:
            values = item.get("prefect.resource.id", [])
            found.update(v for v in ([values] if isinstance(values, str) else values) if not v.endswith("*"))
    return found


def observed_links(api: PrefectApi, server: PrefectPipelineServer, deployments: Collection[str]) -> Links:
    """Return edges and calls observed in the last seven days: materialised and referenced assets, child runs.

    Deployments that have been deleted since are left out.
    """
    since = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    events = {"event": {"name": [_ASSET_WRITTEN, _ASSET_READ]}, "occurred": {"since": since}, "order": "DESC"}
    found: set[Edge] = set()
    page = api.call("POST", "/events/filter", {"filter": events, "limit": 50})
    for index in range(_EVENT_PAGES):
        for event in page["events"]:
            related = (item["prefect.resource.id"] for item in event["related"])
            source = next((item for item in related if item.startswith(_DEPLOYMENT)), None)
            name = None if source is None else server.deployment_name(source.removeprefix(_DEPLOYMENT))
            if name is None or name not in deployments:
                continue
            key = event["resource"]["prefect.resource.id"]
            evidence = (EdgeEvidence("observed", f"event {event['event']}"),)
            read = event["event"] == _ASSET_READ
            found.add(Edge(key, name, "reads", evidence) if read else Edge(name, key, "writes", evidence))
        following = page.get("next_page")
        if not following or index + 1 == _EVENT_PAGES:
            break
        page = api.call("GET", "/events/filter/next?" + following.partition("?")[2])
    edges, calls = _parents(api, server, deployments)
    return [*sorted(found), *edges], calls


def _parents(api: PrefectApi, server: PrefectPipelineServer, deployments: Collection[str]) -> Links:
    """Return calls from runs of deployments whose parent is a task of another deployment's run.

    A parent waits for its child if it ended after the child, or is still running.
    """
    body = {"flow_runs": {"parent_task_run_id": {"is_null_": False}}, "sort": "START_TIME_DESC", "limit": 100}
    children = [run for run in api.call("POST", "/flow_runs/filter", body) if run["deployment_id"]]
    if not children:
        return [], []
    tasks = _by_id(api, "/task_runs/filter", "task_runs", [run["parent_task_run_id"] for run in children])
    flow_runs = [task["flow_run_id"] for task in tasks.values() if task["flow_run_id"]]
    parents = _by_id(api, "/flow_runs/filter", "flow_runs", flow_runs)
    waits: dict[tuple[str, str], bool] = {}
    for run in children:
        task = tasks.get(run["parent_task_run_id"])
        parent = parents.get(task["flow_run_id"]) if task else None
        if parent and parent["deployment_id"] and parent["deployment_id"] != run["deployment_id"]:
            pair = server.deployment_name(parent["deployment_id"]), server.deployment_name(run["deployment_id"])
            ended, child_ended = parent["end_time"], run["end_time"]
            waited = ended is None or (child_ended is not None and unix_s(ended) >= unix_s(child_ended))
            waits[pair] = waits.get(pair, True) and waited
    known = {pair: waited for pair, waited in sorted(waits.items()) if set(pair) <= set(deployments)}
    evidence = (EdgeEvidence("observed", "parent run"),)
    edges = [Edge(caller, callee, "calls", evidence) for caller, callee in known]
    return edges, [
        DeploymentCall(caller=caller, callee=callee, waits=waited, where="parent run")
        for (caller, callee), waited in known.items()
    ]


def _by_id(api: PrefectApi, route: str, kind: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    pages = api.pages(route, {kind: {"id": {"any_": sorted(set(ids))}}}) if ids else ()
    return {item["id"]: item for page in pages for item in page}
