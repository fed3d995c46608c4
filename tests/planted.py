"""A clean project of the demo's shape, and the same with one conflict planted per rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect_intelligent.domain import Estimate, Terms, parse_deadline
from prefect_intelligent.pipelines.deployments import (
    ColumnSpec,
    DeploymentCall,
    DeploymentNode,
    Inventory,
    PoolFacts,
    Schedule,
)
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, Graph, build_graph

AT_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC
DECLARED = (EdgeEvidence("declared", "flows.py"),)
SCHEMA = {"properties": {"batch": {"type": "string"}}, "required": ["batch"]}


def node(name: str, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = (), **more: Any) -> DeploymentNode:
    usd = more.pop("usd", 50.0)
    return DeploymentNode(
        name=name,
        pool="pool",
        queue=more.pop("queue", "low"),
        estimate=more.pop("estimate", Estimate(p50_s=300.0, p90_s=500.0)),
        terms=Terms(deadline=parse_deadline("2h"), late_usd_per_hour=usd, inputs=inputs, outputs=outputs),
        parameters={"batch": "2026-01-01"},
        schema=SCHEMA,
        **more,
    )


def daily(hour: int, minute: int = 0) -> tuple[Schedule, ...]:
    return (Schedule(cron=f"{minute} {hour} * * *"),)


def clean_nodes() -> dict[str, DeploymentNode]:
    flights = {"flights": {"delay": ColumnSpec(type="integer", minimum=-100.0, maximum=2000.0)}}
    nodes = [
        node("ingest/flights", ("external:bts",), ("raw_flights",), schedules=daily(2)),
        node("ingest/weather", (), ("raw_weather",), schedules=daily(2, 5)),
        node("clean/prod", ("raw_flights",), ("flights",), schedules=daily(3), promises=flights),
        node("join/prod", ("flights", "raw_weather"), ("flight_weather",), schedules=daily(4), expects=flights),
        node("report/prod", ("flight_weather",), ("report",), schedules=daily(5), usd=50.0, limit=1),
    ]
    return {item.name: item for item in nodes}


def make(
    nodes: dict[str, DeploymentNode], calls: tuple[DeploymentCall, ...] = (), **more: Any
) -> tuple[Graph, Inventory]:
    edges = [Edge(name, dataset, "writes", DECLARED) for name, s in nodes.items() for dataset in s.terms.outputs]
    edges += [Edge(dataset, name, "reads", DECLARED) for name, s in nodes.items() for dataset in s.terms.inputs]
    edges += [Edge(call.caller, call.callee, "calls", (EdgeEvidence("source", call.where),)) for call in calls]
    pool = PoolFacts(name="pool", limit=more.pop("limit", 4), priorities={"high": 1, "low": 2})
    return build_graph(edges, nodes), Inventory(nodes=nodes, pools={"pool": pool}, calls=calls, at_s=AT_S, **more)


def changed(name: str, terms: dict[str, Any] | None = None, **more: Any) -> dict[str, DeploymentNode]:
    nodes = clean_nodes()
    new = replace(nodes[name], **more)
    nodes[name] = replace(new, terms=replace(new.terms, **terms)) if terms else new
    return nodes


def added(new: DeploymentNode) -> dict[str, DeploymentNode]:
    return clean_nodes() | {new.name: new}


PLANTED: dict[str, Callable[[], tuple[Graph, Inventory]]] = {
    "cycle": lambda: make(added(node("a/prod", ("y",), ("x",))) | {"b/prod": node("b/prod", ("x",), ("y",))}),
    "two-writers": lambda: make(added(node("fix/flights", ("raw_weather",), ("flights",)))),
    "missing-producer": lambda: make(changed("join/prod", {"inputs": ("flights", "raw_weather", "holidays")})),
    "reads-too-early": lambda: make(changed("clean/prod", schedules=daily(2, 5))),
    "overlapping-writers": lambda: make(
        changed("ingest/weather", schedules=(Schedule(every_s=600.0),), estimate=Estimate(p50_s=900, p90_s=950))
    ),
    "duplicate-schedule": lambda: make(changed("ingest/flights", schedules=daily(2) + daily(2))),
    "slot-deadlock": lambda: make(
        added(node("parent/prod")),
        (DeploymentCall(caller="parent/prod", callee="report/prod", parameters={"batch": "x"}),),
    ),
    "over-capacity": lambda: make(
        added(node("big/prod", schedules=(Schedule(every_s=60.0),), estimate=Estimate(p50_s=300, p90_s=310)))
    ),
    "limit-too-low": lambda: make(
        added(
            node("often/prod", schedules=(Schedule(every_s=200.0),), estimate=Estimate(p50_s=300, p90_s=310), limit=1)
        )
    ),
    "contract-break": lambda: make(
        changed(
            "clean/prod", promises={"flights": {"delay": ColumnSpec(type="double", minimum=-100.0, maximum=2000.0)}}
        )
    ),
    "parameter-break": lambda: make(changed("report/prod", parameters={})),
    "priority-inversion": lambda: make(changed("report/prod", {"late_usd_per_hour": 900.0}, queue="high")),
}
"""One planted conflict per rule id."""
