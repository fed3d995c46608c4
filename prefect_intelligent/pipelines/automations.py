"""Prefect automations that run the graph in order, one batch at a time.

A run emits one event per dataset that it has written, with three labels: the dataset, the batch, and the pipeline
version under which the batch began. The automation of a deployment counts these events per batch (`for_each` is the
batch label, `threshold` the number of inputs) and starts the deployment when all inputs have arrived. Prefect keeps one
counter per batch; once it has fired, it stays closed for the rest of `within`, so a batch starts a deployment once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.pipelines.deployments import DeploymentNode
from prefect_intelligent.pipelines.event_names import ARRIVED, BATCH, DATASET, FRESH, PIPELINE, PIPELINE_ENV
from prefect_intelligent.pipelines.graph import Graph, topological_order
from prefect_intelligent.pipelines.project_file import HOLD_S, LatePolicy, Project

NAME_PREFIX: Final = "prefect-intelligent: "

AutomationSpec = Mapping[str, Any]
"""An automation as Prefect's API takes it, without ids; actions name their deployment instead of its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCondition:
    """When and how the inputs of a deployment start it.

    Attributes:
        deployment: "flow/deployment".
        awaited: Datasets that must be fresh, sorted.
        unawaited: Datasets it reads without waiting for them, because they do not arrive in batches.
        correlation: "batch" joins inputs of the same batch; "window" joins inputs that are fresh within the wait.
        batch_parameter: Parameter that receives the batch; None if it has none.
        within_s: Time in which the inputs of a batch are collected, seconds.
        on_late: What happens if an input is missing after that.
        parameters: Further parameters of its runs.
    """

    deployment: str
    awaited: tuple[str, ...]
    unawaited: tuple[str, ...] = ()
    correlation: Literal["batch", "window"] = "batch"
    batch_parameter: str | None = None
    within_s: float = HOLD_S
    on_late: LatePolicy = "hold"
    parameters: Mapping[str, Any] = field(default_factory=dict)


