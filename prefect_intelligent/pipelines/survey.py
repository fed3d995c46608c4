"""From what was found on the server and in the files to the graph and the inventory that everything else works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from prefect_intelligent.domain import Prices, Terms
from prefect_intelligent.pipelines.deployments import DeploymentCall, DeploymentNode, Inventory, PoolFacts
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, Graph, build_graph
from prefect_intelligent.pipelines.project_file import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        steps: Deployments by name, without what the project file says.
        pools: Work pools by name.
        edges: Evidence for the graph besides the terms.
        calls: Calls and automation starts.
        notes: What could not be read, one sentence each.
    """

    steps: Mapping[str, DeploymentNode]
    pools: Mapping[str, PoolFacts] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    calls: tuple[DeploymentCall, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Changes made to a pipeline while it runs, on top of what its authors declared.

    Attributes:
        removed: Deployments that their inputs no longer start (a removed step or a paused branch).
        terms: Terms that replace the declared ones, key by key, by deployment (a re-routed dataset, an added step).
        parameters: Parameters given to the runs that are started, by deployment.
        paused: Of those removed, the ones whose schedules were paused with it.
        own: Default parameters that a deployment which begins batches had before it was given others.
    """

    removed: frozenset[str] = frozenset()
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "removed": sorted(self.removed),
            "terms": {name: dict(values) for name, values in self.terms.items()},
            "parameters": {name: dict(values) for name, values in self.parameters.items()},
            "paused": sorted(self.paused),
            "own": {name: dict(values) for name, values in self.own.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            removed=frozenset(data.get("removed", ())),
            terms=data.get("terms", {}),
            parameters=data.get("parameters", {}),
            paused=frozenset(data.get("paused", ())),
            own=data.get("own", {}),
        )

    def with_terms(self, deployment: str, values: Mapping[str, Any]) -> Overrides:
        """The same with some terms of a deployment set."""
        return replace(self, terms={**self.terms, deployment: {**self.terms.get(deployment, {}), **values}})

    def with_parameters(self, deployment: str, values: Mapping[str, Any]) -> Overrides:
        """The same with some parameters of a deployment's runs set."""
        own = {**self.parameters.get(deployment, {}), **values}
        return replace(self, parameters={**self.parameters, deployment: own})


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineModel:
    """The graph with everything that the rules and the planner need.

    Attributes:
        graph: The graph.
        inventory: Facts about its deployments and pools.
        project: The project file.
        overrides: What was changed while it runs.
        notes: What could not be read.
    """

    graph: Graph
    inventory: Inventory
    project: Project
    overrides: Overrides = field(default_factory=Overrides)
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> Mapping[str, DeploymentNode]:
        """Deployments by name."""
        return self.inventory.steps


def build_model(survey: Survey, project: Project, overrides: Overrides, prices: Prices, at_s: float) -> PipelineModel:
    """Put together what was found, what the project file says and what was changed since.

    Raises:
        InvalidInputError: A term of the project file or of the overrides cannot be used.
    """
    steps: dict[str, DeploymentNode] = {}
    for name, step in survey.steps.items():
        terms = project.terms_of(name, step.terms)
        if name in overrides.terms:
            terms = Terms.from_dict({**terms.to_dict(), **overrides.terms[name]})
        steps[name] = replace(
            step,
            terms=terms,
            expects={**step.expects, **project.expects.get(name, {})},
            promises={**step.promises, **project.promises.get(name, {})},
        )
    return PipelineModel(
        graph=build_graph([*survey.edges, *declared_edges(steps)], steps),
        inventory=Inventory(
            steps=steps,
            pools=survey.pools,
            calls=survey.calls,
            external=project.external,
            prices=prices,
            at_s=at_s,
        ),
        project=project,
        overrides=overrides,
        notes=survey.notes,
    )


def declared_edges(steps: Mapping[str, DeploymentNode]) -> Iterator[Edge]:
    """Edges from the terms of each deployment."""
    evidence = (EdgeEvidence("declared", "terms"),)
    for name, step in steps.items():
        yield from (Edge(dataset, name, "reads", evidence) for dataset in step.terms.inputs)
        yield from (Edge(name, dataset, "writes", evidence) for dataset in step.terms.outputs)
