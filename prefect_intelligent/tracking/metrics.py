"""What is tracked of each kind of record: its stream, its metrics, the datasets it names and the policy that decided.

Names of streams and metrics are stored in MLflow and do not change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect_intelligent.local.record_versions import UNREADABLE, leave_out
from prefect_intelligent.local.spool import Entry
from prefect_intelligent.tracking.outbox import OutboxEvent

_NAME = re.compile(r"[^A-Za-z0-9_\-. /]+")
_MAX_NAME_LENGTH = 200
_MAX_METRICS = 200  # of one record
_NOT_METRICS = re.compile(r"(scheduled|started|state|due|expected)_s|late_usd_per_hour|failure_usd|attempt")
_STREAMS = {"decision": "decisions", "flow_run": "flow-runs", "quality": "quality", "retraining": "retraining"}
_OWNERS = ("pool", "work_pool", "dataset", "deployment", "flow")
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
EVENTS = "events"
"""Name of the metric that counts the records of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """One value of one metric.

    Attributes:
        name: Name of the metric.
        value: Its value, finite.
        at_s: Instant of its record, Unix seconds.
        step: Number of its record in the stream, from 1.
    """

    name: str
    value: float
    at_s: float
    step: int


def stream_name(entry: Entry) -> str:
    """The stream of an event: one per kind, pool (or dataset) and UTC day, e.g. "decisions/etl/2026-01-31"."""
    day = datetime.fromtimestamp(entry.at_s, UTC).strftime("%Y-%m-%d")
    owner = next((str(entry.record[name]) for name in _OWNERS if entry.record.get(name)), "all")
    return f"{_STREAMS.get(entry.kind, entry.kind)}/{clean_name(owner).replace('/', '.')}/{day}"


def metric_points(events: Sequence[OutboxEvent]) -> list[MetricPoint]:
    """The metrics of a batch of one stream, without points that change no line of a chart.

    A value that equals the one before and the one after it in the batch is left out: most numbers of a pool do not
    change from one decision to the next. The count of records so far (`EVENTS`) has one point per batch.
    """
    series: dict[str, list[MetricPoint]] = {}
    for event in events:
        for name, value in record_metrics(event.entry).items():
            point = MetricPoint(name=name, value=value, at_s=event.entry.at_s, step=event.place)
            points = series.setdefault(name, [])
            if len(points) >= 2 and points[-2].value == points[-1].value == value:
                points[-1] = point
            else:
                points.append(point)
    found = [point for points in series.values() for point in points]
    if events:
        last = events[-1]
        found.append(MetricPoint(name=EVENTS, value=float(last.place), at_s=last.entry.at_s, step=last.place))
    return found


def record_datasets(entry: Entry) -> list[tuple[str, str, str]]:
    """The datasets that a record names: (name, hash of its contract or "", use: checked, read or written)."""
    record = entry.record
    found = []
    try:
        if record.get("dataset"):
            found.append((str(record["dataset"]), str((record.get("first") or {}).get("contract", "")), "checked"))
        found += [(str(name), "", "read") for name in record.get("inputs") or ()]
        found += [(str(name), "", "written") for name in record.get("outputs") or ()]
    except UNREADABLE as error:
        leave_out(entry.kind, record, error)
    return found


def deciding_policy(entry: Entry) -> str | None:
    """The policy that made a decision; None for other records."""
    policy = entry.record.get("policy")
    return str(policy) if entry.kind == "decision" and policy else None


def record_metrics(entry: Entry) -> dict[str, float]:
    """The metrics of a record: name to value, finite values only.

    Decisions, flow runs and quality results have a fixed selection; of other records every number is a metric, nested
    names joined by a slash. A record that is not what its kind should be gives what could be read of it.
    """
    metrics_of = {"decision": _decision, "quality": _quality, "flow_run": _flow_run}.get(entry.kind, _flat)
    found: dict[str, float] = {}
    try:
        for name, value in metrics_of(entry.record):
            if isinstance(value, bool | int | float) and math.isfinite(value) and len(found) < _MAX_METRICS:
                found[clean_name(name)[:_MAX_NAME_LENGTH]] = float(value)
    except (OverflowError, *UNREADABLE) as error:
        leave_out(entry.kind, entry.record, error)
    return found


def clean_name(name: str) -> str:
    """A name that every MLflow server accepts as part of a metric's name."""
    return _NAME.sub("-", name).strip("/ ") or "-"


def _decision(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    queues = record.get("queues") or ()
    limit = (record.get("pool_limit") or {}).get("applied")
    active = sum(q["active"] for q in queues)
    yield "waiting", sum(q["waiting"] for q in queues)
    yield "active", active
    yield "late", sum(q["late"] for q in queues)
    if limit is not None:
        yield "pool_limit", limit
        if limit:
            yield "utilisation", active / limit
    yield "planned_changes", len(record.get("planned") or ())
    yield "applied_changes", len(record.get("applied") or ())
    yield "guard_interventions", sum(q.get("wanted") is not None and q["wanted"] != q["permitted"] for q in queues)
    yield "differs_from_rule", sum(q["permitted"] != q["rule"] for q in queues)
    for name in ("own_ms", "wall_ms"):
        yield name, record.get(name)
    yield from (record.get("stakes") or {}).items()
    for name, value in _flat(record.get("foreseen") or {}):
        yield f"foreseen/{name}", value
    for queue in queues:
        for name in ("waiting", "active", "late"):
            yield f"queue/{queue['name']}/{name}", queue[name]
        for name in ("place", "limit"):
            yield f"queue/{queue['name']}/{name}", queue["applied"].get(name)


def _flow_run(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Times and costs of a flow run once it has ended; its other states are in the archive only."""
    yield from ((name, value) for name, value in _flat(record) if not _NOT_METRICS.fullmatch(name))
    started, scheduled, at = record.get("started_s"), record.get("scheduled_s"), record.get("state_s")
    if record.get("state") == "RUNNING" and started and scheduled:
        yield "wait_s", max(0.0, started - scheduled)
    if record.get("state") not in _ENDED or at is None:
        return
    for state in _ENDED:
        yield f"state/{state.lower()}", record["state"] == state
    failed = record["state"] in ("FAILED", "CRASHED")
    late_s = max(0.0, at - record["due_s"]) if record.get("due_s") else 0.0
    lateness = late_s / 3600 * float(record.get("late_usd_per_hour") or 0)
    failure = float(record.get("failure_usd") or 0) if failed else 0.0
    yield from (("late_s", late_s), ("cost/lateness_usd", lateness), ("cost/failure_usd", failure))
    if started:
        yield "run_s", at - started
        if record.get("expected_s"):
            yield "prediction_s", record["expected_s"]
            yield "prediction_error_s", at - started - record["expected_s"]


def _quality(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "usable", record.get("good")
    for name in ("quarantined", "repaired"):
        yield name, record.get(name)
    first = record.get("first") or {}
    yield "rows_tested", first.get("rows_tested")
    yield "duration_s", first.get("duration_s")
    yield "unusual", len(record.get("unusual") or ())
    checks = first.get("checks") or ()
    for outcome in ("passed", "warned", "failed", "unknown"):
        yield f"checks/{outcome}", sum(c["outcome"] == outcome for c in checks)
    for check in checks:
        yield f"check/{check['id']}", check["value"]


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        elif not str(name).endswith("_id"):
            yield f"{prefix}{name}", value
