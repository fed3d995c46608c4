"""The facts about a pool, read from a Prefect server with about ten calls."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from prefect_intelligent.blocking.adapters.subjects import Subject, flow_names
from prefect_intelligent.blocking.facts import (
    BlockingFacts,
    DeploymentFacts,
    DeploymentLimit,
    QueueFacts,
    RunFacts,
)
from prefect_intelligent.blocking.startable import read_limit
from prefect_intelligent.domain.instants import iso, optional_unix_s, unix_s
from prefect_intelligent.errors import OrchestratorError, UnknownNameError
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi, path
from prefect_intelligent.prefect_client.child_runs import read_children
from prefect_intelligent.prefect_client.claims.records import read_records
from prefect_intelligent.prefect_client.run_times import submitted_s

_SOON_S: Final = 3600.0
_MOST: Final = 1000
_IN_FLIGHT: Final = ("PENDING", "RUNNING", "CANCELLING")
_SERVICES: Final = ("scheduler", "late_runs", "repossessor")


def read_facts(
    api: PrefectApi,
    pool: str | None,
    *,
    subject: Subject | None = None,
    worker_slots: int | None = None,
    poll_s: float = 10.0,
) -> BlockingFacts:
    """The facts about a pool.

    Args:
        api: The server.
        pool: Name of the work pool; None for a subject in none.
        subject: A run or a deployment that has to be among them.
        worker_slots: Runs that the pool's workers carry at once; None is not known.
        poll_s: Time between two polls of a worker, seconds.

    Raises:
        UnknownNameError: There is no such pool.
        OrchestratorUnavailableError: Prefect cannot be asked.
    """
    at_s = api.now_s()
    held = None if pool is None else api.call("GET", path("work_pools", pool), absent_ok=True)
    if pool is not None and held is None:
        pools = [one["name"] for page in api.pages("/work_pools/filter", {}) for one in page]
        raise UnknownNameError("work pool", pool, pools)
    queues, heartbeats = _read_places(api, pool)
    active = _read_runs(api, pool, {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}})
    soon = {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": iso(at_s + _SOON_S)}}
    scheduled = _read_runs(api, pool, soon)
    for raw in _of_subject(api, subject):
        known = scheduled if raw["state_type"] == "SCHEDULED" else active
        if raw["state_type"] in ("SCHEDULED", "PENDING", "RUNNING") and raw["id"] not in {one["id"] for one in known}:
            known.append(dict(raw))
    beyond = _beyond(api, pool, soon, len(scheduled)) if len(scheduled) >= _MOST else 0
    tasks = {run["parent_task_run_id"]: run["id"] for run in (*active, *scheduled) if run.get("parent_task_run_id")}
    children = read_children(api, tasks)
    concerned = {str(one["deployment_id"]) for one in (*active, *scheduled) if one["deployment_id"]}
    if subject is not None and subject.deployment is not None:
        concerned.add(str(subject.deployment["id"]))
    passed = [unix_s(run["created"]) for run in (*active, *scheduled) if run.get("created")]
    return BlockingFacts(
        at_s=max([at_s, *passed, *heartbeats]),  # clocks are compared to a second or two; these instants have passed
        name=pool or "",
        type="process" if held is None else str(held["type"]),
        limit=None if held is None else held["concurrency_limit"],
        paused=False if held is None else held["is_paused"],
        queues=queues,
        deployments=_read_deployments(api, concerned, active),
        scheduled=tuple(read_run(one, children) for one in scheduled),
        active=tuple(read_run(one, children) for one in active),
        beyond=beyond,
        heartbeats_s=heartbeats,
        worker_slots=worker_slots,
        poll_s=poll_s,
        services_off=_services_off(api),
    )


def read_run(raw: Mapping[str, Any], children: Mapping[str, Collection[str]] | None = None) -> RunFacts:
    """A run as the API gives it."""
    state = raw["state"] or {}
    details = state.get("state_details") or {}
    expected_s = submitted_s(raw)
    return RunFacts(
        id=raw["id"],
        name=raw["name"],
        state=raw["state_type"] or "SCHEDULED",
        state_name=raw["state_name"] or "",
        message=str(state.get("message") or ""),
        state_s=optional_unix_s(state.get("timestamp")) or expected_s,
        deployment_id=raw["deployment_id"],
        queue_id=raw["work_queue_id"],
        expected_s=expected_s,
        next_s=unix_s(raw["next_scheduled_start_time"] or raw["expected_start_time"] or raw["created"]),
        own_retry=(raw.get("empirical_policy") or {}).get("retry_type") == "in_process",
        pause_ends_s=optional_unix_s(details.get("pause_timeout")),
        begun=bool(raw.get("run_count")) or raw.get("start_time") is not None,
        awaited=raw.get("parent_task_run_id") is not None,
        parameters=_digest(raw.get("parameters") or {}),
        children=tuple(sorted((children or {}).get(raw["id"], ()))),
    )


def _digest(parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _of_subject(api: PrefectApi, subject: Subject | None) -> list[Mapping[str, Any]]:
    """The run that is asked about, or the next one of the deployment."""
    if subject is None:
        return []
    if subject.run is not None:
        return [subject.run]
    assert subject.deployment is not None
    runs = {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"any_": [subject.deployment["id"]]}}
    body = {"flow_runs": runs, "sort": "NEXT_SCHEDULED_START_TIME_ASC"}
    return list(api.page("/flow_runs/filter", body, most=1)[0])


def _read_places(api: PrefectApi, pool: str | None) -> tuple[dict[str, QueueFacts], tuple[float, ...]]:
    if pool is None:
        return {}, ()
    queues = {
        str(row["id"]): QueueFacts(
            id=str(row["id"]),
            name=row["name"],
            priority=row["priority"] or 1,
            limit=row["concurrency_limit"],
            paused=row["is_paused"],
            polled_s=optional_unix_s(row.get("last_polled")),
            created_s=optional_unix_s(row.get("created")) or 0.0,
        )
        for page in api.pages(path("work_pools", pool, "queues", "filter"), {})
        for row in page
    }
    workers = [row for page in api.pages(path("work_pools", pool, "workers", "filter"), {}) for row in page]
    beats = [optional_unix_s(row.get("last_heartbeat_time")) for row in workers]
    return queues, tuple(beat for beat in beats if beat is not None)


def _read_runs(api: PrefectApi, pool: str | None, runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    if pool is None:
        return []
    body = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": runs, "sort": "NEXT_SCHEDULED_START_TIME_ASC"}
    found: list[dict[str, Any]] = []
    for page in api.pages("/flow_runs/filter", body):
        found += [row for row in page if row["work_queue_id"]]
        if len(found) >= _MOST:
            break
    return found


def _beyond(api: PrefectApi, pool: str | None, runs: Mapping[str, Any], read: int) -> int:
    body = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": runs}
    return max(0, int(api.call("POST", "/flow_runs/count", body)) - read)


def _read_deployments(
    api: PrefectApi, ids: Collection[str], active: Iterable[Mapping[str, Any]]
) -> dict[str, DeploymentFacts]:
    wanted, rows = sorted(ids), list[dict[str, Any]]()
    for start in range(0, len(wanted), PAGE):
        body = {"deployments": {"id": {"any_": wanted[start : start + PAGE]}}}
        rows += [row for page in api.pages("/deployments/filter", body) for row in page]
    flows = flow_names(api, {row["flow_id"] for row in rows})
    claims = read_records(api)
    busy = Counter(str(run["deployment_id"]) for run in active)
    found = {}
    for row in rows:
        name = f"{flows.get(row['flow_id'], '?')}/{row['name']}"
        held_by = tuple(one.key for one in claims.of(name) if one.kind == "hold")
        limit, in_flight = read_limit(row), busy[str(row["id"])]
        if limit is not None and limit.taken > in_flight and not held_by:
            limit, in_flight = _confirmed(api, str(row["id"]), limit, in_flight)
        found[str(row["id"])] = DeploymentFacts(
            id=str(row["id"]),
            name=name,
            pool=row["work_pool_name"],
            paused=row["paused"],
            schedules=sum(bool(schedule.get("active")) for schedule in row.get("schedules") or ()),
            limit=limit,
            in_flight=in_flight,
            held_by=held_by,
            polled_s=optional_unix_s(row.get("last_polled")),
        )
    return found


def _confirmed(
    api: PrefectApi, deployment_id: str, limit: DeploymentLimit, in_flight: int
) -> tuple[DeploymentLimit, int]:
    """The limit and the runs in flight, counted on the whole server before and after the limit is read again.

    A run that starts or ends between two calls is no leak.
    """
    body = {"flow_runs": {"deployment_id": {"any_": [deployment_id]}, "state": {"type": {"any_": list(_IN_FLIGHT)}}}}
    before = int(api.call("POST", "/flow_runs/count", body))
    row = api.call("GET", path("deployments", deployment_id), absent_ok=True)
    after = int(api.call("POST", "/flow_runs/count", body))
    again = None if row is None else read_limit(row)
    most = max(in_flight, before, after)
    return (limit, most) if again is None else (replace(again, taken=min(again.taken, limit.taken)), most)


def _services_off(api: PrefectApi) -> frozenset[str]:
    """Services that the settings of the server switch off; another process may run them all the same."""
    try:
        settings = api.call("GET", "/admin/settings", absent_ok=True) or {}
    except OrchestratorError:
        return frozenset()
    services = ((settings.get("server") or {}).get("services") or {}) if isinstance(settings, Mapping) else {}
    found = {name for name in _SERVICES if isinstance(services.get(name), Mapping)}
    return frozenset(name for name in found if services[name].get("enabled") is False)
