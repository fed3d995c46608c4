"""Our own records as data frames: decisions of the controller and results of quality checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.quality.past_results import past_results
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision

DECISIONS: Final[Mapping[str, str]] = {
    "at_s": "float64",
    "pool": "object",
    "mode": "object",
    "by": "object",
    "policy": "object",
    "rule": "object",
    "outcome": "object",
    "planned": "int64",
    "applied": "int64",
    "changes": "object",
    "reasons": "object",
    "own_ms": "float64",
    "wall_ms": "float64",
}
"""Columns of `decision_frame` and their types."""

CHECKS: Final[Mapping[str, str]] = {
    "at_s": "float64",
    "dataset": "object",
    "contract": "object",
    "result": "object",
    "check": "object",
    "kind": "object",
    "column": "object",
    "outcome": "object",
    "severity": "object",
    "value": "float64",
    "threshold": "object",
    "rows_tested": "float64",
    "rows_failed": "float64",
    "quarantined": "float64",
}
"""Columns of `quality_frame` and their types."""


def decision_frame(history: HistoryStore, *, pool: str | None = None, since_s: float | None = None) -> pd.DataFrame:
    """One row per decision, in the order in which they were made.

    `planned` and `applied` are numbers of changes, `changes` the applied ones as text, `reasons` those of the decision.
    """
    rows = read_each(DECISION, history.records(DECISION, pool, since_s), _decision)
    return _table(rows, DECISIONS)


def quality_frame(history: HistoryStore, *, since_s: float | None = None) -> pd.DataFrame:
    """One row per check of each quality gate, from its first verification (before any remediation).

    `outcome` is that of the check, `result` that of the gate (passed, remedied, blocked ...).
    """
    rows = []
    for record in past_results(history, since_s=since_s):
        first = record["first"]
        whole = {
            "at_s": record["at_s"],
            "dataset": record["dataset"],
            "contract": first["contract"],
            "result": record["outcome"],
            "quarantined": record.get("quarantined", 0),
        }
        names = ("kind", "column", "outcome", "severity", "value", "threshold", "rows_tested", "rows_failed")
        for check in first["checks"]:
            rows.append(whole | {"check": check["name"]} | {name: check.get(name) for name in names})
    return _table(rows, CHECKS)


def _decision(record: Mapping[str, Any]) -> dict[str, Any]:
    found = read_decision(record)
    names = ("at_s", "pool", "mode", "by", "policy", "rule", "outcome", "own_ms", "wall_ms")
    return {
        **{name: found[name] for name in names},
        "planned": len(found["planned"]),
        "applied": len(found["applied"]),
        "changes": "; ".join(map(_change, found["applied"])),
        "reasons": "; ".join(found["reasons"]),
    }


def _change(change: Sequence[Any]) -> str:
    queue, which, before, after, *_ = change
    return f"{'pool' if queue is None else queue} {which} {_limit(before)} -> {_limit(after)}"


def _limit(value: object) -> str:
    return "none" if value is None else str(value)


def _table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns)).astype(dict(columns))
