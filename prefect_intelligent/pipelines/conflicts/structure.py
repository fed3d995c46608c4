"""Rules about the structure of the graph: cycles, writers, producers, priorities."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.start_times import Calendar
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph, find_cycles

EXTERNAL = "external:"
"""Prefix of datasets that come from outside and need no producer."""


def cycle(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Deployments that wait for each other in a cycle, through datasets, automations or calls."""
    for names in find_cycles(graph):
        yield Finding(
            rule="cycle",
            subjects=tuple(sorted(set(names))),
            evidence=" -> ".join(names),
            advice="no order of runs refreshes these: remove one of the inputs or calls on the cycle",
        )


def two_writers(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A dataset that more than one deployment writes."""
    for dataset, writers in graph.writers.items():
        if len(writers) > 1:
            yield Finding(
                rule="two-writers",
                subjects=(dataset, *writers),
                evidence=f"{dataset} is written by {', '.join(writers)}",
                advice="let one deployment own the dataset, or give each its own dataset and join them downstream",
            )


def missing_producer(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A dataset that is read and that nothing writes."""
    for dataset, readers in graph.readers.items():
        if dataset in graph.writers or dataset in inventory.external or dataset.startswith(EXTERNAL):
            continue
        near = get_close_matches(dataset, graph.writers, n=1, cutoff=0.8)
        yield Finding(
            rule="missing-producer",
            subjects=(dataset, *readers),
            evidence=f"{dataset} is read by {', '.join(readers)} and written by no deployment",
            advice=(f"did you mean {near[0]}? Else declare" if near else "declare")
            + f" its producer's outputs=, or call it '{EXTERNAL}{dataset}' if it comes from outside",
        )


def priority_inversion(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A cheap deployment that is served after an expensive one that needs its output."""
    positions = {name: _position(node, inventory) for name, node in inventory.nodes.items()}
    used: dict[str, set[int]] = {}
    for position in positions.values():
        if position is not None:
            used.setdefault(position[0], set()).add(position[1])
    if all(len(priorities) < 2 for priorities in used.values()):
        return
    dearest: dict[str, dict[tuple[str, int], tuple[float, str]]] = {}  # downstream of a deployment, by (pool, priority)
    for kind, name in reversed(graph.sequence):
        if kind:
            continue
        own: dict[tuple[str, int], tuple[float, str]] = {}
        for below in graph.downstream(name):
            other, position = inventory.nodes.get(below), positions.get(below)
            for where, price in dearest[below].items():
                own[where] = max(own.get(where, price), price)
            if other is not None and position is not None and other.terms.deadline is not None:
                price = (other.terms.late_usd_per_hour, below)
                own[position] = max(own.get(position, price), price)
        dearest[name] = own
        node, here = inventory.nodes.get(name), positions.get(name)
        if node is None or here is None:
            continue
        before = [price for (pool, priority), price in own.items() if pool == here[0] and priority < here[1]]
        usd, worst = max(before, default=(0.0, ""))
        if usd > node.terms.late_usd_per_hour:
            yield Finding(
                rule="priority-inversion",
                subjects=tuple(sorted((name, worst))),
                evidence=f"{name} ({node.terms.late_usd_per_hour:g} USD/h, queue {node.queue}) is served after "
                f"{worst} ({usd:g} USD/h, queue {inventory.nodes[worst].queue}), which waits for it",
                advice=f"price {name} at {usd:g} USD/h: its lateness is that of what needs it",
                cost_usd=usd * node.duration.p50_s / 3600.0,
                fix=Fix(kind="inherit-value", deployment=name, value=usd),
            )


def _position(node: DeploymentNode, inventory: Inventory) -> tuple[str, int] | None:
    """Return the pool and the priority of the queue; None if unknown."""
    pool = inventory.pools.get(node.pool or "")
    priority = None if pool is None else pool.priorities.get(node.queue or "")
    return None if pool is None or priority is None else (pool.name, priority)
