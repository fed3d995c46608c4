"""Exports of orchestrators: Prefect's flow runs, Airflow's task instances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.domain.instants import unix_s
from simulations.traces.files import load_envelope, numbered_objects, numbered_rows
from simulations.traces.trace import Trace, TraceBuilder, first_key

_ENVELOPE: Final = "task_instances"


def read_prefect(path: Path) -> Trace:
    """Flow runs as Prefect's API returns them: a JSON list, or one object a line; unfinished ones are left out."""
    builder = TraceBuilder(path, "prefect")
    for number, run in numbered_objects(path):
        if run is None or "id" not in run:
            builder.reject(number, "is not a flow run (an object with an 'id')")
            continue
        scheduled, started, ended = (
            _instant_s(run.get(name)) for name in ("expected_start_time", "start_time", "end_time")
        )
        if not all(map(math.isfinite, (scheduled, started, ended))):
            builder.reject(number, f"run {run['id']!r} has not ended or lacks a time")
            continue
        builder.add(
            number,
            {
                "id": str(run["id"]),
                "deployment": str(first_key(run, ("deployment_name", "deployment_id", "flow_id"))),
                "queue": str(first_key(run, ("work_queue_name", "work_queue_id")) or "default"),
                "submit_s": scheduled,
                "wait_s": max(0.0, started - scheduled),
                "duration_s": ended - started,
                "failed": run.get("state_type") in ("FAILED", "CRASHED"),
                "parents": (),
            },
        )
    return builder.build()


def read_airflow(path: Path) -> Trace:
    """Airflow's task instances: the `task_instance` table as CSV, or answers of its REST API (2.x and 3.x).

    An answer is one object with `task_instances` and `total_entries`; a bare list, one task instance a line, or one
    answer a line are read as well.

    Columns used: dag_id, task_id, run_id, start_date, end_date or duration, state, queued_dttm (or queued_when), pool,
    pool_slots, try_number. Tasks that have not ended are left out.
    """
    builder = TraceBuilder(path, "airflow")
    rows: Iterator[tuple[int, Mapping[str, Any] | None]]
    rows = numbered_rows(path) if ".csv" in path.suffixes else _task_instances(path, builder)
    for number, row in rows:
        if row is None or not {"dag_id", "task_id"} <= row.keys():
            builder.reject(number, "is not a task instance (it needs dag_id and task_id)")
            continue
        started, ended = _instant_s(row.get("start_date")), _instant_s(row.get("end_date"))
        queued = _instant_s(first_key(row, ("queued_dttm", "queued_when")))
        if not (math.isfinite(started) and math.isfinite(ended)):
            builder.reject(number, f"task {row['dag_id']}.{row['task_id']} has not ended or lacks a time")
            continue
        submitted = queued if math.isfinite(queued) else started
        builder.attempt(number, partial(_airflow_run, row, number, submitted, started, ended))
    return builder.build()


def _task_instances(path: Path, builder: TraceBuilder) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """The task instances of a JSON file with the number of their item or line."""
    whole = load_envelope(path, _ENVELOPE)
    answers = 0
    total: object = None
    for number, item in [(0, whole)] if whole is not None else numbered_objects(path):
        inside = None if item is None else item.get(_ENVELOPE)
        if item is None or not isinstance(inside, list):
            yield number, item
            continue
        answers += len(inside)
        total = item.get("total_entries")
        for place, each in enumerate(inside, start=1):
            yield number or place, each if isinstance(each, dict) else None
    if isinstance(total, int) and total > answers:
        builder.reject(0, f"holds {answers} of {total} task instances; fetch the other pages with limit and offset")


def _airflow_run(
    row: Mapping[str, Any], number: int, submitted: float, started: float, ended: float
) -> Iterator[dict[str, Any]]:
    """One task instance as a run of our trace."""
    run = first_key(row, ("run_id", "dag_run_id")) or f"line-{number}"
    yield {
        "id": f"{row['dag_id']}/{run}/{row['task_id']}/{row.get('try_number') or 1}/{row.get('map_index') or -1}",
        "workflow": f"{row['dag_id']}/{run}",
        "deployment": f"{row['dag_id']}.{row['task_id']}",
        "queue": str(row.get("pool") or "default_pool"),
        "slots": max(1, int(row.get("pool_slots") or 1)),
        "submit_s": submitted,
        "wait_s": max(0.0, started - submitted),
        "duration_s": ended - started,
        "failed": row.get("state") in ("failed", "upstream_failed"),
    }


def _instant_s(text: object) -> float:
    """Unix seconds of an ISO instant; NaN if there is none."""
    if not isinstance(text, str) or not text:
        return math.nan
    try:
        return unix_s(text)
    except ValueError:
        return math.nan
