"""Makes the state of the dashboard from a pool and the history: live sections each time, slow ones now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from prefect_intelligent.analytics.alerts import (
    Alert,
    deduplicate,
    from_causes,
    from_health,
    from_snapshot,
    silent_controller,
)
from prefect_intelligent.analytics.error_budget import DEFAULT_TARGET
from prefect_intelligent.analytics.failure_signatures import Cause, group_causes
from prefect_intelligent.analytics.health import Health, Status
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
from prefect_intelligent.analytics.report import all_health, health_dict, make_report
from prefect_intelligent.dashboard.broadcast import State
from prefect_intelligent.domain import Prices, Snapshot
from prefect_intelligent.domain.deadlines import format_span
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.forecasting.duration_baseline import learn_book
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.pipelines.render import to_rows
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision
from prefect_intelligent.steering.kill_switch import read_switch

SPAN_S: Final = 7 * 86400.0
WITH_TERMS: Final = 100
SPENT_BY: Final = ("deployment", "queue", "version", "hour")
ACKNOWLEDGED: Final = "acknowledged"
_SLOW_RUNS: Final = 50_000
_CAUSES: Final = 50
_GROUPS: Final = 24


class Builder:
    """Callable that makes the state.

    Args:
        observe: Gives the pool as it is; None for a page without a live pool (the static report).
        read_runs: Gives the runs since an instant.
        history: Decisions, quality results, alerts.
        prices: What capacity costs.
        interval_s: Longest time between two decisions of the controller.
        slow_s: How often health, causes and totals are computed.
        span_s: How far back they look.
        graph: Gives the pipeline graph.
        slots: The pool's limit, where it is not observed.
        budgets: Deployment to what its runs may cost a day, US dollars.
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
        slow_s: float = 60.0,
        span_s: float = SPAN_S,
        graph: Callable[[], Graph] | None = None,
        slots: float | None = None,
        budgets: Mapping[str, float] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._observe, self._read_runs, self._history = observe, read_runs, history
        self._pool, self._prices, self._interval_s, self._slow_s = pool, prices, interval_s, slow_s
        self._span_s = span_s
        self._graph, self._now = graph, now
        self._upstream: dict[str, list[str]] = {}
        self._slots, self._budgets = slots, budgets or {}
        self.alerts: tuple[Alert, ...] = ()
        """Those of the last call."""
        self._slow: State = {}
        self._findings: tuple[list[Health], list[Cause], dict[str, float]] = ([], [], {})
        self._slow_at = -float("inf")
        self._thread: threading.Thread | None = None
        self._trouble: Exception | None = None

    def __call__(self) -> State:
        """The state now; the first call waits for no slow section."""
        now_s = self._now()
        live: State = {"at_s": now_s, "queues": [], "gantt": {}, "names": {}, "risk": []}
        alerts: list[Alert] = []
        health, causes, longest = self._findings
        if self._observe is not None:
            snapshot = self._observe()
            ends = expected_ends(snapshot)
            risk = at_risk_rows(snapshot, ends)
            self._slots = None if snapshot.pool.limit is None else float(snapshot.pool.limit)
            gantt, names = gantt_rows(snapshot, ends)
            live |= {
                "pool": pool_row(snapshot),
                "queues": queue_rows(snapshot),
                "gantt": gantt,
                "names": names,
                "risk": risk,
            }
            alerts += from_snapshot(snapshot, longest, risk)
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
        alerts += silent_controller(self._pool, None if last is None else last["at_s"], self._interval_s, now_s)
        alerts += from_health(health, now_s) + from_causes(causes, now_s)
        self.alerts = deduplicate(alerts, self._upstream)
        acknowledged = self._history.records(ACKNOWLEDGED, self._pool, now_s - self._span_s)
        seen = set(read_each(ACKNOWLEDGED, acknowledged, lambda row: str(row["alert"])))
        live["alerts"] = [self._alert_row(alert, alert.key in seen) for alert in self.alerts]
        if self._trouble is not None:
            live["error"] = f"no look back: {type(self._trouble).__name__}: {self._trouble}"[:500]
        return {**self._slow, **live}

    def wait(self, timeout_s: float | None = None) -> None:
        """Until the slow sections of the last call are there; raises what kept them from being made."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._trouble is not None:
            raise self._trouble

    def _alert_row(self, alert: Alert, acknowledged: bool) -> dict[str, Any]:
        return {
            **asdict(alert),
            "since_s": round(alert.since_s),
            "folded": list(alert.folded),
            "acknowledged": acknowledged,
        }

    def _refresh_slow(self, now_s: float) -> None:
        """Make the slow sections; what was there stays, and trouble is told, if they cannot be made."""
        try:
            self._slow = self._slow_sections(now_s)
            self._trouble = None
        except Exception as error:
            self._trouble = error

    def _slow_sections(self, now_s: float) -> State:
        graph = self._look_at_graph()
        results = past_results(self._history)
        slow: State = {
            "health": {"counts": {}, "rows": [], "queues": [], "pools": []},
            "causes": [],
            "spending": {},
            "quality": quality_rows(results),
        }
        runs = self._read_runs(now_s - self._span_s)
        if not runs.empty:
            slow |= self._look_back(runs, now_s, {} if graph is None else quality_shares(results, graph.writers))
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

    def _look_at_graph(self) -> Graph | None:
        """The graph, and who waits for whom; None if there is none to be had."""
        try:
            graph = None if self._graph is None else self._graph()
        except PrefectIntelligentError:
            return None
        self._upstream = {} if graph is None else {name: graph.upstream(name) for name in graph.deployments}
        return graph

    def _look_back(self, runs: pd.DataFrame, now_s: float, quality: Mapping[str, tuple[float, int]]) -> State:
        """What the runs of the span say: spending, health, causes."""
        report = make_report(
            runs,
            since_s=now_s - self._span_s,
            until_s=now_s + 1.0,
            prices=self._prices,
            slots=self._slots,
            dimensions=SPENT_BY,
        )
        health = all_health(
            runs, now_s, target=DEFAULT_TARGET, quality=quality, prices=self._prices, budgets=self._budgets
        )
        found = health["deployments"]
        causes = list(group_causes(runs))
        book = learn_book(runs.iloc[-_SLOW_RUNS:])
        names = [str(name) for name in runs["deployment"].unique()]
        longest = {name: value for name in names if (value := book.longest_usual_s(name)) is not None}
        self._findings = (found, causes, longest)
        return {
            "totals": {
                "span": format_span(self._span_s),
                "runs": report["total"]["runs"],
                "failure_share": report["total"]["failure_share"],
                "on_time_share": report["total"]["on_time_share"],
                "utilisation": report["utilisation"],
                "cost_usd": report["money"]["total_usd"],
            },
            "spending": {
                "split": report["money"],
                "daily": report["daily"],
                "changes": report["changes"],
                "trends": report["trends"],
                "by": {name: _dearest(groups) for name, groups in report["by"].items()},
            },
            "health": {
                "counts": {str(status): sum(h.status == status for h in found) for status in Status},
                "rows": [_health_row(each, at) for at, each in enumerate(found)],
                "queues": [_health_row(each, at) for at, each in enumerate(health["queues"])],
                "pools": [_health_row(each, at) for at, each in enumerate(health["pools"])],
            },
            "causes": cause_rows(causes[:_CAUSES], self._upstream),
        }


def _dearest(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first groups of a dimension with what their money is made of."""
    parts = ("useful_usd", "wasted_usd", "overhead_usd", "lateness_usd", "failure_usd", "idle_usd", "cost_usd", "runs")
    return [{"name": name, **{part: row[part] for part in parts}} for name, row in list(groups.items())[:_GROUPS]]


def _health_row(health: Health, place: int) -> dict[str, Any]:
    """What the page shows of one deployment; the terms only for the worst, as they are most of the bytes."""
    row = health_dict(health)
    budget = None if row["budget"] is None else {name: row["budget"][name] for name in ("left", "attained")}
    return {**row, "budget": budget, "terms": row["terms"] if place < WITH_TERMS else []}
