"""Rules about who reads, writes and waits for what."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.start_times import Calendar
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph, find_cycles

EXTERNAL = "external:"
"""A dataset of this prefix has no producer and needs none."""


def cycle(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Deployments that wait for each other in a circle, through datasets, automations or calls."""
    for names in find_cycles(graph):
        yield Finding(
            rule="cycle",
            subjects=tuple(sorted(set(names))),
            evidence=" -> ".join(names),
            advice="no order of runs refreshes these: remove one of the inputs or calls on the circle",
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
    """A cheap deployment that is served after a dear one which needs its output."""
    places = {name: _place(step, inventory) for name, step in inventory.steps.items()}
    used: dict[str, set[int]] = {}
    for place in places.values():
        if place is not None:
            used.setdefault(place[0], set()).add(place[1])
    if all(len(priorities) < 2 for priorities in used.values()):
        return
    dearest: dict[str, dict[tuple[str, int], tuple[float, str]]] = {}  # below a deployment, by pool and priority
    for kind, name in reversed(graph.sequence):
        if kind:
            continue
        mine: dict[tuple[str, int], tuple[float, str]] = {}
        for below in graph.downstream(name):
            other, place = inventory.steps.get(below), places.get(below)
            for where, price in dearest[below].items():
                mine[where] = max(mine.get(where, price), price)
            if other is not None and place is not None and other.terms.deadline is not None:
                price = (other.terms.late_usd_per_hour, below)
                mine[place] = max(mine.get(place, price), price)
        dearest[name] = mine
        step, here = inventory.steps.get(name), places.get(name)
        if step is None or here is None:
            continue
        before = [price for (pool, priority), price in mine.items() if pool == here[0] and priority < here[1]]
        usd, worst = max(before, default=(0.0, ""))
        if usd > step.terms.late_usd_per_hour:
            yield Finding(
                rule="priority-inversion",
                subjects=tuple(sorted((name, worst))),
                evidence=f"{name} ({step.terms.late_usd_per_hour:g} USD/h, queue {step.queue}) is served after "
                f"{worst} ({usd:g} USD/h, queue {inventory.steps[worst].queue}), which waits for it",
                advice=f"price {name} at {usd:g} USD/h: its lateness is that of what needs it",
                cost_usd=usd * step.duration.p50_s / 3600.0,
                fix=Fix(kind="inherit-value", deployment=name, value=usd),
            )


def _place(step: DeploymentNode, inventory: Inventory) -> tuple[str, int] | None:
    """Pool and priority of its queue; None if not known."""
    pool = inventory.pools.get(step.pool or "")
    priority = None if pool is None else pool.priorities.get(step.queue or "")
    return None if pool is None or priority is None else (pool.name, priority)
