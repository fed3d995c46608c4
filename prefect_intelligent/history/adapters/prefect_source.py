"""What a Prefect server remembers, as facts: implements `RunSource` on the REST API."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from prefect_intelligent.domain import Terms
from prefect_intelligent.domain.instants import iso, optional_unix_s, unix_s
from prefect_intelligent.history.failure_signature import signature
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.history.rows import (
    ENDED_STATES,
    LIVE_STATES,
    RUN_STATES,
    DeploymentFact,
    EventFact,
    QueueFact,
    RunFact,
    StateFact,
    TaskRunFact,
)
from prefect_intelligent.history.run_parameters import bounded, pack
from prefect_intelligent.history.runs_frame import FAILED_STATES
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi
from prefect_intelligent.prefect_client.queues import read_queues
from prefect_intelligent.prefect_client.run_times import submitted_s
from prefect_intelligent.prefect_client.terms import PublishedTerms, read_terms

_EVENTS_PAGE: Final = 50  # Prefect's own maximum
_RUN_EVENT: Final = "prefect.flow-run."
_TOLD_BY_LABELS: Final = ("prefect.worker.submitted-flow-run", "prefect.concurrency-limit.acquired")
"""Events whose payload is empty, and that tell by their labels who has taken what; see `_labels`."""
_MESSAGE: Final = 4000
_LOGS_OF: Final = 50
_ERROR: Final = 40
_DAY_S: Final = 86400.0


class PrefectHistory:
    """One server, all its pools.

    Names of flows, deployments and the terms agreed for them are read when it is first asked and with `deployments`.

    Args:
        api: The server.
        tracebacks: Whether the logs of failed runs are read for the place of the failure (one call per 50 of them).
    """

    def __init__(self, api: PrefectApi, *, tracebacks: bool = True) -> None:
        self._api, self._tracebacks = api, tracebacks
        self._flows: dict[str, str] = {}
        self._deployments: dict[str, tuple[str, Terms | None]] = {}

    def now_s(self) -> float:
        """The present on the server's clock."""
        return self._api.now_s()

    def first_s(self) -> float | None:
        """A day before the first expected start; None if there is no run at all."""
        body = {"sort": "EXPECTED_START_TIME_ASC", "limit": 1}
        first = self._api.call("POST", "/flow_runs/filter", body)
        if not first:
            return None
        return unix_s(first[0]["expected_start_time"] or first[0]["created"]) - _DAY_S

    def ended_count(self, since_s: float, until_s: float) -> int:
        """How many flow runs ended in the span."""
        return int(self._api.call("POST", "/flow_runs/count", _ended(since_s, until_s)))

    def ended_runs(self, since_s: float, until_s: float) -> Iterator[list[RunFact]]:
        """Those flow runs, page by page; their end times lie in the past, so the pages do not shift."""
        for page in self._api.pages("/flow_runs/filter", {**_ended(since_s, until_s), "sort": "ID_DESC"}):
            yield self._runs(page)

    def live_runs(self) -> Iterator[list[RunFact]]:
        """Flow runs that hold a slot, are paused or are due."""
        states = {"state": {"type": {"any_": list(LIVE_STATES)}}}
        late = {"state": {"name": {"any_": ["Late", "AwaitingRetry", "AwaitingConcurrencySlot"]}}}
        for runs in (states, late):
            for page in self._api.pages("/flow_runs/filter", {"flow_runs": runs, "sort": "ID_DESC"}):
                yield self._runs(page)

    def task_runs(self, run_ids: Sequence[str]) -> Iterator[list[TaskRunFact]]:
        """Task runs of these flow runs."""
        for start in range(0, len(run_ids), PAGE):
            wanted = {"task_runs": {"flow_run_id": {"any_": list(run_ids[start : start + PAGE])}}, "sort": "ID_DESC"}
            for page in self._api.pages("/task_runs/filter", wanted):
                yield read_each("task run of Prefect", page, _task_run)

    def events(self, since_s: float, until_s: float) -> Iterator[tuple[list[EventFact], list[StateFact]]]:
        """Events of the span and the changes of state they tell of."""
        wanted = {"occurred": {"since": iso(since_s), "until": iso(until_s)}, "order": "ASC"}
        answer = self._api.call("POST", "/events/filter", {"filter": wanted, "limit": _EVENTS_PAGE})
        while True:
            events = answer["events"]
            states = read_each("state of Prefect", events, _state)
            yield read_each("event of Prefect", events, _event), [state for state in states if state is not None]
            following = answer.get("next_page")
            if not following:
                return
            answer = self._api.call("GET", "/events/filter/next?" + str(following).split("?", 1)[1])

    def deployments(self) -> list[DeploymentFact]:
        """All deployments."""
        return [fact for fact, _ in self._read_deployments()]

    def queues(self) -> list[QueueFact]:
        """Settings of all pools and queues as they are now."""
        found: list[QueueFact] = []
        for page in self._api.pages("/work_pools/filter", {}):
            for pool in page:
                found.append(_setting(pool["name"], "", pool))
                queues = read_queues(self._api, pool)
                found.extend(_setting(pool["name"], queue["name"], queue) for queue in queues)
        return found

    def _read_deployments(self) -> list[tuple[DeploymentFact, Terms | None]]:
        agreed: PublishedTerms = read_terms(self._api)
        self._flows = {row["id"]: row["name"] for page in self._api.pages("/flows/filter", {}) for row in page}
        found = []
        for page in self._api.pages("/deployments/filter", {}):
            for row in page:
                flow = self._flows.get(row["flow_id"], "?")
                terms = agreed.of(flow, row["name"])
                read = partial(_deployment, flow=flow, terms=terms)
                found += [(fact, terms) for fact in read_each("deployment of Prefect", [row], read)]
        self._deployments = {fact.deployment_id: (fact.name, terms) for fact, terms in found}
        return found

    def _runs(self, page: Sequence[Mapping[str, Any]]) -> list[RunFact]:
        unknown = any(row["flow_id"] not in self._flows for row in page)
        if unknown or any((key := row["deployment_id"]) and key not in self._deployments for row in page):
            self._read_deployments()
        failed = [row["id"] for row in page if row["state_type"] in FAILED_STATES]
        texts = self._texts(failed) if self._tracebacks else {}
        return read_each("flow run of Prefect", page, lambda row: self._run(row, texts.get(row["id"])))

    def _texts(self, run_ids: Sequence[str]) -> dict[str, str]:
        """The last logged traceback of each failed run."""
        found: dict[str, str] = {}
        for start in range(0, len(run_ids), _LOGS_OF):
            part = list(run_ids[start : start + _LOGS_OF])
            body = {
                "logs": {"flow_run_id": {"any_": part}, "level": {"ge_": _ERROR}},
                "sort": "TIMESTAMP_DESC",
            }
            for row in self._api.page("/logs/filter", body)[0]:
                if "Traceback" in row["message"]:
                    found.setdefault(row["flow_run_id"], row["message"])
        return found

    def _run(self, row: Mapping[str, Any], text: str | None) -> RunFact:
        name, terms = self._deployments.get(row["deployment_id"] or "", (None, None))
        scheduled_s = unix_s(row["expected_start_time"]) if row["expected_start_time"] else None
        began_s, started_s, ended_s = _instants(row, self._api.now_s())
        state = row["state_type"] if row["state_type"] in RUN_STATES else "SCHEDULED"
        failed = state in FAILED_STATES
        message = ((row.get("state") or {}).get("message") or "") if failed else ""
        return RunFact(
            run_id=row["id"],
            name=row["name"],
            pool=row["work_pool_name"],
            queue=row["work_queue_name"],
            deployment=name or self._flows.get(row["flow_id"], "?"),
            version=row.get("deployment_version") or row.get("flow_version"),
            host=_host(row.get("infrastructure_pid")),
            state=state,
            cause=signature(text or message) if failed else None,
            scheduled_s=scheduled_s,
            submitted_s=began_s,
            started_s=started_s,
            ended_s=ended_s if state in ENDED_STATES else None,
            due_s=terms.deadline.due_s(began_s) if terms and terms.deadline and scheduled_s is not None else None,
            size=size_of(row.get("parameters") or {}),
            expected_s=terms.expected_s if terms else None,
            attempts=row.get("run_count"),
            late_usd_per_hour=terms.late_usd_per_hour if terms else None,
            failure_usd=terms.failure_usd if terms else None,
            message=(text or message)[-_MESSAGE:] or None,
            parameters=pack(bounded(row.get("parameters") or {}, began_s)),
        )


