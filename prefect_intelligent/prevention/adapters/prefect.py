"""`PreventionActions` on Prefect's REST API."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

from prefect_intelligent.domain.instants import iso
from prefect_intelligent.prefect_client.api import PrefectApi, open_api, path
from prefect_intelligent.prefect_client.claims.in_force import claim, mend, release
from prefect_intelligent.prefect_client.claims.records import read_records

RETRY_DELAY_S: Final = 300
"""Pause before each retry of a run with added retries, seconds."""

_REPORTED: Final = re.compile(
    r"\bwas cancelled\b|\bcancelled by worker\b|\bexited with\b|\bfailed to submit\b|\bby the runtime environment\b",
    re.IGNORECASE,
)
"""What workers, and the engine in the flow's own process, write when a process has ended."""
_UNSURE: Final = re.compile(r"\btimed out\b|\bmay still be running\b", re.IGNORECASE)
"""What Prefect writes when nobody has answered."""
_OURS: Final = "cancelled by prefect-intelligent:"
"""How the message of a cancellation of ours begins."""
_ACTIVE: Final = ("PENDING", "RUNNING", "CANCELLING")
_BATCH: Final = 50  # runs per bulk call
_NEXT: Final = 200
"""Runs of a deployment, those that start soonest, that get more retries."""


