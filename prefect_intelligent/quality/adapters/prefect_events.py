"""Results of quality gates in Prefect: an event that automations can trigger on, and artifacts of the flow run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.events import emit_event
from prefect.settings import get_current_settings

from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.json_values import bounded

_PAYLOAD = ("outcome", "run_id", "quarantined", "repaired", "by_check", "log", "held", "unusual")


def emit_quality(record: Mapping[str, Any]) -> None:
    """Send `prefect-intelligent.quality.<outcome>` about the dataset; never raises, and does nothing without a server.

    Args:
        record: The result, as `GateResult.to_record` gives it.
    """
    with contextlib.suppress(Exception):
        if not get_current_settings().api.url:
            return
        producer = record.get("producer") or record["run_id"]
        emit_event(
            f"prefect-intelligent.quality.{record['outcome']}",
            resource={
                "prefect.resource.id": f"prefect-intelligent.dataset.{record['dataset']}",
                "prefect.resource.name": str(record["dataset"]),
            },
            related=[{"prefect.resource.id": f"prefect.flow-run.{producer}", "prefect.resource.role": "producer"}],
            payload=bounded({name: record[name] for name in _PAYLOAD}),
        )


def attach_quality(
    record: Mapping[str, Any], sentence: str, flow_run_id: str | None, task_run_id: str | None = None
) -> None:
    """Add a table of the checks and a link to the quarantine (or MLflow) to a run as artifacts; never raises.

    It works inside the run and from another process after it. Calling it twice adds the artifacts twice.

    Args:
        record: The result, as `GateResult.to_record` gives it.
        sentence: The result in one line, as `GateResult.sentence` gives it.
        flow_run_id: Flow run that the data belongs to.
        task_run_id: Task run of the gate, if it ran as one.
    """
    with contextlib.suppress(Exception):
        if not get_current_settings().api.url:
            return
        key = _artifact_key(str(record["dataset"]))
        description = f"{sentence}\n\n" + "\n".join(record["log"])
        quarantine, mlflow = str(record["quarantine"]), os.environ.get("MLFLOW_TRACKING_URI", "")
        url = mlflow if mlflow.startswith("http") else Path(quarantine.split("::")[0] or ".").absolute().as_uri()
        runs = {"flow_run_id": flow_run_id, "task_run_id": task_run_id}
        table = {"key": key, "type": "table", "description": description, "data": json.dumps(_table(record))}
        link = {"key": f"{key}-link", "type": "markdown", "data": f"[{quarantine or mlflow or 'history'}]({url})"}
        api = PrefectApi(timeout_s=2.0)
        try:
            for artifact in (table, link):
                api.call("POST", "/artifacts/", artifact | runs)
        finally:
            api.close()


def _artifact_key(dataset: str) -> str:
    """Prefect allows lower-case letters, digits and hyphens; a digest tells other names apart."""
    slug = re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-")
    digest = "" if slug == dataset.replace("/", "-") else hashlib.sha256(dataset.encode()).hexdigest()[:8]
    return "-".join(part for part in ("quality", slug, digest) if part)


def _table(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each check."""
    actions = {step["check"]: f"{step['action']}: {step['reason']}" for step in record["steps"]}
    after = {check["id"]: check["outcome"] for check in (record["after"] or {}).get("checks", ())}
    return [
        {
            "check": check["name"],
            "column": check["column"] or "",
            "outcome": check["outcome"],
            "severity": check["severity"],
            "value": check["value"],
            "threshold": check["threshold"],
            "rows failed": check["rows_failed"],
            "remediation": actions.get(check["id"], ""),
            "after": after.get(check["id"], ""),
        }
        for check in record["first"]["checks"]
    ]
