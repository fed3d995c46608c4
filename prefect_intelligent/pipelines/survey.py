"""The pipeline model: graph and inventory, merged from the server, source files, the project file and overrides."""

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
    """Deployments, pools and edges as found on the Prefect server and in source files.

    Attributes:
        nodes: Deployments by name, before the project file is applied.
        pools: Work pools by name.
        edges: Evidence for the graph besides the terms of deployments.
        calls: Calls and automation starts.
        notes: What could not be read, one sentence each.
    """

    nodes: Mapping[str, DeploymentNode]
    pools: Mapping[str, PoolFacts] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    calls: tuple[DeploymentCall, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Changes made with `modify` to a running pipeline, applied on top of what its authors declared.

    Attributes:
        removed: Deployments that their inputs no longer start (a removed step or a paused branch).
        terms: Terms that replace the declared ones, key by key, by deployment (a re-routed dataset, an added step).
        parameters: Parameters set for the runs that are started, by deployment.
        paused: Removed deployments whose schedules were paused as well.
        original_parameters: Default parameters of root deployments before `modify set` changed them, by deployment.
    """

    removed: frozenset[str] = frozenset()
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    original_parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "removed": sorted(self.removed),
            "terms": {name: dict(values) for name, values in self.terms.items()},
            "parameters": {name: dict(values) for name, values in self.parameters.items()},
            "paused": sorted(self.paused),
            "own": {name: dict(values) for name, values in self.original_parameters.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            removed=frozenset(data.get("removed", ())),
            terms=data.get("terms", {}),
            parameters=data.get("parameters", {}),
            paused=frozenset(data.get("paused", ())),
            original_parameters=data.get("own", {}),
        )

    def with_terms(self, deployment: str, values: Mapping[str, Any]) -> Overrides:
        """Return a copy with some terms of a deployment set."""
        return replace(self, terms={**self.terms, deployment: {**self.terms.get(deployment, {}), **values}})

    def with_parameters(self, deployment: str, values: Mapping[str, Any]) -> Overrides:
        """Return a copy with some parameters of a deployment's runs set."""
        merged = {**self.parameters.get(deployment, {}), **values}
        return replace(self, parameters={**self.parameters, deployment: merged})


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineModel:
    """The graph with all facts that conflict rules and `graph apply` need.

    Attributes:
        graph: Deployments, datasets and edges.
        inventory: Facts about deployments and pools.
        project: Content of the project file.
        overrides: Changes made with `modify`.
        notes: What could not be read, one sentence each.
    """

    graph: Graph
    inventory: Inventory
    project: Project
    overrides: Overrides = field(default_factory=Overrides)
    notes: tuple[str, ...] = ()

    @property
    def nodes(self) -> Mapping[str, DeploymentNode]:
        """Deployments by name."""
        return self.inventory.nodes


def build_model(survey: Survey, project: Project, overrides: Overrides, prices: Prices, at_s: float) -> PipelineModel:
    """Merge the survey, the project file and the overrides into one model.

    Args:
        survey: What was found.
        project: Content of the project file; its terms replace those of the deployments.
        overrides: Changes made with `modify`; they replace both.
        prices: Price of capacity and weight of lateness.
        at_s: Start of the time span in which schedules are compared, Unix seconds.

    Raises:
        InvalidInputError: A term of the project file or of the overrides is invalid.
    """
    nodes: dict[str, DeploymentNode] = {}
    for name, node in survey.nodes.items():
        terms = project.terms_of(name, node.terms)
        if name in overrides.terms:
            terms = Terms.from_dict({**terms.to_dict(), **overrides.terms[name]})
        nodes[name] = replace(
            node,
            terms=terms,
            expects={**node.expects, **project.expects.get(name, {})},
            promises={**node.promises, **project.promises.get(name, {})},
        )
    return PipelineModel(
        graph=build_graph([*survey.edges, *declared_edges(nodes)], nodes),
        inventory=Inventory(
            nodes=nodes,
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


def declared_edges(nodes: Mapping[str, DeploymentNode]) -> Iterator[Edge]:
    """Yield the edges that the terms of deployments declare."""
    evidence = (EdgeEvidence("declared", "terms"),)
    for name, node in nodes.items():
        yield from (Edge(dataset, name, "reads", evidence) for dataset in node.terms.inputs)
        yield from (Edge(name, dataset, "writes", evidence) for dataset in node.terms.outputs)
