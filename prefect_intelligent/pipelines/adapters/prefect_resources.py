"""`PipelineServer` on Prefect's REST API: deployments, automations of this product, epochs, tokens, and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from prefect_intelligent.domain.instants import iso, optional_unix_s
from prefect_intelligent.errors import ConflictError, UnknownNameError
from prefect_intelligent.pipelines.adapters.dataset_events import epochs_variable
from prefect_intelligent.pipelines.resource_changes import AUTOMATION, DEPLOYMENT, EPOCHS, TOKENS
from prefect_intelligent.pipelines.runs import VERSION_LABEL, PipelineRun, RunState
from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.claims.in_force import all_as_owners_set, as_owner_set, put_in_force
from prefect_intelligent.prefect_client.run_times import submitted_s

TAG: Final = "prefect-intelligent-graph"
"""Tag of the automations and variables of this product."""

_COPIED_FIELDS: Final = (
    "version",
    "description",
    "paused",
    "tags",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "job_variables",
    "path",
    "entrypoint",
    "pull_steps",
    "work_pool_name",
    "work_queue_name",
    "concurrency_options",
)
"""Fields of a deployment that are read and written unchanged."""

_LATEST: Final = 200
"""Largest number of runs of a deployment that are listed."""


class PrefectPipelineServer:
    """Implements `PipelineServer`.

    Args:
        api: The server.
    """

    def __init__(self, api: PrefectApi) -> None:
        self.api = api
        self._ids: dict[str, str] = {}  # by deployment name
        self._names: dict[str, str] = {}  # by deployment id

    # Resources

    def read(self, resource: str) -> Mapping[str, Any] | None:
        """Return the content of a resource; None if it does not exist."""
        kind, name = _split(resource)
        if kind == DEPLOYMENT:
            stored = self._find_deployment(name)
            return None if stored is None else _deployment_content(as_owner_set(self.api, stored))
        if kind == EPOCHS:
            found = self.api.call("GET", f"/variables/name/{epochs_variable(self.deployment_id(name))}", absent_ok=True)
            return None if found is None else found["value"]
        if kind == TOKENS:
            found = self.api.call("GET", path("v2", "concurrency_limits", name), absent_ok=True)
            return None if found is None else {"allowed": found["limit"]}
        stored = self._find_automation(name)
        return None if stored is None else self._automation_content(stored)

    def read_all(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """Return all resources with a prefix."""
        if prefix == DEPLOYMENT:
            return {DEPLOYMENT + name: _deployment_content(stored) for name, stored in self.deployments().items()}
        if not self._names:
            self.deployments()
        if prefix == AUTOMATION:
            owned = (a for page in self.api.pages("/automations/filter", {}) for a in page if TAG in a["tags"])
            return {AUTOMATION + a["name"]: self._automation_content(a) for a in owned}
        by_variable = {epochs_variable(found): name for name, found in self._ids.items()}
        found = {}
        for page in self.api.pages("/variables/filter", {"variables": {"tags": {"all_": [TAG]}}}):
            for variable in page:
                if variable["name"] in by_variable:
                    found[EPOCHS + by_variable[variable["name"]]] = variable["value"]
        return found

    def write(self, resource: str, value: Mapping[str, Any] | None) -> None:
        """Set the content of a resource, or remove it if `value` is None."""
        kind, name = _split(resource)
        writers = {
            DEPLOYMENT: self._write_deployment,
            AUTOMATION: self._write_automation,
            EPOCHS: self._write_epochs,
            TOKENS: self._write_tokens,
        }
        writers[kind](name, value)

    # Deployments

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Return all deployments as the API gives them, by "flow/deployment", with what their owners have set."""
        flows = {flow["id"]: flow["name"] for page in self.api.pages("/flows/filter", {}) for flow in page}
        found = {}
        for page in self.api.pages("/deployments/filter", {}):
            for stored in all_as_owners_set(self.api, page):
                if stored["flow_id"] not in flows:  # created since the flows were read
                    flows[stored["flow_id"]] = self.api.call("GET", f"/flows/{stored['flow_id']}")["name"]
                found[f"{flows[stored['flow_id']]}/{stored['name']}"] = stored
        self._ids = {name: stored["id"] for name, stored in found.items()}
        self._names = {found_id: name for name, found_id in self._ids.items()}
        return dict(sorted(found.items()))

    def deployment_id(self, name: str) -> str:
        """Return Prefect's id of "flow/deployment".

        Raises:
            UnknownNameError: There is no such deployment.
        """
        if name not in self._ids and self._find_deployment(name) is None:
            self.deployments()
            raise UnknownNameError("deployment", name, self._ids)
        return self._ids[name]

    def deployment_name(self, found_id: str) -> str:
        """Return the name of a deployment, "flow/deployment"; its id if it was deleted."""
        if found_id not in self._names:
            stored = self.api.call("GET", f"/deployments/{found_id}", absent_ok=True)
            if stored is None:
                return found_id
            flow = self.api.call("GET", f"/flows/{stored['flow_id']}")["name"]
            self._remember(f"{flow}/{stored['name']}", found_id)
        return self._names[found_id]

    def _remember(self, name: str, found_id: str) -> None:
        self._ids[name] = found_id
        self._names[found_id] = name

    def _find_deployment(self, name: str) -> dict[str, Any] | None:
        flow, _, short = name.partition("/")
        body = {"deployments": {"name": {"any_": [short]}}, "flows": {"name": {"any_": [flow]}}}
        for stored in self.api.call("POST", "/deployments/filter", body):
            self._remember(name, stored["id"])
            return dict(stored)
        return None

    def _write_deployment(self, name: str, value: Mapping[str, Any] | None) -> None:
        stored = self._find_deployment(name)
        if value is None:
            if stored is not None:
                self.api.call("DELETE", f"/deployments/{stored['id']}", absent_ok=True)
                self._ids.pop(name, None)
            return
        if stored is None:
            flow, _, short = name.partition("/")
            flow_id = self.api.call("POST", "/flows/", {"name": flow})["id"]
            body = {key: value.get(key) for key in _COPIED_FIELDS if value.get(key) is not None}
            limit = {} if value.get("concurrency_limit") is None else {"concurrency_limit": value["concurrency_limit"]}
            made = self.api.call(
                "POST",
                "/deployments/",
                body | limit | {"name": short, "flow_id": flow_id, "schedules": list(value.get("schedules", ()))},
            )
            self._remember(name, made["id"])
            return
        now = _deployment_content(as_owner_set(self.api, stored))
        body = {key: value.get(key) for key in (*_COPIED_FIELDS, "concurrency_limit") if value.get(key) != now.get(key)}
        if {"work_pool_name", "work_queue_name"} & set(body):  # without the pool, Prefect takes its default agent pool
            body |= {key: value.get(key) for key in ("work_pool_name", "work_queue_name")}
        if body:
            self.api.call("PATCH", f"/deployments/{stored['id']}", body)
        if list(value.get("schedules", ())) != now["schedules"]:
            for schedule in stored["schedules"]:
                self.api.call("DELETE", f"/deployments/{stored['id']}/schedules/{schedule['id']}", absent_ok=True)
            if value.get("schedules"):
                self.api.call("POST", f"/deployments/{stored['id']}/schedules", list(value["schedules"]))
        if body:
            put_in_force(self.api, [name])  # a hold or another claim, which the change may have ended

    # Automations and epochs

    def _find_automation(self, name: str) -> dict[str, Any] | None:
        found = self.api.call("POST", "/automations/filter", {"automations": {"name": {"any_": [name]}}})
        return next((dict(stored) for stored in found if TAG in stored["tags"]), None)

    def _automation_content(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return an automation without ids and with names of deployments, as `pipelines.automations` makes it."""
        actions = []
        for action in stored["actions"]:
            named = {key: value for key, value in action.items() if key != "deployment_id"}
            if action.get("deployment_id") is not None:
                named["deployment"] = self.deployment_name(action["deployment_id"])
            actions.append(named)
        trigger = _without_ids(stored["trigger"])
        return {
            "description": stored["description"],
            "enabled": stored["enabled"],
            "trigger": trigger,
            "actions": actions,
        }

    def _write_automation(self, name: str, value: Mapping[str, Any] | None) -> None:
        stored = self._find_automation(name)
        if value is None:
            if stored is not None:
                self.api.call("DELETE", f"/automations/{stored['id']}", absent_ok=True)
            return
        actions = []
        for action in value["actions"]:
            unnamed = {key: item for key, item in action.items() if key != "deployment"}
            actions.append(unnamed | {"deployment_id": self.deployment_id(action["deployment"])})
        body = {**value, "name": name, "tags": [TAG], "actions": actions}
        if stored is None:
            self.api.call("POST", "/automations/", body)
        elif self._automation_content(stored) != value:
            self.api.call("PUT", f"/automations/{stored['id']}", body)

    def _write_epochs(self, name: str, value: Mapping[str, Any] | None) -> None:
        if value is None and self._find_deployment(name) is None:
            return
        variable = epochs_variable(self.deployment_id(name))
        stored = self.api.call("GET", f"/variables/name/{variable}", absent_ok=True)
        if value is None:
            if stored is not None:
                self.api.call("DELETE", f"/variables/name/{variable}", absent_ok=True)
        elif stored is None:
            self.api.call("POST", "/variables/", {"name": variable, "value": dict(value), "tags": [TAG]})
        elif stored["value"] != value:
            self.api.call("PATCH", f"/variables/name/{variable}", {"value": dict(value), "tags": [TAG]})

    def _write_tokens(self, name: str, value: Mapping[str, Any] | None) -> None:
        """Write a concurrency limit whose slots are never released: each slot that a run takes is a token spent."""
        route = path("v2", "concurrency_limits", name)
        if value is None:
            self.api.call("DELETE", route, absent_ok=True)
        elif self.api.call("GET", route, absent_ok=True) is None:
            body = {"name": name, "limit": value["allowed"], "active_slots": 0, "slot_decay_per_second": 0.0}
            self.api.call("POST", "/v2/concurrency_limits/", body)
        else:
            self.api.call("PATCH", route, {"limit": value["allowed"]})

    # Runs

    def runs(
        self, deployment: str, *, phase: RunState | None = None, since_s: float | None = None
    ) -> list[PipelineRun]:
        """Return the latest 200 runs of a deployment in a state type (None is any), oldest first."""
        wanted: dict[str, Any] = {}
        if phase is not None:
            wanted["state"] = {"type": {"any_": [phase]}}
        if since_s is not None:
            wanted["expected_start_time"] = {"after_": iso(since_s)}
        body = {
            "deployments": {"id": {"any_": [self.deployment_id(deployment)]}},
            "flow_runs": wanted,
            "sort": "EXPECTED_START_TIME_DESC",
        }
        latest = (stored for page in self.api.pages("/flow_runs/filter", body) for stored in page)
        return [_run(stored, deployment) for stored in islice(latest, _LATEST)][::-1]

    def start_run(
        self, deployment: str, parameters: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Start a run now and return its id; `key` is an idempotency key."""
        body: dict[str, Any] = {"parameters": dict(parameters), "idempotency_key": key}
        if env:
            body["job_variables"] = {"env": dict(env)}
        route = f"/deployments/{self.deployment_id(deployment)}/create_flow_run"
        return str(self.api.call("POST", route, body)["id"])

    def cancel_run(self, run_id: str) -> None:
        """Request the cancellation of a run."""
        stored = self.api.call("GET", f"/flow_runs/{run_id}")
        name = "CANCELLED" if stored["state_type"] == "SCHEDULED" else "CANCELLING"
        if stored["state_type"] in ("SCHEDULED", "PENDING", "RUNNING", "PAUSED"):
            self._set_state(run_id, {"type": name}, force=False)

    def retry_run(self, run_id: str) -> None:
        """Run an ended run again under the same id."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": _now()}}
        self._set_state(run_id, state, force=False)

    def pin_run(self, run_id: str, env: Mapping[str, str]) -> bool:
        """Add environment variables to a run that no worker has claimed; False if one has."""
        stored = self.api.call("GET", f"/flow_runs/{run_id}")
        if stored["state_type"] != "SCHEDULED":
            return False
        variables = dict(stored["job_variables"] or {})
        variables["env"] = {**(variables.get("env") or {}), **env}
        try:
            self.api.call("PATCH", f"/flow_runs/{run_id}", {"job_variables": variables})
        except ConflictError:  # claimed between the two calls
            return False
        return True

    def _set_state(self, run_id: str, state: Mapping[str, Any], *, force: bool) -> None:
        self.api.call("POST", f"/flow_runs/{run_id}/set_state", {"state": dict(state), "force": force})


def _split(resource: str) -> tuple[str, str]:
    for prefix in (DEPLOYMENT, AUTOMATION, EPOCHS, TOKENS):
        if resource.startswith(prefix):
            return prefix, resource.removeprefix(prefix)
    raise UnknownNameError("resource", resource, (DEPLOYMENT, AUTOMATION, EPOCHS, TOKENS))


def _deployment_content(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a deployment that are read and written."""
    limit = stored.get("global_concurrency_limit")
    return {
        **{key: stored.get(key) for key in _COPIED_FIELDS},
        "concurrency_limit": None if limit is None else limit["limit"],
        "schedules": [
            {key: schedule.get(key) for key in ("schedule", "active", "max_scheduled_runs", "parameters", "slug")}
            for schedule in sort_schedules(stored["schedules"])
        ],
    }


def sort_schedules(schedules: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the schedules of a deployment in a stable order: fixes refer to a schedule by its index."""
    return sorted(schedules, key=_schedule_key)


def _schedule_key(schedule: Mapping[str, Any]) -> str:
    return json.dumps([schedule["slug"], schedule["schedule"]], sort_keys=True)


def _without_ids(trigger: Mapping[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in trigger.items() if key != "id"}
    if "triggers" in content:
        content["triggers"] = [_without_ids(child) for child in content["triggers"]]
    return content


def _run(stored: Mapping[str, Any], deployment: str) -> PipelineRun:
    env = (stored.get("job_variables") or {}).get("env") or {}
    return PipelineRun(
        id=stored["id"],
        deployment=deployment,
        state=stored["state_type"],
        scheduled_s=submitted_s(stored),
        started_s=optional_unix_s(stored["start_time"]),
        ended_s=optional_unix_s(stored["end_time"]),
        parameters=stored["parameters"] or {},
        env={str(key): str(value) for key, value in env.items()},
        version=(stored.get("labels") or {}).get(VERSION_LABEL),
        auto_scheduled=bool(stored.get("auto_scheduled")),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
