"""What the dashboard shows of one deployment, of one dataset, and of all pools."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from prefect_intelligent.analytics.health import Health
from prefect_intelligent.analytics.pool_overview import decision_rows, quality_rows
from prefect_intelligent.analytics.report import all_health, health_dict
from prefect_intelligent.analytics.run_metrics import analyse
from prefect_intelligent.dashboard.prefect_links import PrefectLinks
from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.slot_account import SlotAccount
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision
from prefect_intelligent.steering.kill_switch import read_switch

_MOST_RUNS: Final = 100
_MOST_DECISIONS: Final = 20
_MOST_RESULTS: Final = 50
_TARGET: Final = 0.95
_DECISIONS_S: Final = 86400.0


def _no_runs(**_: Any) -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailReader:
    """Reads what the pages beside the dashboard show.

    Attributes:
        read_runs: Gives the runs of all pools since an instant.
        ended_runs: Gives the last ended runs, as `SqlRuns.ended_runs`.
        history: Decisions and quality results.
        prices_of: Gives the prices of a pool.
        slots_of: Gives the account of a pool's slots.
        graph: Gives the pipeline graph.
        links: Addresses in Prefect's own pages.
        now: Gives the present, Unix seconds.
    """

    read_runs: Callable[[float], pd.DataFrame]
    history: HistoryStore
    prices_of: Callable[[str], Prices]
    slots_of: Callable[[str], SlotAccount | None] = lambda pool: None
    ended_runs: Callable[..., Sequence[Mapping[str, Any]]] = _no_runs
    graph: Callable[[], Graph] | None = None
    links: Callable[[], PrefectLinks] = PrefectLinks
    now: Callable[[], float] = field(default=time.time)

    def deployment(self, name: str, span_s: float) -> dict[str, Any] | None:
        """Runs, figures, health, quality and decisions of a deployment; None if the history has no run of it."""
        now_s = self.now()
        runs = self.read_runs(now_s - span_s)
        own = runs[runs["deployment"].astype(str) == name].reset_index(drop=True)
        if own.empty:
            return None
        pool, queue = str(own["pool"].iloc[-1]), str(own["queue"].iloc[-1])
        report = analyse(own, since_s=now_s - span_s, until_s=now_s, prices=self.prices_of(pool), dimensions=())
        graph = None if self.graph is None else self.graph()
        writes = () if graph is None else graph.outputs.get(name, ())
        results = past_results(self.history)
        health = all_health(own, now_s, target=_TARGET, prices=self.prices_of(pool))["deployments"]
        records = read_each(DECISION, self.history.records(DECISION, pool, now_s - _DECISIONS_S), read_decision)
        links = self.links()
        return {
            "name": name,
            "pool": pool,
            "queue": queue,
            "link": links.deployment(name),
            "queue_link": links.queue(pool, queue),
            "total": report.total,
            "daily": report.daily,
            "health": health_dict(health[0]) if health else None,
            "runs": [
                {**row, "link": links.run(str(row["run_id"])), "late_s": _late_s(row)}
                for row in self.ended_runs(deployment=name, since_s=now_s - span_s, limit=_MOST_RUNS)
            ],
            "reads": [] if graph is None else list(graph.inputs.get(name, ())),
            "quality": [row for row in quality_rows(results) if row["dataset"] in writes],
            "decisions": [row for row in decision_rows(records, 10_000) if _about(row, queue)][:_MOST_DECISIONS],
        }

    def dataset(self, name: str) -> dict[str, Any] | None:
        """Results of the gate, writers and readers of a dataset; None if neither the graph nor the history knows it."""
        results = past_results(self.history, name, last=_MOST_RESULTS)[::-1]
        graph = None if self.graph is None else self.graph()
        writers = () if graph is None else graph.writers.get(name, ())
        readers = () if graph is None else graph.readers.get(name, ())
        if not results and not writers and not readers:
            return None
        links, since_s = self.links(), self.now() - 30 * 86400.0
        written = [
            row
            for writer in writers
            for row in self.ended_runs(deployment=writer, since_s=since_s, limit=10)
            if row["state"] == "COMPLETED"
        ]
        last = max(written, key=lambda row: float(row["ended_s"]), default=None)
        return {
            "name": name,
            "writers": list(writers),
            "readers": list(readers),
            "last_written": None if last is None else {**last, "link": links.run(str(last["run_id"]))},
            "results": [
                {
                    "at_s": row["at_s"],
                    "outcome": row["outcome"],
                    "run": row["producer"],
                    "link": links.run(row["producer"]),
                    "quarantined": row["quarantined"],
                    "checks": row["first"]["checks"],
                }
                for row in results
            ],
        }

    def pools(self, span_s: float) -> list[dict[str, Any]]:
        """One row per pool of the history, dearest first."""
        now_s = self.now()
        runs = self.read_runs(now_s - span_s)
        rows = []
        for pool, own in runs.groupby(runs["pool"].astype(str), observed=True):
            name, part = str(pool), own.reset_index(drop=True)
            report = analyse(
                part,
                since_s=now_s - span_s,
                until_s=now_s,
                prices=self.prices_of(name),
                slots=self.slots_of(name),
                dimensions=(),
            )
            worst: Sequence[Health] = all_health(part, now_s, target=_TARGET)["deployments"]
            last = read_latest(self.history, DECISION, name, read_decision)
            rows.append(
                {
                    "name": name,
                    "link": self.links().pool(name),
                    "total": report.total,
                    "usd_per_day": report.usd_per_day,
                    "utilisation": report.utilisation,
                    "worst": worst[0] if worst else None,
                    "degraded": sum(health.status == "degraded" for health in worst),
                    "switch": read_switch(self.history, name),
                    "decided_s": None if last is None else float(last["at_s"]),
                }
            )
        return sorted(rows, key=lambda row: -row["usd_per_day"])


def _late_s(row: Mapping[str, Any]) -> float | None:
    """Seconds after it was due; None if it was not due or nobody knows."""
    return None if row["due_s"] is None or row["ended_s"] is None else float(row["ended_s"]) - float(row["due_s"])


def _about(row: Mapping[str, Any], queue: str) -> bool:
    """Whether a decision changed, or would have changed, this queue or the pool as a whole."""
    return any(change[0] in (queue, None) for change in (*row["changes"], *row["planned"]))