class PrefectPreventionActions:
    """Implements `PreventionActions`.

    Args:
        roll_back: Deploys the previous version of a deployment, given the version in force; None if this process has no
            access to versions.
    """

    def __init__(self, roll_back: Callable[[str, str | None], bool] | None = None) -> None:
        self._roll_back = roll_back

    def hold(self, key: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments from starting runs; those that do not exist are left out."""
        with open_api() as api:
            return claim(api, key, deployments, "hold", 0)

    def share(self, key: str, deployments: Sequence[str], most: int) -> tuple[str, ...]:
        """Limit the runs of all of them together: each gets a part, anew in every pass; runs beyond find no slot."""
        with open_api() as api:
            return claim(api, key, deployments, "share", max(1, most))

    def resize(self, key: str, deployments: Sequence[str], times: float) -> tuple[str, ...]:
        """Multiply the job variable for memory; a worker reads it when it submits a run."""
        with open_api() as api:
            return claim(api, key, deployments, "resize", times)

    def avoid(self, key: str, deployments: Sequence[str], host: str) -> tuple[str, ...]:
        """Add the host to the job variable `avoid_hosts`, where the pool's base job template has one."""
        with open_api() as api:
            return claim(api, key, deployments, "avoid", host)

    def add_retries(self, key: str, deployments: Sequence[str], retries: int) -> tuple[str, ...]:
        """Set the retry policy of scheduled runs that have none of their own yet; the flow's own retries are added."""
        with open_api() as api:
            known = claim(api, key, deployments, "patience", retries)
            changed = []
            for name in known:
                own_retries = _own_retries(api, name)
                for run in _scheduled(api, name):
                    if (run.get("empirical_policy") or {}).get("retries") is None:
                        policy = {"retries": own_retries + retries, "retry_delay": RETRY_DELAY_S}
                        api.call("PATCH", f"/flow_runs/{run['id']}", {"empirical_policy": policy})
                        changed.append(str(run["id"]))
            return tuple(changed)

    def release(self, key: str) -> tuple[str, ...]:
        """Revert the actions with a key."""
        with open_api() as api:
            freed = release(api, key)
            for name, kind, amount in freed:
                if kind == "patience":
                    own_retries = _own_retries(api, name)
                    for run in _scheduled(api, name):
                        if (run.get("empirical_policy") or {}).get("retries") == own_retries + amount:
                            body = {"empirical_policy": {"retries": None, "retry_delay": None}}
                            api.call("PATCH", f"/flow_runs/{run['id']}", body)
            return tuple(name for name, _, _ in freed)

    def postpone(self, runs: Sequence[str], until_s: float) -> tuple[str, ...]:
        """Reschedule runs, filtered by SCHEDULED: a claimed run that is rescheduled would run twice."""
        moved: list[str] = []
        at = iso(until_s)
        with open_api() as api:
            for first in range(0, len(runs), _BATCH):
                some = list(runs[first : first + _BATCH])
                wanted = {"operator": "and_", "id": {"any_": some}, "state": {"type": {"any_": ["SCHEDULED"]}}}
                state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": at}}
                api.call("POST", "/flow_runs/bulk_set_state", {"flow_runs": wanted, "state": state})
                later = {**wanted, "next_scheduled_start_time": {"after_": at}}
                found = api.call("POST", "/flow_runs/filter", {"flow_runs": later, "limit": _BATCH})
                moved += [str(run["id"]) for run in found]
        return tuple(moved)

    def cancel(self, runs: Sequence[str], why: str) -> tuple[str, ...]:
        """Cancel runs, filtered by SCHEDULED: one that a worker has claimed meanwhile runs."""
        state = {"type": "CANCELLED", "message": f"{_OURS} {why}"}
        done: list[str] = []
        with open_api() as api:
            for first in range(0, len(runs), _BATCH):
                some = list(runs[first : first + _BATCH])
                wanted = {"operator": "and_", "id": {"any_": some}, "state": {"type": {"any_": ["SCHEDULED"]}}}
                api.call("POST", "/flow_runs/bulk_set_state", {"flow_runs": wanted, "state": state})
                done += [str(run["id"]) for run in _cancelled(api, some)]
        return tuple(done)

    def bring_back(self, runs: Sequence[str]) -> tuple[str, ...]:
        """Schedule cancelled runs for when they were expected; what others have cancelled stays so."""
        done: list[str] = []
        with open_api() as api:
            for first in range(0, len(runs), _BATCH):
                for run in _cancelled(api, list(runs[first : first + _BATCH])):
                    details = {"scheduled_time": run["expected_start_time"]}
                    state = {"type": "SCHEDULED", "name": "Late", "state_details": details}
                    route = path("flow_runs", run["id"], "set_state")
                    if api.call("POST", route, {"state": state, "force": True}, absent_ok=True) is not None:
                        done.append(str(run["id"]))
        return tuple(done)

    def stop(self, run: str, why: str) -> bool:
        """Set a run that occupies a slot to CANCELLING, whereupon its worker kills the process.

        It is never set to CRASHED: its process may be alive, and people let runs start again when they crash.
        """
        with open_api() as api:
            found = api.call("GET", f"/flow_runs/{run}", absent_ok=True)
            if found is None or found["state_type"] not in _ACTIVE:
                return False
            state = {"type": "CANCELLING", "message": f"stopped by prefect-intelligent: {why}"}
            answer = api.call("POST", f"/flow_runs/{run}/set_state", {"state": state})
            return bool(answer["status"] == "ACCEPT")

    def finish_stop(self, run: str, *, again: bool) -> bool:
        """Look at the state that the worker, or the flow's own process, has reported since."""
        with open_api() as api:
            found = api.call("GET", path("flow_runs", run), absent_ok=True)
            if found is None:
                return True
            kind, message = found["state_type"], str((found["state"] or {}).get("message") or "")
            if kind in ("COMPLETED", "FAILED"):
                return True
            if kind not in ("CANCELLED", "CRASHED") or not _REPORTED.search(message) or _UNSURE.search(message):
                return False
            if again and found.get("deployment_id") is not None:
                body = {
                    "parameters": found.get("parameters") or {},
                    "job_variables": found.get("job_variables") or {},
                    "tags": found.get("tags") or [],
                    "idempotency_key": f"again {run}",
                    **({"work_queue_name": found["work_queue_name"]} if found.get("work_queue_name") else {}),
                }
                api.call("POST", f"/deployments/{found['deployment_id']}/create_flow_run", body, absent_ok=True)
            return True

    def roll_back(self, deployment: str, version: str | None) -> bool:
        """Deploy the previous version, where versions are stored."""
        return self._roll_back is not None and self._roll_back(deployment, version)

    def in_force(self) -> tuple[str, ...]:
        """Return the keys of all actions in force."""
        with open_api() as api:
            return tuple(sorted({one.key for one, _ in read_records(api).claims}))

    def mend(self) -> tuple[str, ...]:
        """Put actions in force again that a deploy has ended; returns what was found, in sentences."""
        with open_api() as api:
            return mend(api)


def _cancelled(api: PrefectApi, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return those of the runs that `cancel` has cancelled."""
    body = {"flow_runs": {"id": {"any_": list(runs)}, "state": {"type": {"any_": ["CANCELLED"]}}}}
    found = [run for page in api.pages("/flow_runs/filter", body) for run in page]
    return [run for run in found if str((run["state"] or {}).get("message") or "").startswith(_OURS)]


def _scheduled(api: PrefectApi, name: str) -> list[dict[str, Any]]:
    """Return the next runs of a deployment that no worker has claimed, at most 200."""
    flow, _, short = name.partition("/")
    body = {
        "flows": {"name": {"any_": [flow]}},
        "deployments": {"name": {"any_": [short]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
    }
    return list(islice((run for page in api.pages("/flow_runs/filter", body) for run in page), _NEXT))


def _own_retries(api: PrefectApi, name: str) -> int:
    """Return the retries that the flow itself sets, from its last ended run; 0 if unknown."""
    flow, _, short = name.partition("/")
    body = {
        "flows": {"name": {"any_": [flow]}},
        "deployments": {"name": {"any_": [short]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}},
        "sort": "END_TIME_DESC",
    }
    for run in api.page("/flow_runs/filter", body, most=20)[0]:
        own_retries = (run.get("empirical_policy") or {}).get("retries")
        if own_retries is not None and (run.get("empirical_policy") or {}).get("retry_delay") != RETRY_DELAY_S:
            return int(own_retries)
    return 0
