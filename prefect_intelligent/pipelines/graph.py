"""The graph of datasets and deployments, merged from all evidence; the result does not depend on its order."""

from __future__ import annotations

import gc
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import networkx as nx

from prefect_intelligent.errors import InvalidInputError, UnknownNameError

EdgeKind = Literal["reads", "writes", "calls", "triggers"]
NodeKey = tuple[int, str]
"""(0, deployment) or (1, dataset)."""

CERTAINTY: Final[Mapping[str, float]] = {
    "declared": 1.0,  # inputs= / outputs= of the decorator, or the project file
    "automation": 0.95,  # an automation in Prefect with a trigger and an action
    "asset": 0.9,  # @materialize and asset_deps in source
    "source": 0.8,  # run_deployment in source, reached by name only
    "observed": 0.6,  # seen in events or parent runs; may be a coincidence
}
"""Certainty of a kind of evidence, 0 to 1."""


@dataclass(frozen=True, slots=True, order=True)
class EdgeEvidence:
    """Evidence for an edge: `kind` is a key of `CERTAINTY`, `where` the file and line, the automation or the event."""

    kind: str
    where: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """A directed edge: `reads` from dataset to deployment, `writes` from deployment to dataset.

    `calls` and `triggers` go from one deployment to another.
    """

    source: str
    target: str
    kind: EdgeKind
    evidence: tuple[EdgeEvidence, ...] = ()

    @property
    def certainty(self) -> float:
        """Certainty of its best evidence, 0 to 1."""
        return max((CERTAINTY[item.kind] for item in self.evidence), default=0.0)

    @property
    def declared(self) -> bool:
        """Whether the decorator or the project file declares it."""
        for item in self.evidence:  # noqa: SIM110  runs for every edge, and any() is three times slower
            if item.kind == "declared":
                return True
        return False

    @property
    def deployment(self) -> str:
        """The deployment that reads, writes, calls or triggers."""
        return self.target if self.kind == "reads" else self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Deployments, datasets and the edges between them. Made by `build_graph`; all tuples are sorted.

    Attributes:
        deployments: Names.
        datasets: Names.
        edges: Edges in use.
        overruled: Inferred edges that a declaration of the same deployment contradicts; reported, never used.
        inputs: Datasets read, by deployment.
        outputs: Datasets written, by deployment.
        writers: Deployments that write the dataset, by dataset.
        readers: Deployments that read the dataset, by dataset.
        triggers: Deployments that an automation starts when the deployment finishes, by deployment.
        calls: Deployments called, by deployment.
        sequence: Topological order of all nodes (Kahn's algorithm), smallest name first among the ready ones.
        unordered: Nodes on or behind a cycle, which have no place in the order; empty exactly if datasets and triggers
            form no cycle.
    """

    deployments: tuple[str, ...]
    datasets: tuple[str, ...]
    edges: tuple[Edge, ...]
    overruled: tuple[Edge, ...] = ()
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    triggers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sequence: tuple[NodeKey, ...] = ()
    unordered: frozenset[NodeKey] = frozenset()

    def check_dataset(self, name: str) -> str:
        """Return the name; raises `UnknownNameError` if there is no such dataset."""
        if name not in self.writers and name not in self.readers:
            raise UnknownNameError("dataset", name, self.datasets)
        return name

    def check_deployment(self, name: str) -> str:
        """Return the name; raises `UnknownNameError` if there is no such deployment."""
        if name not in self.inputs:
            raise UnknownNameError("deployment", name, self.deployments)
        return name

    def upstream(self, deployment: str) -> list[str]:
        """Return deployments whose output it reads or that trigger it; sorted, without itself."""
        found = {writer for dataset in self.inputs.get(deployment, ()) for writer in self.writers.get(dataset, ())}
        found.update(source for source, targets in self.triggers.items() if deployment in targets)
        found.discard(deployment)
        return sorted(found)

    def downstream(self, deployment: str) -> list[str]:
        """Return deployments that read its outputs or that it triggers; sorted, without itself."""
        found = {reader for dataset in self.outputs.get(deployment, ()) for reader in self.readers.get(dataset, ())}
        found.update(self.triggers.get(deployment, ()))
        found.discard(deployment)
        return sorted(found)

    def descendants(self, deployments: Iterable[str]) -> set[str]:
        """Return everything downstream of these deployments, directly or indirectly, without themselves."""
        start = set(deployments)
        seen, stack = set(start), sorted(start)
        while stack:
            for name in self.downstream(stack.pop()):
                if name not in seen:
                    seen.add(name)
                    stack.append(name)
        return seen - start


def build_graph(edges: Iterable[Edge], deployments: Iterable[str] = ()) -> Graph:
    """Merge evidence into one graph; any order of the edges gives the same graph.

    Declarations take precedence: where a deployment declares its inputs (or outputs), inferred inputs (outputs) that it
    does not declare are moved to `overruled`.
    """
    gc_enabled = gc.isenabled()
    gc.disable()  # 200,000 small objects, all of them kept: a collection takes as long as everything else
    try:
        return _build(edges, deployments)
    finally:
        if gc_enabled:
            gc.enable()


def _build(edges: Iterable[Edge], deployments: Iterable[str]) -> Graph:
    merged: dict[tuple[str, str, EdgeKind], Edge] = {}
    for edge in edges:
        key = (edge.source, edge.target, edge.kind)
        known = merged.get(key)
        evidence = edge.evidence if known is None else (*known.evidence, *edge.evidence)
        if len(evidence) > 1:
            edge = Edge(*key, tuple(sorted(set(evidence))))
        merged[key] = edge
    inferred = [edge for edge in merged.values() if not edge.declared and edge.kind in ("reads", "writes")]
    overruled: list[Edge] = []
    if inferred:
        declares = {(edge.deployment, edge.kind) for edge in merged.values() if edge.declared}
        overruled = sorted(edge for edge in inferred if (edge.deployment, edge.kind) in declares)
        for edge in overruled:
            del merged[edge.source, edge.target, edge.kind]
    edges_in_use = [merged[key] for key in sorted(merged)]
    names, data = set(deployments), set()
    tables: dict[str, dict[str, list[str]]] = {
        key: {} for key in ("inputs", "outputs", "writers", "readers", "triggers", "calls")
    }
    for edge in edges_in_use:
        source, target = edge.source, edge.target
        if edge.kind == "writes":
            names.add(source)
            data.add(target)
            tables["outputs"].setdefault(source, []).append(target)
            tables["writers"].setdefault(target, []).append(source)
        elif edge.kind == "reads":
            data.add(source)
            names.add(target)
            tables["inputs"].setdefault(target, []).append(source)
            tables["readers"].setdefault(source, []).append(target)
        else:
            names.update((source, target))
            tables[edge.kind].setdefault(source, []).append(target)
    for name in names:
        tables["inputs"].setdefault(name, [])
    sequence, unordered = _sort_nodes(edges_in_use, names, data)
    return Graph(
        deployments=tuple(sorted(names)),
        datasets=tuple(sorted(data)),
        edges=tuple(edges_in_use),
        overruled=tuple(overruled),
        sequence=tuple(sequence),
        unordered=frozenset(unordered),
        **{
            table: {name: tuple(items) for name, items in found.items()} for table, found in tables.items()
        },  # sorted too
    )


def _arcs(edges: Iterable[Edge]) -> Iterator[tuple[NodeKey, NodeKey]]:
    """Yield the edges that order nodes: (earlier, later)."""
    for edge in edges:
        if edge.kind == "writes":
            yield (0, edge.source), (1, edge.target)
        elif edge.kind == "reads":
            yield (1, edge.source), (0, edge.target)
        elif edge.kind == "triggers":
            yield (0, edge.source), (0, edge.target)


def _sort_nodes(edges: Iterable[Edge], deployments: set[str], datasets: set[str]) -> tuple[list[NodeKey], set[NodeKey]]:
    """Return a topological order (Kahn's algorithm, ties by name) and the nodes that have no place in it."""
    after: dict[NodeKey, list[NodeKey]] = {}
    in_degree: dict[NodeKey, int] = dict.fromkeys(
        [(0, name) for name in deployments] + [(1, name) for name in datasets], 0
    )
    for source, target in _arcs(edges):
        after.setdefault(source, []).append(target)
        in_degree[target] += 1
    ready = [node for node, count in in_degree.items() if count == 0]
    heapq.heapify(ready)
    order: list[NodeKey] = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        for target in after.get(node, ()):
            in_degree[target] -= 1
            if in_degree[target] == 0:
                heapq.heappush(ready, target)
    return order, {node for node, count in in_degree.items() if count}


def topological_order(graph: Graph) -> list[str]:
    """Return all deployments, each after everything it depends on; ties by name.

    Raises:
        InvalidInputError: The graph has a cycle; the message shows one.
    """
    if graph.unordered:
        raise InvalidInputError("pipeline graph", " -> ".join(find_cycles(graph)[0]), "this cycle must be broken first")
    return [name for kind, name in graph.sequence if kind == 0]


def find_cycles(graph: Graph) -> list[list[str]]:
    """Return one cycle per strongly connected component: the names on it, the first one repeated at the end; sorted.

    Two relations are searched. Datasets and triggers order runs. Calls and triggers start runs: a parent whose child
    starts it again loops for ever, while a parent that reads what its child wrote does not.
    """
    found: list[list[str]] = []
    if graph.unordered:
        found += _shortest_cycles(
            (s, t) for s, t in _arcs(graph.edges) if s in graph.unordered and t in graph.unordered
        )
    if graph.calls:
        starts = [((0, edge.source), (0, edge.target)) for edge in graph.edges if edge.kind in ("calls", "triggers")]
        found += [names for names in _shortest_cycles(starts) if names not in found]
    return sorted(found)


def _shortest_cycles(arcs: Iterable[tuple[NodeKey, NodeKey]]) -> list[list[str]]:
    """Return, for every strongly connected component, a shortest cycle through its smallest node."""
    digraph: nx.DiGraph[NodeKey] = nx.DiGraph()
    digraph.add_edges_from(arcs)
    found: list[list[str]] = []
    for component in nx.strongly_connected_components(digraph):
        start = min(component)
        if len(component) == 1 and not digraph.has_edge(start, start):
            continue
        if digraph.has_edge(start, start):
            found.append([start[1], start[1]])
            continue
        subgraph = digraph.subgraph(component)
        paths = [nx.shortest_path(subgraph, start, node) for node in subgraph.predecessors(start)]
        path = min(paths, key=lambda nodes: (len(nodes), nodes))
        found.append([name for _, name in path] + [start[1]])
    return found
