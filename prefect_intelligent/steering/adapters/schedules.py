"""What Prefect has scheduled of a pool's deployments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.prefect_client.api import PrefectApi

_SETTLE_S: Final = 120.0
"""Prefect schedules a new deployment within seconds and looks at all of them once a minute."""


def read_unscheduled(api: PrefectApi, pool: str, now_s: float) -> tuple[int, tuple[str, ...]]:
    """How many deployments of the pool should have upcoming runs, and which of them have none.

    A deployment counts if it has an active schedule, is not paused and was last changed two minutes ago or earlier.

    Returns:
        The number of deployments that count, and the names ("flow/deployment") of those without a scheduled run.

    Raises:
        OrchestratorUnavailableError: Prefect cannot be asked.
    """
    body = {"work_pools": {"name": {"any_": [pool]}}}
    scheduled = [
        deployment
        for page in api.pages("/deployments/filter", body)
        for deployment in page
        if not deployment.get("paused")
        and any(schedule["active"] for schedule in deployment["schedules"])
        and unix_s(deployment["updated"]) < now_s - _SETTLE_S
    ]
    idle = [deployment for deployment in scheduled if not _has_upcoming(api, deployment["id"], now_s)]
    flows = _flow_names(api, [deployment["flow_id"] for deployment in idle])
    return len(scheduled), tuple(sorted(f"{flows.get(d['flow_id'], '?')}/{d['name']}" for d in idle))


def _has_upcoming(api: PrefectApi, deployment_id: str, now_s: float) -> bool:
    since = datetime.fromtimestamp(now_s, UTC) - timedelta(seconds=1)
    body = {
        "deployments": {"id": {"any_": [deployment_id]}},
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": since.isoformat()},
        },
    }
    return bool(api.call("POST", "/flow_runs/count", body))


def _flow_names(api: PrefectApi, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    body: dict[str, Any] = {"flows": {"id": {"any_": sorted(set(ids))}}}
    return {flow["id"]: flow["name"] for page in api.pages("/flows/filter", body) for flow in page}
