"""Finds the run or the deployment that is asked about."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi, path
from prefect_intelligent.prefect_client.claims.in_force import find_deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about.

    Attributes:
        pool: Name of the work pool; None for what is in none.
        run: As the API gives it; None if a deployment is asked about.
        deployment: As the API gives it; None if it has gone.
    """

    pool: str | None
    run: Mapping[str, Any] | None
    deployment: Mapping[str, Any] | None


def find_subject(api: PrefectApi, text: str) -> Subject:
    """A run by its id or its name, or a deployment by "flow/deployment" or its id.

    Raises:
        UnknownNameError: There is neither.
    """
    deployment = find_deployment(api, text) if "/" in text else None
    run = None
    if deployment is None and _is_id(text):
        run = api.call("GET", path("flow_runs", text), absent_ok=True)
        deployment = None if run is not None else api.call("GET", path("deployments", text), absent_ok=True)
    if run is None and deployment is None:
        body = {"flow_runs": {"name": {"any_": [text]}}, "sort": "EXPECTED_START_TIME_DESC"}
        found, _ = api.page("/flow_runs/filter", body, most=1)
        run = found[0] if found else None
    if run is None and deployment is None:
        raise UnknownNameError("flow run or deployment", text, _some_names(api, text))
    if run is not None and run["deployment_id"] is not None:
        deployment = api.call("GET", path("deployments", run["deployment_id"]), absent_ok=True)
    pool = (run or {}).get("work_pool_name") or (deployment or {}).get("work_pool_name")
    return Subject(pool=pool, run=run, deployment=deployment)


def flow_names(api: PrefectApi, ids: Collection[str]) -> dict[str, str]:
    """Flow id to name."""
    wanted, found = sorted(ids), dict[str, str]()
    for start in range(0, len(wanted), PAGE):
        body = {"flows": {"id": {"any_": wanted[start : start + PAGE]}}}
        found |= {row["id"]: row["name"] for page in api.pages("/flows/filter", body) for row in page}
    return found


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _some_names(api: PrefectApi, text: str) -> list[str]:
    """Names to suggest: deployments if it has a slash, else the ids of runs that wait."""
    if "/" not in text:
        body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "NEXT_SCHEDULED_START_TIME_ASC"}
        return [str(run["name"]) for run in api.page("/flow_runs/filter", body, most=20)[0]]
    rows, _ = api.page("/deployments/filter", {})
    flows = flow_names(api, {row["flow_id"] for row in rows})
    return [f"{flows.get(row['flow_id'], '?')}/{row['name']}" for row in rows]
