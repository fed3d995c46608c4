"""Runs of a pool that nobody can start."""

from __future__ import annotations

from typing import Any, Final

from prefect_intelligent.domain.instants import iso
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.adapters.live_runs import read_record
from prefect_intelligent.steering.preflight import StuckRun

_PATIENCE_S: Final = 60.0
"""A process that lives tries again within seconds."""


def read_stuck(api: PrefectApi, pool: str, now_s: float) -> list[StuckRun]:
    """Runs that their own process should have tried again a minute ago or earlier, longest overdue first.

    Raises:
        OrchestratorUnavailableError: Prefect cannot be asked.
    """
    waiting = {
        "state": {"type": {"any_": ["SCHEDULED"]}, "name": {"any_": ["AwaitingRetry"]}},
        "next_scheduled_start_time": {"before_": iso(now_s - _PATIENCE_S)},
    }
    body = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": waiting, "sort": "NEXT_SCHEDULED_START_TIME_ASC"}
    runs = [
        (record, run)
        for page in api.pages("/flow_runs/filter", body)
        for run in page
        if (record := read_record(run)).own_retry
    ]
    names = _names(api, [run for _, run in runs])
    return [
        StuckRun(
            id=record.id,
            name=run["name"],
            deployment=names.get(record.deployment_id or "", "a deployment that has gone"),
            overdue_s=now_s - record.next_s,
        )
        for record, run in runs
    ]


def _names(api: PrefectApi, runs: list[dict[str, Any]]) -> dict[str, str]:
    """Deployment id to "flow/deployment"."""
    if not runs:
        return {}
    flows = {run["flow_id"] for run in runs}
    deployments = {run["deployment_id"] for run in runs if run["deployment_id"]}
    flow_rows = api.pages("/flows/filter", {"flows": {"id": {"any_": sorted(flows)}}})
    flow = {row["id"]: row["name"] for page in flow_rows for row in page}
    rows = api.pages("/deployments/filter", {"deployments": {"id": {"any_": sorted(deployments)}}})
    return {row["id"]: f"{flow.get(row['flow_id'], '?')}/{row['name']}" for page in rows for row in page}
