"""From the graph to the automations that make Prefect run it in order, one batch at a time.

A deployment announces every dataset that it has written by an event with three labels: the dataset, the batch, and the
pipeline version under which the batch began. An automation counts, per batch, the announced inputs of one deployment
(`for_each` the batch label, `threshold` the number of inputs) and starts it when all are there. Prefect opens one
counter per batch and closes it for the rest of `within` once it has fired, so a batch starts a deployment once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from prefect_intelligent.pipelines.deployments import DeploymentNode
from prefect_intelligent.pipelines.event_names import ARRIVED, BATCH, DATASET, FRESH, PIPELINE, PIPELINE_ENV
from prefect_intelligent.pipelines.graph import Graph, topological_order
from prefect_intelligent.pipelines.project_file import HOLD_S, LatePolicy, Project

NAME_PREFIX: Final = "prefect-intelligent: "

AutomationSpec = Mapping[str, Any]
"""An automation as Prefect's API takes it, without ids, with the deployment's name for its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCondition:
    """When and how the inputs of a deployment start it.

    Attributes:
        deployment: Which.
        awaited: Datasets that must be fresh, sorted.
        standing: Datasets it reads without waiting: they come in no batches.
        correlation: "batch" joins inputs of the same batch; "window" joins whatever is fresh within the wait.
        batch_parameter: Parameter that receives the batch; None if it has none.
        within_s: How long a batch's inputs are collected.
        on_late: What happens if they do not all come.
        parameters: Further parameters given to its runs.
    """

    deployment: str
    awaited: tuple[str, ...]
    standing: tuple[str, ...] = ()
    correlation: Literal["batch", "window"] = "batch"
    batch_parameter: str | None = None
    within_s: float = HOLD_S
    on_late: LatePolicy = "hold"
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Deployments joined by data: the unit that changes version as a whole.

    Attributes:
        label: Pipeline version: a digest of `starts`, a dot, and how often steps have been replaced under it.
        roots: Deployments that begin batches: they write for others and wait for nobody.
        starts: What starts the others, by deployment.
    """

    label: str
    roots: tuple[str, ...]
    starts: Mapping[str, StartCondition] = field(default_factory=dict)

    @property
    def members(self) -> tuple[str, ...]:
        """All its deployments, sorted."""
        return tuple(sorted({*self.roots, *self.starts}))


def batch_parameter(step: DeploymentNode) -> str | None:
    """The parameter that carries the batch: `Terms.batch`, else "batch" if the flow has such a parameter."""
    if step.terms.batch is not None:
        return step.terms.batch
    properties = (step.schema or {}).get("properties", {})
    return "batch" if "batch" in properties else None


def start_conditions(
    graph: Graph,
    steps: Mapping[str, DeploymentNode],
    project: Project,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, StartCondition], list[str]]:
    """What starts each deployment that reads something, and notes about those that nothing can start.

    Args:
        graph: The graph.
        steps: Deployments that exist.
        project: Waits and policies.
        parameters: Parameters given to the runs that are started, by deployment.

    Raises:
        InvalidInputError: The graph has a cycle.
    """
    topological_order(graph)
    starts: dict[str, StartCondition] = {}
    notes: list[str] = []
    carries = {name: batch_parameter(step) for name, step in steps.items()}
    for name in graph.deployments:
        if name not in steps or not graph.inputs[name]:
            continue
        produced = {d: [w for w in graph.writers.get(d, ()) if w in steps] for d in graph.inputs[name]}
        batched = tuple(d for d, writers in produced.items() if any(carries[w] for w in writers))
        loose = tuple(d for d, writers in produced.items() if writers and d not in batched)
        awaited, correlation = (batched, "batch") if batched else (loose, "batch" if len(loose) == 1 else "window")
        if not awaited:
            notes.append(f"{name} is not started: nothing here produces {', '.join(graph.inputs[name])}")
            continue
        if (
            not batched
            and carries[name] is not None
            and carries[name] in (steps[name].schema or {}).get("required", ())
        ):
            notes.append(f"{name} is not started: none of its inputs carries the batch that its parameter needs")
            continue
        given = {*steps[name].parameters, *(parameters or {}).get(name, {}), *([carries[name]] if batched else [])}
        if missing := sorted(set((steps[name].schema or {}).get("required", ())) - given):
            notes.append(f"{name} is not started: nothing gives its parameter {', '.join(missing)} a value")
            continue
        if correlation == "window":
            notes.append(
                f"{name} joins {', '.join(awaited)} by time, not by batch: their flows have no batch parameter"
            )
        how = project.ordering_of(name)
        starts[name] = StartCondition(
            deployment=name,
            awaited=awaited,
            standing=tuple(d for d in graph.inputs[name] if d not in awaited),
            correlation="window" if correlation == "window" else "batch",
            batch_parameter=carries[name] if batched else None,
            within_s=HOLD_S if how.on_late == "hold" and correlation == "batch" else how.wait_s,
            on_late=how.on_late,
            parameters=(parameters or {}).get(name, {}),
        )
    return starts, notes


def components(
    graph: Graph,
    starts: Mapping[str, StartCondition],
    steps: Iterable[str],
    generations: Mapping[str, int] | None = None,
) -> list[Component]:
    """The parts of the graph that share no awaited dataset, each with its version label; sorted by first root.

    Args:
        graph: The graph.
        starts: From `start_conditions`.
        steps: All deployments.
        generations: How often a step has been replaced, by root; the largest of a component's roots counts.
    """
    parent = {name: name for name in steps}

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
        mine = {name: starts[name] for name in names if name in starts}
        if mine:
            roots = tuple(name for name in names if name not in mine)
            generation = max(((generations or {}).get(root, 0) for root in roots), default=0)
            found.append(Component(label=f"{_digest(mine.values())}.{generation}", roots=roots, starts=mine))
    return sorted(found, key=lambda component: (component.roots, sorted(component.starts)))


def generation_of(label: str) -> int:
    """How often steps have been replaced, from a pipeline version."""
    _, _, number = label.rpartition(".")
    return int(number) if number.isdigit() else 0


def _digest(starts: Iterable[StartCondition]) -> str:
    """Ten hexadecimal digits that name these starts."""
    plain = [[getattr(start, name) for name in StartCondition.__slots__] for start in starts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:10]


def automations(component: Component) -> dict[str, AutomationSpec]:
    """The automations of a component by name."""
    made: dict[str, AutomationSpec] = {}
    for start in component.starts.values():
        name = f"{NAME_PREFIX}{start.deployment} [{component.label}]"
        made[name] = _automation(start, component.label, _when_all_there(start, component.label))
        if start.on_late == "stale" and start.correlation == "batch" and len(start.awaited) > 1:
            made[f"{name} late"] = _automation(start, component.label, _when_overdue(start, component.label))
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


def _when_all_there(start: StartCondition, label: str) -> dict[str, Any]:
    expect = ARRIVED if start.on_late == "stale" and start.correlation == "batch" else FRESH
    if start.correlation == "batch":
        return _events(start, label, start.awaited) | {"expect": [expect], "threshold": len(start.awaited)}
    each = [
        _events(start, label, [dataset]) | {"expect": [expect], "for_each": [], "within": 0.0}
        for dataset in start.awaited
    ]
    return {"type": "compound", "require": "all", "within": start.within_s, "triggers": each}


def _when_overdue(start: StartCondition, label: str) -> dict[str, Any]:
    """Fires when a batch has begun and not all inputs have arrived within the wait."""
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