def _instants(row: Mapping[str, Any], now_s: float) -> tuple[float, float | None, float | None]:
    """When a run was submitted, started and ended, as far as that can be.

    It starts at its creation or later and ends now or sooner, and by the time it started it was submitted.
    """
    created_s = min(unix_s(row["created"]), now_s)
    started_s, ended_s = (optional_unix_s(row[name]) for name in ("start_time", "end_time"))
    if started_s is None:
        return submitted_s(row), None, None if ended_s is None else min(max(ended_s, created_s), now_s)
    started_s = min(max(started_s, created_s), now_s)
    ended_s = None if ended_s is None else min(max(ended_s, started_s), now_s)
    return min(submitted_s(row), started_s), started_s, ended_s


def size_of(parameters: Mapping[str, Any]) -> float | None:
    """What tells a big run from a small one: the largest number, or length of a list, among its parameters.

    Numbers that tell nothing of a size (beyond what a float holds) are passed over.
    """
    found = [v for v in parameters.values() if isinstance(v, int | float) and not isinstance(v, bool)]
    found += [len(v) for v in parameters.values() if isinstance(v, list)]
    return max((float(v) for v in found if abs(v) <= sys.float_info.max), default=None)


def _host(infrastructure: str | None) -> str | None:
    """Machine or job of "host:pid"."""
    return infrastructure.rsplit(":", 1)[0] if infrastructure and ":" in infrastructure else None


