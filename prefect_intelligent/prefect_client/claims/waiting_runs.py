"""Waiting runs of held deployments are set aside, so that what is held does not stand in the way of what is not.

A worker polls the first runs of its queues, as many as slots are free, and Prefect refuses those of a deployment that
is held: a few hundred of them and nothing else of the pool would start. They are scheduled for later instead, as
Prefect itself does with a run that finds no slot, and brought back when the hold ends. When they were first expected,
from which lateness counts, stays. Only runs that no worker can have claimed are moved: the hold stands already.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.prefect_client.api import PrefectApi

ASIDE_S: Final = 900.0
"""For how long they are set aside; a pass before that renews it."""
WAITS: Final = "AwaitingConcurrencySlot"
"""Prefect's name of the state: a deploy spares runs that are in it."""

_SOON_S: Final = 60.0
_BATCH: Final = 50
_MOVABLE: Final = ("Scheduled", "Late", WAITS)  # a retry in its process waits for an instant that it knows


def set_aside(api: PrefectApi, deployment_id: str, *, most: int = 200) -> int:
    """Move the due runs of a held deployment out of the way, at most so many in one call; returns how many."""
    now_s, moved = time.time(), 0
    state = {
        "type": "SCHEDULED",
        "name": WAITS,
        "message": "held by prefect-intelligent",
        "state_details": {"scheduled_time": iso(now_s + ASIDE_S)},
    }
    wanted = {
        "operator": "and_",
        "deployment_id": {"any_": [deployment_id]},
        "state": {"type": {"any_": ["SCHEDULED"]}, "name": {"any_": list(_MOVABLE)}},
        "next_scheduled_start_time": {"before_": iso(now_s + _SOON_S)},
    }
    while moved < most:
        answer = api.call("POST", "/flow_runs/bulk_set_state", {"flow_runs": wanted, "state": state, "limit": _BATCH})
        done = sum(result["status"] == "ACCEPT" for result in answer["results"])
        moved += done
        if done < _BATCH:
            break
    return moved


def bring_back(api: PrefectApi, deployment_id: str) -> int:
    """Let the runs that were set aside be served in the order in which they were expected; returns how many."""
    wanted = {
        "deployment_id": {"any_": [deployment_id]},
        "state": {"type": {"any_": ["SCHEDULED"]}, "name": {"any_": [WAITS]}},
    }
    aside: list[Mapping[str, Any]] = []
    for page in api.pages("/flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC"}):
        aside += page
    now_s, moved = time.time(), 0
    for run in aside:
        expected, planned = run["expected_start_time"], run["next_scheduled_start_time"]
        if not expected or not planned or unix_s(planned) <= now_s or unix_s(expected) > now_s + ASIDE_S:
            continue
        state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": expected}}
        answer = api.call("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": False})
        moved += answer["status"] == "ACCEPT"
    return moved
