"""Durations and cost along the graph: the critical path, the cost of a delay, and what to run to refresh a dataset."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prefect_intelligent.domain import Estimate, Prices
from prefect_intelligent.domain.objective import lateness_usd
from prefect_intelligent.pipelines.deployments import DeploymentNode
from prefect_intelligent.pipelines.graph import Graph, NodeKey, topological_order

_Z90 = 1.2815515655446004


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """The longest chain of deployments by median duration.

    Attributes:
        deployments: First to last.
        duration: p50 and p90 of the whole chain, seconds.
    """

    deployments: tuple[str, ...]
    duration: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The effect of an upstream delay on one deployment.

    Attributes:
        deployment: "flow/deployment".
        late_s: By how much it finishes later, seconds.
        overdue_s: Additional time past its deadline, seconds.
        cost_usd: Cost of that time per run, US dollars.
    """

    deployment: str
    late_s: float
    overdue_s: float
    cost_usd: float


def chain_duration(estimates: Collection[Estimate]) -> Estimate:
    """Return the duration of runs in sequence: a sum of independent lognormals.

    The sum is approximated by a lognormal with the same mean and variance (Fenton 1960, "The sum of log-normal
    probability distributions in scatter transmission systems").
    """
    mean = sum(e.p50_s * math.exp(e.sigma**2 / 2) for e in estimates)
    variance = sum((e.p50_s * math.exp(e.sigma**2 / 2)) ** 2 * math.expm1(e.sigma**2) for e in estimates)
    if mean <= 0:
        return Estimate(p50_s=0.0, p90_s=0.0)
    sigma = math.sqrt(math.log1p(variance / mean**2))
    p50 = mean * math.exp(-(sigma**2) / 2)
    return Estimate(p50_s=p50, p90_s=p50 * math.exp(_Z90 * sigma))


def critical_path(graph: Graph, nodes: Mapping[str, DeploymentNode], to: str | None = None) -> CriticalPath:
    """Return the longest chain to the end of the graph, or to the dataset `to`.

    Raises:
        InvalidInputError: The graph has a cycle.
        UnknownNameError: There is no dataset `to`.
    """
    if to is not None:
        graph.check_dataset(to)
    if graph.unordered:
        topological_order(graph)  # raises, with the cycle in the message
    sequence = graph.sequence
    finish: dict[NodeKey, float] = {}
    before: dict[NodeKey, NodeKey | None] = {}
    triggered_by: dict[str, list[str]] = {}
    for source, targets in graph.triggers.items():
        for target in targets:
            triggered_by.setdefault(target, []).append(source)
    for node in sequence:
        kind, name = node
        if kind == 1:
            sources = [(0, writer) for writer in graph.writers.get(name, ())]
            own = 0.0
        else:
            sources = [(1, dataset) for dataset in graph.inputs[name]]
            sources += [(0, source) for source in sorted(triggered_by.get(name, ()))]
            own = nodes[name].duration.p50_s if name in nodes else 0.0
        best = max(sources, key=lambda source: finish[source], default=None)
        finish[node] = own + (finish[best] if best is not None else 0.0)
        before[node] = best
    ends = [(1, to)] if to is not None else [node for node in sequence if node[0] == 0]
    at: NodeKey | None = max(ends, key=lambda node: finish[node], default=None)
    path: list[str] = []
    while at is not None:
        if at[0] == 0:
            path.append(at[1])
        at = before[at]
    path.reverse()
    return CriticalPath(
        deployments=tuple(path), duration=chain_duration([nodes[n].duration for n in path if n in nodes])
    )


def impact(
    graph: Graph,
    nodes: Mapping[str, DeploymentNode],
    deployment: str,
    delay_s: float,
    prices: Prices,
    at_s: float = 0.0,
) -> list[Delay]:
    """Return the deployments that are late if `deployment` finishes `delay_s` later; the most expensive first.

    A batch begins at `at_s`: deployments without inputs start then, all others when their last input has arrived. A
    delay has no effect where another input arrives later anyway. Deadlines count from `at_s`.

    Raises:
        InvalidInputError: The graph has a cycle.
        UnknownNameError: There is no such deployment.
    """
    graph.check_deployment(deployment)
    sequence = topological_order(graph)
    touched = graph.descendants([deployment]) | {deployment}
    upstream = {name: graph.upstream(name) for name in sequence}
    on_time: dict[str, float] = {}
    delayed: dict[str, float] = {}
    for name in sequence:
        own = nodes[name].duration.p50_s if name in nodes else 0.0
        on_time[name] = max((on_time[up] for up in upstream[name]), default=at_s) + own
        extra = delay_s if name == deployment else 0.0
        delayed[name] = max((delayed[up] for up in upstream[name]), default=at_s) + own + extra
    found = []
    for name in sequence:
        if name not in touched or delayed[name] <= on_time[name] or name not in nodes:
            continue
        terms = nodes[name].terms
        overdue = cost = 0.0
        if terms.deadline is not None:
            due = terms.deadline.due_s(at_s)
            overdue = max(0.0, delayed[name] - due) - max(0.0, on_time[name] - due)
            cost = lateness_usd(overdue, terms.late_usd_per_hour, prices.lateness_weight)
        found.append(Delay(deployment=name, late_s=delayed[name] - on_time[name], overdue_s=overdue, cost_usd=cost))
    return sorted(found, key=lambda item: (-item.cost_usd, -item.late_s, item.deployment))


def refresh_plan(graph: Graph, dataset: str, fresh: Collection[str] = ()) -> list[str]:
    """Return the deployments to run, in order, to refresh `dataset`.

    Args:
        graph: The graph.
        dataset: Dataset to refresh.
        fresh: Datasets that are up to date already (after a partial failure); deployments that only feed these are
            left out.

    Raises:
        InvalidInputError: The graph has a cycle.
        UnknownNameError: There is no such dataset.
    """
    for name in (dataset, *sorted(fresh)):
        graph.check_dataset(name)
    needed: set[str] = set()
    stack = [] if dataset in fresh else [dataset]
    seen = set(stack)
    while stack:
        for writer in graph.writers.get(stack.pop(), ()):
            needed.add(writer)
            for above in graph.inputs[writer]:
                if above not in seen and above not in fresh:
                    seen.add(above)
                    stack.append(above)
            for source, targets in graph.triggers.items():
                if writer in targets and source not in needed and not graph.outputs.get(source):
                    needed.add(source)
    return [name for name in topological_order(graph) if name in needed]
