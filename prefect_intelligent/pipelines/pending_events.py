"""Pending dataset events: kept on disk until they have been sent to Prefect.

A hook appends a pending event and goes on; the relay of a controller on this machine (`adapters.event_relay`) sends it.
Where no relay runs, the hook sends it, together with those that other processes could not send. So an event survives a
server that is away for a while, and a process that is killed before it could send.

Imports nothing that a flow's process has not imported already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.local.spool import Spool, default_folder
from prefect_intelligent.pipelines.event_names import PIPELINE_ENV

KIND: Final = "announcement"


def pending_events(api_url: str, folder: Path | None = None) -> Spool:
    """The spool of pending events for one server.

    Args:
        api_url: The server; events for one are of no use to another.
        folder: The data folder, `Settings.folder`; its default if None.
    """
    base = default_folder().parent if folder is None else folder
    return Spool(base / "announcements" / hashlib.sha256(api_url.rstrip("/").encode()).hexdigest()[:16])


def make_pending_event(
    flow_run: Any, outputs: Iterable[str], batch_parameter: str | None, *, fresh: bool
) -> dict[str, Any]:
    """What `adapters.dataset_events.emit_dataset_events` needs, from the flow run that Prefect gives to hooks.

    Of the parameters only the batch is stored, and of the environment only our label: the rest may be secret.
    """
    name = batch_parameter or "batch"
    batch = flow_run.parameters.get(name)
    if isinstance(batch, date):
        batch = batch.isoformat()
    label = ((flow_run.job_variables or {}).get("env") or {}).get(PIPELINE_ENV)
    return {
        "flow_run": {
            "id": str(flow_run.id),
            "deployment_id": str(flow_run.deployment_id) if flow_run.deployment_id else None,
            "parameters": {} if batch is None else {name: str(batch)},
            "job_variables": {} if label is None else {"env": {PIPELINE_ENV: label}},
            "start_time": _iso(flow_run.start_time),
            "expected_start_time": _iso(flow_run.expected_start_time),
            "run_count": flow_run.run_count,
        },
        "outputs": list(outputs),
        "batch_parameter": batch_parameter,
        "fresh": fresh,
    }


def read_pending_event(record: Mapping[str, Any]) -> dict[str, Any]:
    """A pending event as it was stored, with a default for the batch parameter.

    Raises:
        Exception: One of `UNREADABLE`.
    """
    return {
        "flow_run": {**record["flow_run"], "id": str(record["flow_run"]["id"])},
        "outputs": [str(dataset) for dataset in record["outputs"]],
        "batch_parameter": record.get("batch_parameter"),
        "fresh": bool(record["fresh"]),
    }


def _iso(instant: Any) -> str | None:
    return None if instant is None else str(instant.isoformat())