def describe_start(start: StartCondition) -> str:
    """What starts the deployment, in one sentence."""
    datasets = " and ".join(start.awaited)
    verb = "is" if len(start.awaited) == 1 else "are"
    if start.correlation == "window" and len(start.awaited) > 1:
        when = f"once {datasets} {verb} all written within {format_span(start.within_s)}"
    elif start.batch_parameter is not None:
        when = f"once {datasets} {verb} written for a batch, with that batch as `{start.batch_parameter}`"
    else:
        when = f"once {datasets} {verb} written"
    late = {
        "hold": "a batch without all of them starts nothing",
        "skip": "a batch without all of them is skipped",
        "stale": f"after {format_span(start.within_s)} it starts with what there is",
    }[start.on_late]
    return f"{start.deployment} starts {when}" + (f"; {late}" if len(start.awaited) > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Deployments connected by datasets: the unit that has a pipeline version.

    Attributes:
        label: Pipeline version: a digest of `starts`, a dot, and how often deployments have been replaced.
        roots: Deployments that begin batches: others read their outputs, and they wait for no input.
        starts: Start conditions of the other deployments, by deployment.
    """

    label: str
    roots: tuple[str, ...]
    starts: Mapping[str, StartCondition] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """All its deployments, sorted."""
        return tuple(sorted({*self.roots, *self.starts}))


def batch_parameter(node: DeploymentNode) -> str | None:
    """Return the parameter that receives the batch: `Terms.batch`, else "batch" if the flow has such a parameter."""
    if node.terms.batch is not None:
        return node.terms.batch
    properties = (node.schema or {}).get("properties", {})
    return "batch" if "batch" in properties else None


def start_conditions(
    graph: Graph,
    nodes: Mapping[str, DeploymentNode],
    project: Project,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, StartCondition], list[str]]:
    """Return the start condition of each deployment that reads a dataset, and notes about those without one.

    Args:
        graph: The graph.
        nodes: Deployments that exist.
        project: Wait policies.
        parameters: Parameters set for the runs that are started, by deployment.

    Raises:
        InvalidInputError: The graph has a cycle.
    """
    topological_order(graph)
    starts: dict[str, StartCondition] = {}
    notes: list[str] = []
    batch_parameters = {name: batch_parameter(node) for name, node in nodes.items()}
    for name in graph.deployments:
        if name not in nodes or not graph.inputs[name]:
            continue
        produced = {d: [w for w in graph.writers.get(d, ()) if w in nodes] for d in graph.inputs[name]}
        batched = tuple(d for d, writers in produced.items() if any(batch_parameters[w] for w in writers))
        unbatched = tuple(d for d, writers in produced.items() if writers and d not in batched)
        awaited, correlation = (
            (batched, "batch") if batched else (unbatched, "batch" if len(unbatched) == 1 else "window")
        )
        if not awaited:
            notes.append(f"{name} is not started: nothing here produces {', '.join(graph.inputs[name])}")
            continue
        if (
            not batched
            and batch_parameters[name] is not None
            and batch_parameters[name] in (nodes[name].schema or {}).get("required", ())
        ):
            notes.append(f"{name} is not started: none of its inputs carries the batch that its parameter needs")
            continue
        given = {
            *nodes[name].parameters,
            *(parameters or {}).get(name, {}),
            *([batch_parameters[name]] if batched else []),
        }
        if missing := sorted(set((nodes[name].schema or {}).get("required", ())) - given):
            notes.append(f"{name} is not started: nothing gives its parameter {', '.join(missing)} a value")
            continue
        if correlation == "window":
            notes.append(
                f"{name} joins {', '.join(awaited)} by time, not by batch: their flows have no batch parameter"
            )
        policy = project.wait_policy_of(name)
        starts[name] = StartCondition(
            deployment=name,
            awaited=awaited,
            unawaited=tuple(d for d in graph.inputs[name] if d not in awaited),
            correlation="window" if correlation == "window" else "batch",
            batch_parameter=batch_parameters[name] if batched else None,
            within_s=HOLD_S if policy.on_late == "hold" and correlation == "batch" else policy.wait_s,
            on_late=policy.on_late,
            parameters=(parameters or {}).get(name, {}),
        )
    return starts, notes


def components(
    graph: Graph,
    starts: Mapping[str, StartCondition],
    nodes: Iterable[str],
    generations: Mapping[str, int] | None = None,
) -> list[Component]:
    """Return the connected components over awaited datasets, each with its version label; sorted by first root.

    Args:
        graph: The graph.
        starts: From `start_conditions`.
        nodes: Names of all deployments.
        generations: How often a deployment has been replaced, by root; the maximum over a component's roots counts.
    """
    parent = {name: name for name in nodes}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for start in starts.values():
        for dataset in start.awaited:
            for writer in graph.writers.get(dataset, ()):
                if writer in parent:
                    parent[find(writer)] = find(start.deployment)
    members: dict[str, list[str]] = {}
    for name in sorted(parent):
        members.setdefault(find(name), []).append(name)
    found = []
    for names in members.values():
        own_starts = {name: starts[name] for name in names if name in starts}
        if own_starts:
            roots = tuple(name for name in names if name not in own_starts)
            generation = max(((generations or {}).get(root, 0) for root in roots), default=0)
            found.append(
                Component(label=f"{_digest(own_starts.values())}.{generation}", roots=roots, starts=own_starts)
            )
    return sorted(found, key=lambda component: (component.roots, sorted(component.starts)))


def generation_of(label: str) -> int:
    """Return how often deployments have been replaced, from the label of a pipeline version."""
    _, _, number = label.rpartition(".")
    return int(number) if number.isdigit() else 0


def _digest(starts: Iterable[StartCondition]) -> str:
    """Return a digest of start conditions, ten hexadecimal digits."""
    values = [[getattr(start, name) for name in StartCondition.__slots__] for start in starts]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:10]


def automations(component: Component) -> dict[str, AutomationSpec]:
    """Return the automations of a component by name."""
    made: dict[str, AutomationSpec] = {}
    for start in component.starts.values():
        name = f"{NAME_PREFIX}{start.deployment} [{component.label}]"
        made[name] = _automation(start, component.label, _arrival_trigger(start, component.label))
        if start.on_late == "stale" and start.correlation == "batch" and len(start.awaited) > 1:
            made[f"{name} late"] = _automation(start, component.label, _overdue_trigger(start, component.label))
    return made


def _events(start: StartCondition, label: str, datasets: Iterable[str]) -> dict[str, Any]:
    return {
        "type": "event",
        "match": {"prefect.resource.id": [DATASET + dataset for dataset in datasets], PIPELINE: label},
        "match_related": {},
        "after": [],
        "for_each": [BATCH],
        "posture": "Reactive",
        "threshold": 1,
        "within": start.within_s,
    }


def _arrival_trigger(start: StartCondition, label: str) -> dict[str, Any]:
    expect = ARRIVED if start.on_late == "stale" and start.correlation == "batch" else FRESH
    if start.correlation == "batch":
        return _events(start, label, start.awaited) | {"expect": [expect], "threshold": len(start.awaited)}
    each = [
        _events(start, label, [dataset]) | {"expect": [expect], "for_each": [], "within": 0.0}
        for dataset in start.awaited
    ]
    return {"type": "compound", "require": "all", "within": start.within_s, "triggers": each}


def _overdue_trigger(start: StartCondition, label: str) -> dict[str, Any]:
    """Return a trigger that fires when a batch has begun and an input is missing after the wait."""
    return _events(start, label, start.awaited) | {
        "after": [FRESH],
        "expect": [ARRIVED],
        "posture": "Proactive",
        "threshold": len(start.awaited),
        "within": max(start.within_s, 10.0),
    }


def _automation(start: StartCondition, label: str, trigger: Mapping[str, Any]) -> AutomationSpec:
    parameters = dict(start.parameters)
    if start.batch_parameter is not None:
        parameters[start.batch_parameter] = "{{ event.resource['" + BATCH + "'] }}"
    return {
        "description": f"Starts {start.deployment} when {', '.join(start.awaited)} are fresh. "
        "Written by `prefect-intelligent graph apply`; edits are overwritten.",
        "enabled": True,
        "trigger": trigger,
        "actions": [
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment": start.deployment,
                "parameters": parameters,
                "job_variables": {"env": {PIPELINE_ENV: label}},
                "schedule_after": 0.0,
            }
        ],
    }
