"""Last heartbeats of flow runs, from Prefect's events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.prefect_client.api import PrefectApi

EVENT: Final = "prefect.flow-run.heartbeat"
_RESOURCE: Final = "prefect.flow-run."
_RECENT_S: Final = 120.0
_BACK_S: Final = 86400.0
_ONE_BY_ONE: Final = 20
_PAGE: Final = 50


def last_heartbeats(api: PrefectApi, runs: Sequence[str]) -> dict[str, float]:
    """Run id to the instant of its last heartbeat, Unix seconds, of the runs that sent one within a day.

    Runs with a heartbeat within two minutes take one call for every fifty events. Of the others at most twenty are
    asked for one by one; the rest is left out.

    Raises:
        OrchestratorUnavailableError: Prefect does not answer.
    """
    found: dict[str, float] = {}
    if not runs:
        return found
    wanted, now_s = set(runs), time.time()
    for event in _events(api, [_RESOURCE + run for run in runs], now_s - _RECENT_S, len(runs) * 6):
        run = str(event["resource"]["prefect.resource.id"]).removeprefix(_RESOURCE)
        if run in wanted:
            found[run] = max(found.get(run, 0.0), unix_s(str(event["occurred"])))
    for run in [run for run in runs if run not in found][:_ONE_BY_ONE]:
        for event in _events(api, [_RESOURCE + run], now_s - _BACK_S, 1):
            found[run] = unix_s(str(event["occurred"]))
    return found


def _events(api: PrefectApi, resources: Sequence[str], since_s: float, most: int) -> list[dict[str, dict[str, str]]]:
    """Heartbeats of the resources, latest first."""
    wanted = {
        "event": {"name": [EVENT]},
        "occurred": {"since": iso(since_s), "until": iso(time.time() + 60.0)},
        "resource": {"id": list(resources)},
        "order": "DESC",
    }
    page = api.call("POST", "/events/filter", {"filter": wanted, "limit": min(most, _PAGE)})
    events: list[dict[str, dict[str, str]]] = list(page["events"])
    while page.get("next_page") and len(events) < most:
        page = api.call("GET", "/events/filter/next?" + str(page["next_page"]).partition("?")[2])
        events += page["events"]
    return events
