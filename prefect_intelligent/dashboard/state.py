"""Builds the state of the dashboard from a pool and the history.

Live sections are built with every call, slow ones (everything that analyses runs) in a thread once a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from prefect_intelligent.analytics.alerts import Alert
from prefect_intelligent.analytics.health import Health, HealthStatus
from prefect_intelligent.analytics.pool_alerts import (
    REFRESH_S,
    SPAN_S,
    RunFindings,
    find_alerts,
    find_in_runs,
    read_graph,
    upstream_of,
)
from prefect_intelligent.analytics.pool_overview import (
    at_risk_rows,
    cause_rows,
    decision_rows,
    expected_ends,
    gantt_rows,
    pool_row,
    quality_rows,
    quality_shares,
    queue_rows,
)
from prefect_intelligent.analytics.report import health_dict, make_report
from prefect_intelligent.blocking.chain import BlockerFinding
from prefect_intelligent.dashboard.broadcast import State
from prefect_intelligent.dashboard.prefect_links import PrefectLinks
from prefect_intelligent.domain import Prices, Snapshot
from prefect_intelligent.domain.slot_account import SlotAccount
from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.history.runs_frame import FAILED_STATES
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.pipelines.render import to_rows
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision
from prefect_intelligent.steering.kill_switch import read_switch
from prefect_intelligent.steering.other_writer import SetBack, find_set_backs

MAX_WITH_TERMS: Final = 100
SPENT_BY: Final = ("deployment", "queue", "version", "hour")
ACKNOWLEDGED: Final = "acknowledged"
_MAX_CAUSES: Final = 50
_MAX_GROUPS: Final = 24
PAST_S: Final = 3 * 3600.0
"""How much of the past the timeline shows, seconds."""


class StateBuilder:
    """Callable: the state of the dashboard.

    Args:
        observe: Gives the pool as it is; None for a page without a live pool (the static report).
        read_runs: Gives the runs since an instant.
        history: Decisions, quality results, alerts.
        pool: Name of the work pool.
        prices: Prices of capacity.
        interval_s: Longest time between two decisions of the controller, seconds.
        slow_s: Seconds between two updates of the slow sections.
        span_s: How far back runs are analysed, seconds.
        graph: Gives the pipeline graph.
        slots: Gives the account of the pool's slots; None if nothing is known of them.
        budgets: Deployment to its budget, US dollars a day.
        awaited: Gives the deployments that have a schedule or declare what they write; None if that is not known.
        ended_runs: Gives the runs of the pool that have ended since an instant, for the past of the timeline.
        links: Addresses in Prefect's own pages.
        blocked: Gives what keeps due runs from starting; asked with the slow sections.
        now: Gives the present, Unix seconds.
    """

    def __init__(
        self,
        *,
        observe: Callable[[], Snapshot] | None,
        read_runs: Callable[[float], pd.DataFrame],
        history: HistoryStore,
        pool: str,
        prices: Prices,
        interval_s: float = 20.0,
        slow_s: float = REFRESH_S,
        span_s: float = SPAN_S,
        graph: Callable[[], Graph] | None = None,
        slots: Callable[[], SlotAccount | None] = lambda: None,
        budgets: Mapping[str, float] | None = None,
        awaited: Callable[[], Collection[str] | None] = lambda: None,
        ended_runs: Callable[[float], Sequence[Mapping[str, Any]]] = lambda since_s: (),
        links: Callable[[], PrefectLinks] = PrefectLinks,
        blocked: Callable[[], Sequence[BlockerFinding]] = tuple,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._observe, self._read_runs, self._history = observe, read_runs, history
        self._pool, self._prices, self._interval_s, self._slow_s = pool, prices, interval_s, slow_s
        self._span_s = span_s
        self._graph, self._now, self._awaited = graph, now, awaited
        self._ended_runs, self._links = ended_runs, links
        self._read_blocked, self._blocked = blocked, tuple[BlockerFinding, ...]()
        self._set_back: tuple[SetBack, ...] = ()
        self._upstream: dict[str, list[str]] = {}
        self._read_slots, self._budgets = slots, budgets or {}
        self._slow: State = {}
        self._findings = RunFindings()
        self._slow_at = -float("inf")
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def __call__(self) -> State:
        """The state now, with the slow sections of the last update; the first call has none."""
        now_s = self._now()
        live: State = {"at_s": now_s, "queues": [], "gantt": {}, "names": {}, "risk": []}
        findings, upstream = self._findings, self._upstream
        snapshot = None if self._observe is None else self._observe()
        if snapshot is not None:
            ends = expected_ends(snapshot)
            risk = at_risk_rows(snapshot, ends)
            gantt, names = gantt_rows(snapshot, ends)
            live |= {
                "pool": pool_row(snapshot),
                "queues": queue_rows(snapshot),
                "gantt": gantt,
                "names": names,
                "risk": risk,
            }
        if time.monotonic() - self._slow_at > self._slow_s and (self._thread is None or not self._thread.is_alive()):
            self._slow_at = time.monotonic()
            self._thread = threading.Thread(target=self._refresh_slow, args=(now_s,), daemon=True)
            self._thread.start()
        records = self._history.records(DECISION, self._pool, now_s - 3600.0)
        last = read_latest(self._history, DECISION, self._pool, read_decision)
        live["decisions"] = decision_rows(read_each(DECISION, records, read_decision))
        live["steering"] = {
            "mode": None if last is None else last["mode"],
            "policy": None if last is None else last["policy"],
            "switch": read_switch(self._history, self._pool),
        }
        alerts = find_alerts(
            findings,
            pool=self._pool,
            now_s=now_s,
            last_decision_s=None if last is None else float(last["at_s"]),
            interval_s=self._interval_s,
            upstream=upstream,
            snapshot=snapshot,
            at_risk=live["risk"],
            blocked=self._blocked,
            set_back=self._set_back,
        )
        acknowledged = self._history.records(ACKNOWLEDGED, self._pool, now_s - self._span_s)
        seen = set(read_each(ACKNOWLEDGED, acknowledged, lambda row: str(row["alert"])))
        live["alerts"] = [_alert_row(alert, alert.key in seen) for alert in alerts]
        if self._error is not None:
            live["error"] = f"no look back: {type(self._error).__name__}: {self._error}"[:500]
        return {**self._slow, **live}

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the update of the slow sections that the last call started, and raise its error."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._error is not None:
            raise self._error

    def _refresh_slow(self, now_s: float) -> None:
        """Update the slow sections; after an error the previous ones stay."""
        try:
            self._slow = self._slow_sections(now_s)
            self._error = None
        except Exception as error:
            self._error = error

    def _slow_sections(self, now_s: float) -> State:
        graph = read_graph(self._graph)
        if graph is not None:
            self._upstream = upstream_of(graph)
        self._blocked = tuple(self._read_blocked())
        self._set_back = find_set_backs(self._history, self._pool, now_s)
        results = past_results(self._history)
        slow: State = {
            "health": {"counts": {}, "rows": [], "queues": [], "pools": []},
            "causes": [],
            "spending": {},
            "quality": quality_rows(results),
        }
        slow |= self._look_back(now_s, self._span_s, {} if graph is None else quality_shares(results, graph.writers))
        slow["past"] = [_past_row(row) for row in self._ended_runs(now_s - PAST_S)]
        links = self._links()
        slow["links"] = {"ui": links.ui, "deployments": dict(links.deployments)}
        slow["recommendations"] = (
            read_latest(self._history, "recommendations", self._pool, lambda kept: list(kept["rows"])) or []
        )
        slow["money"] = read_latest(self._history, "front", self._pool, dict) or {"points": []}
        statuses = {row["name"]: row["status"] for row in slow["health"]["rows"]}
        statuses |= {row["dataset"]: row["outcome"] for row in slow["quality"]}
        slow["graph"] = {"nodes": [], "edges": []} if graph is None else to_rows(graph, joined_only=True)
        for node in slow["graph"]["nodes"]:
            node["status"] = statuses.get(node["name"])
        return slow

    def look_back(self, span_s: float) -> State:
        """The sections about the runs of another span than that of the state: totals, spending, health, causes."""
        graph = read_graph(self._graph)
        shares = {} if graph is None else quality_shares(past_results(self._history), graph.writers)
        return self._look_back(self._now(), span_s, shares)

    def _look_back(self, now_s: float, span_s: float, quality: Mapping[str, tuple[float, int]]) -> State:
        """The sections about the runs of a span; nothing if there are none."""
        runs = self._read_runs(now_s - span_s)
        if runs.empty:
            return {}
        report = make_report(
            runs,
            since_s=now_s - span_s,
            until_s=now_s + 1.0,
            prices=self._prices,
            slots=self._read_slots(),
            dimensions=SPENT_BY,
        )
        findings = find_in_runs(
            runs, now_s, quality=quality, prices=self._prices, budgets=self._budgets, awaited=self._awaited()
        )
        if span_s == self._span_s:
            self._findings = findings
        return {
            "totals": {
                "span": format_span(span_s),
                "runs": report["total"]["runs"],
                "failure_share": report["total"]["failure_share"],
                "on_time_share": report["total"]["on_time_share"],
                "utilisation": report["utilisation"],
                "cost_usd": report["money"]["total_usd"],
                "usd_per_day": report["money"]["usd_per_day"],
            },
            "spending": {
                "split": report["money"],
                "daily": report["daily"],
                "changes": report["changes"],
                "trends": report["trends"],
                "by": {name: _most_expensive(groups) for name, groups in report["by"].items()},
            },
            "health": {
                "counts": {
                    str(status): sum(h.status == status for h in findings.deployments) for status in HealthStatus
                },
                "rows": [_health_row(health, rank) for rank, health in enumerate(findings.deployments)],
                "queues": [_health_row(health, rank) for rank, health in enumerate(findings.queues)],
                "pools": [_health_row(health, rank) for rank, health in enumerate(findings.pools)],
            },
            "causes": cause_rows(findings.causes[:_MAX_CAUSES], self._upstream),
        }


def _past_row(row: Mapping[str, Any]) -> list[Any]:
    """A run that has ended: deployment, queue, whether it failed, start, end, due (or None), id."""
    started_s = row["ended_s"] if row["started_s"] is None else row["started_s"]
    due_s = None if row["due_s"] is None else round(row["due_s"])
    failed = row["state"] in FAILED_STATES
    return [row["deployment"], row["queue"], failed, round(started_s), round(row["ended_s"]), due_s, row["run_id"]]


def _alert_row(alert: Alert, acknowledged: bool) -> dict[str, Any]:
    return {
        **asdict(alert),
        "since_s": round(alert.since_s),
        "folded": list(alert.folded),
        "acknowledged": acknowledged,
    }


def _most_expensive(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The most expensive groups of a dimension, with the parts of their cost."""
    parts = ("useful_usd", "wasted_usd", "overhead_usd", "lateness_usd", "failure_usd", "idle_usd", "cost_usd", "runs")
    return [{"name": name, **{part: row[part] for part in parts}} for name, row in list(groups.items())[:_MAX_GROUPS]]


def _health_row(health: Health, rank: int) -> dict[str, Any]:
    """A row of the health section; only the worst have their terms, as those are most of the bytes."""
    row = health_dict(health)
    budget = None if row["budget"] is None else {name: row["budget"][name] for name in ("left", "attained")}
    return {**row, "budget": budget, "terms": row["terms"] if rank < MAX_WITH_TERMS else []}
