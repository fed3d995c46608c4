"""Opens and resolves alerts; each change is recorded and sent as an event that Prefect's automations can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from prefect_intelligent.analytics.alerts import Alert
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.steering.ports import Orchestrator

KIND: Final = "alert"
RESOLVE_AFTER: Final = 2
"""An alert is resolved when it was absent from so many evaluations in a row, so that it does not flap."""


def open_alerts(history: HistoryStore, pool: str) -> dict[str, dict[str, Any]]:
    """Key to the record of each alert that is open."""
    return read_latest(history, KIND, pool, _read_open) or {}


def _read_open(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(key): {"absent": 0, **row, "since_s": float(row["since_s"])} for key, row in record["open"].items()}


def raise_alerts(
    alerts: Sequence[Alert],
    orchestrator: Orchestrator,
    history: HistoryStore,
    now_s: float,
    *,
    runbooks_url: str | None = None,
) -> tuple[list[str], list[str]]:
    """Compare the alerts with the open ones, record the changes and send them as events.

    Args:
        alerts: The alerts that hold now.
        orchestrator: Sends the events.
        history: Stores the open alerts.
        now_s: The present, Unix seconds.
        runbooks_url: Base URL of the published runbooks; without it events have the path of the page.

    Returns:
        Keys opened and keys resolved.
    """
    pool = orchestrator.pool
    before = open_alerts(history, pool)
    after: dict[str, dict[str, Any]] = {}
    opened: list[str] = []
    for alert in alerts:
        old = before.get(alert.key)
        link = f"{runbooks_url.rstrip('/')}/{alert.rule}" if runbooks_url else alert.runbook
        row = {**asdict(alert), "runbook": alert.runbook, "link": link, "folded": list(alert.folded), "absent": 0}
        if old is not None:
            row["since_s"] = old["since_s"]
        else:
            opened.append(alert.key)
        after[alert.key] = row
    resolved = []
    for key, row in before.items():
        if key in after:
            continue
        absent = int(row["absent"]) + 1
        if absent >= RESOLVE_AFTER:
            resolved.append(key)
        else:
            after[key] = {**row, "absent": absent}
    if after != before:
        history.append(KIND, pool, now_s, {"open": after, "opened": opened, "resolved": resolved})
    for key in opened:
        orchestrator.emit("alert.opened", after[key])
    for key in resolved:
        orchestrator.emit("alert.resolved", before[key])
    return opened, resolved