def _ended(since_s: float, until_s: float) -> dict[str, Any]:
    # Prefect's bounds are both inclusive; a run on the border is read twice and kept once.
    span = {"after_": iso(since_s), "before_": iso(until_s)}
    return {"flow_runs": {"end_time": span, "state": {"type": {"any_": list(ENDED_STATES)}}}}


def _task_run(row: Mapping[str, Any]) -> TaskRunFact:
    return TaskRunFact(
        task_run_id=row["id"],
        run_id=row["flow_run_id"],
        name=row["name"],
        state=row["state_type"] or "SCHEDULED",
        started_s=unix_s(row["start_time"]) if row["start_time"] else None,
        ended_s=unix_s(row["end_time"]) if row["end_time"] else None,
        attempts=row.get("run_count"),
    )


def _event(row: Mapping[str, Any]) -> EventFact:
    return EventFact(
        event_id=row["id"],
        at_s=unix_s(row["occurred"]),
        event=row["event"],
        resource=row["resource"].get("prefect.resource.id", ""),
        payload=json.dumps(_labels(row) or row.get("payload") or {}, separators=(",", ":")),
    )


def _labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """Name of the worker or limit, the flow run, and for a limit the slots taken and its number; empty for others."""
    if row["event"] not in _TOLD_BY_LABELS:
        return {}
    resource = row["resource"]
    related = row.get("related") or ()
    runs = [each["prefect.resource.id"] for each in related if each.get("prefect.resource.role") == "flow-run"]
    found = {
        "name": resource.get("prefect.resource.name"),
        "run_id": runs[0].rsplit(".", 1)[-1] if runs else None,
        "slots": resource.get("slots-acquired"),
        "limit": resource.get("limit"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _state(row: Mapping[str, Any]) -> StateFact | None:
    """The change of state that an event tells of; None for other events."""
    if not row["event"].startswith(_RUN_EVENT):
        return None
    run_id = row["resource"].get("prefect.resource.id", "").rsplit(".", 1)[-1]
    state = (row.get("payload") or {}).get("validated_state") or {}
    kind = row["resource"].get("prefect.state-type") or state.get("type")
    if not kind:
        return None
    return StateFact(run_id, unix_s(row["occurred"]), kind, row["event"].removeprefix(_RUN_EVENT))


def _deployment(row: Mapping[str, Any], flow: str, terms: Terms | None) -> DeploymentFact:
    limit, options = row.get("global_concurrency_limit") or {}, row.get("concurrency_options") or {}
    details = {
        "schedules": [s.get("schedule") for s in row.get("schedules") or [] if s.get("active", True)],
        "job_variables": row.get("job_variables") or {},
        "concurrency_limit": limit.get("limit"),
        "limit_name": limit.get("name"),
        "collision_strategy": options.get("collision_strategy"),
        "tags": row.get("tags") or [],
        "terms": terms.to_dict() if terms else None,
    }
    return DeploymentFact(
        deployment_id=row["id"],
        name=f"{flow}/{row['name']}",
        pool=row.get("work_pool_name"),
        queue=row.get("work_queue_name"),
        version=row.get("version"),
        paused=bool(row.get("paused")),
        updated_s=unix_s(row["updated"]),
        details=json.dumps(details, separators=(",", ":"), default=str),
    )


def _setting(pool: str, queue: str, row: Mapping[str, Any]) -> QueueFact:
    return QueueFact(
        pool=pool,
        queue=queue,
        at_s=unix_s(row["updated"]),
        priority=row.get("priority"),
        limit=row.get("concurrency_limit"),
        paused=bool(row.get("is_paused")),
    )
