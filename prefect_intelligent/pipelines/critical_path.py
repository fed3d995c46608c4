"""Time and money along the graph: the critical path, what a delay costs, and what to run to refresh a dataset."""

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
    """What a delay upstream does to one deployment.

    Attributes:
        deployment: Which.
        late_s: Seconds by which its finish moves.
        overdue_s: Seconds past its deadline that were not there without the delay.
        cost_usd: What these cost, per run.
    """

    deployment: str
    late_s: float
    overdue_s: float
    cost_usd: float


def chain_duration(estimates: Collection[Estimate]) -> Estimate:
    """Duration of runs one after the other: independent lognormals, the sum fitted by mean and variance (Fenton)."""
    mean = sum(e.p50_s * math.exp(e.sigma**2 / 2) for e in estimates)
    variance = sum((e.p50_s * math.exp(e.sigma**2 / 2)) ** 2 * math.expm1(e.sigma**2) for e in estimates)
    if mean <= 0:
        return Estimate(p50_s=0.0, p90_s=0.0)
    sigma = math.sqrt(math.log1p(variance / mean**2))
    p50 = mean * math.exp(-(sigma**2) / 2)
    return Estimate(p50_s=p50, p90_s=p50 * math.exp(_Z90 * sigma))


def critical_path(graph: Graph, steps: Mapping[str, DeploymentNode], to: str | None = None) -> CriticalPath:
    """The chain that sets how soon everything (or the dataset `to`) can be refreshed.

    Raises:
        InvalidInputError: The graph has a cycle; `UnknownNameError` for a dataset that does not exist.
    """
    if to is not None:
        graph.check_dataset(to)
    if graph.stuck:
        topological_order(graph)  # raises, with the cycle in the message
    nodes = graph.sequence
    finish: dict[NodeKey, float] = {}
    before: dict[NodeKey, NodeKey | None] = {}
    triggered_by: dict[str, list[str]] = {}
    for source, targets in graph.triggers.items():
        for target in targets:
            triggered_by.setdefault(target, []).append(source)
    for node in nodes:
        kind, name = node
        if kind == 1:
            sources = [(0, writer) for writer in graph.writers.get(name, ())]
            own = 0.0
        else:
            sources = [(1, dataset) for dataset in graph.inputs[name]]
            sources += [(0, source) for source in sorted(triggered_by.get(name, ()))]
            own = steps[name].duration.p50_s if name in steps else 0.0
        best = max(sources, key=lambda source: finish[source], default=None)
        finish[node] = own + (finish[best] if best is not None else 0.0)
        before[node] = best
    ends = [(1, to)] if to is not None else [node for node in nodes if node[0] == 0]
    at: NodeKey | None = max(ends, key=lambda node: finish[node], default=None)
    path: list[str] = []
    while at is not None:
        if at[0] == 0:
            path.append(at[1])
        at = before[at]
    path.reverse()
    return CriticalPath(
        deployments=tuple(path), duration=chain_duration([steps[n].duration for n in path if n in steps])
    )


def impact(
    graph: Graph,
    steps: Mapping[str, DeploymentNode],
    deployment: str,
    delay_s: float,
    prices: Prices,
    at_s: float = 0.0,
) -> list[Delay]:
    """What is late if `deployment` finishes `delay_s` later, and what it costs; dearest first.

    A batch is taken to begin at `at_s`: what has no input starts then, everything else when its last input is there.
    A delay is absorbed where another input is later anyway. Deadlines count from `at_s`.

    Raises:
        InvalidInputError: There is a cycle; `UnknownNameError` for an unknown deployment.
    """
    graph.check_deployment(deployment)
    sequence = topological_order(graph)
    touched = graph.descendants([deployment]) | {deployment}
    upstream = {name: graph.upstream(name) for name in sequence}
    plain: dict[str, float] = {}
    delayed: dict[str, float] = {}
    for name in sequence:
        own = steps[name].duration.p50_s if name in steps else 0.0
        plain[name] = max((plain[up] for up in upstream[name]), default=at_s) + own
        extra = delay_s if name == deployment else 0.0
        delayed[name] = max((delayed[up] for up in upstream[name]), default=at_s) + own + extra
    found = []
    for name in sequence:
        if name not in touched or delayed[name] <= plain[name] or name not in steps:
            continue
        terms = steps[name].terms
        overdue = cost = 0.0
        if terms.deadline is not None:
            due = terms.deadline.due_s(at_s)
            overdue = max(0.0, delayed[name] - due) - max(0.0, plain[name] - due)
            cost = lateness_usd(overdue, terms.late_usd_per_hour, prices.lateness_weight)
        found.append(Delay(deployment=name, late_s=delayed[name] - plain[name], overdue_s=overdue, cost_usd=cost))
    return sorted(found, key=lambda item: (-item.cost_usd, -item.late_s, item.deployment))


def refresh_plan(graph: Graph, dataset: str, fresh: Collection[str] = ()) -> list[str]:
    """Deployments to run, in order, so that `dataset` is refreshed.

    Args:
        graph: The graph.
        dataset: What is wanted.
        fresh: Datasets that are up to date already (a partial run after a failure): what only feeds these is left out.

    Raises:
        InvalidInputError: There is a cycle; `UnknownNameError` for an unknown dataset.
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
