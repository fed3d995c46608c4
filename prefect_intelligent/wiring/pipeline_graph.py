"""The pipeline graph for those who only look: from the server and the sources if they answer, else from the history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.forecasting.point_in_time_features import Context, OutputCheck
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, Graph, build_graph
from prefect_intelligent.quality.past_results import past_results

if TYPE_CHECKING:
    import pandas as pd

    from prefect_intelligent.history.adapters.sql_runs import SqlRuns
    from prefect_intelligent.settings import Settings


def history_graph(runs: SqlRuns) -> Graph:
    """What the deployments declared when they were copied last."""
    edges: list[Edge] = []
    names = []
    for row in runs.deployment_frame().itertuples():
        names.append(str(row.name))
        edges += _declared(str(row.name), json.loads(str(row.details)).get("terms") or {})
    return build_graph(edges, names)


def _declared(name: str, terms: dict[str, Any]) -> Iterator[Edge]:
    evidence = (EdgeEvidence("declared", "terms"),)
    yield from (Edge(dataset, name, "reads", evidence) for dataset in terms.get("inputs") or ())
    yield from (Edge(name, dataset, "writes", evidence) for dataset in terms.get("outputs") or ())


def forecast_context(settings: Settings) -> Context:
    """Who reads from whom, and how the quality checks of what they write went, as the history knows it."""
    from prefect_intelligent.wiring.history import open_history, open_runs

    graph = history_graph(open_runs(settings))
    checks = [
        OutputCheck(result["at_s"], name, result["first"]["verdict"] not in ("passed", "warned"))
        for result in past_results(open_history(settings))
        for name in graph.writers.get(result["dataset"], ())
    ]
    return Context(
        upstream={name: graph.upstream(name) for name in graph.deployments},
        output_checks=sorted(checks),
    )


def open_graph(settings: Settings, runs: SqlRuns) -> Callable[[], Graph]:
    """What gives the graph as it is now; with the history's while the server does not answer."""

    def look() -> Graph:
        from prefect_intelligent.wiring.pipelines import open_workspace

        try:
            return open_workspace(settings).model(history=False).graph
        except PrefectIntelligentError:
            return history_graph(runs)

    return look


def awaited_deployments(runs: SqlRuns) -> frozenset[str]:
    """Deployments whose next run somebody waits for: they have an active schedule, or declare what they write."""
    found = set()
    for row in runs.deployment_frame().itertuples():
        details = json.loads(str(row.details))
        if (details.get("schedules") and not row.paused) or (details.get("terms") or {}).get("outputs"):
            found.add(str(row.name))
    return frozenset(found)


def scheduled_deployments(runs: SqlRuns) -> frozenset[str]:
    """Deployments that have an active schedule."""
    rows = runs.deployment_frame().itertuples()
    return frozenset(str(row.name) for row in rows if json.loads(str(row.details)).get("schedules"))


def unread(graph: Graph, runs: pd.DataFrame) -> tuple[str, ...]:
    """Deployments that write datasets which no deployment reads, and whose lateness costs nothing."""
    price = runs["late_usd_per_hour"].fillna(0.0).groupby(runs["deployment"].astype(str)).max()
    return tuple(
        name
        for name in graph.deployments
        if (made := graph.outputs.get(name, ()))
        and not any(graph.readers.get(dataset) for dataset in made)
        and not price.get(name, 0.0) > 0
    )


def memory_of(file: Path, runs: SqlRuns) -> tuple[dict[str, tuple[float, int]], dict[str, float]]:
    """Deployment to the largest memory peak of its runs (mebibytes) with their number, and to what it asks for.

    Raises:
        InvalidInputError: The file is not the OTLP JSON of a collector.
    """
    from prefect_intelligent.recommendations.adapters.otlp import read_usage
    from prefect_intelligent.recommendations.memory_rightsizing import memory_mb

    deployments = runs.deployment_frame()
    names = dict(zip(deployments["deployment_id"], deployments["name"], strict=True))
    asked = {
        str(row.name): size
        for row in deployments.itertuples()
        if (size := memory_mb(json.loads(str(row.details)).get("job_variables") or {})) is not None
    }
    used = read_usage(file)
    peaks = used.groupby(used["deployment_id"].map(names))["memory_bytes"].agg(["max", "count"])
    return {str(name): (float(row["max"]) / 2**20, int(row["count"])) for name, row in peaks.iterrows()}, asked
