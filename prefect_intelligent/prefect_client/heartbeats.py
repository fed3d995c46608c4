"""Heartbeats of flow runs, from Prefect's events."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.prefect_client.api import PrefectApi

EVENT: Final = "prefect.flow-run.heartbeat"
_RESOURCE: Final = "prefect.flow-run."
_RECENT_S: Final = 120.0
_BACK_S: Final = 86400.0
_WANTED: Final = 6
"""Heartbeats of a quiet run from which the usual pause between them is learned."""
_ONE_BY_ONE: Final = 20
_PAGE: Final = 50


def read_heartbeats(api: PrefectApi, runs: Sequence[str]) -> dict[str, Heartbeats]:
    """Run id to its heartbeats, of the runs that sent one within a day.

    Runs with a heartbeat within two minutes take one call for every fifty events; of those how often they come is not
    always known, and it does not matter. Of the others the last six are read, together as far as they are recent; at
    most twenty are asked for one by one, and the rest is left out.

    Raises:
        OrchestratorUnavailableError: Prefect does not answer.
    """
    found: dict[str, set[float]] = {}
    if not runs:
        return {}
    now_s = time.time()
    _collect(api, runs, now_s - _RECENT_S, len(runs) * _WANTED, found)
    quiet = [run for run in runs if run not in found]
    _collect(api, quiet, now_s - 3600.0, len(quiet) * _WANTED, found)
    rare = [run for run in quiet if len(found.get(run, ())) < _WANTED]
    for run in rare[:_ONE_BY_ONE]:
        _collect(api, [run], now_s - _BACK_S, _WANTED, found)
    return {run: Heartbeats.of(sorted(instants)) for run, instants in found.items()}


def _collect(api: PrefectApi, runs: Collection[str], since_s: float, most: int, found: dict[str, set[float]]) -> None:
    """Add the instants of the last heartbeats of these runs, at most so many of all together."""
    if not runs:
        return
    wanted = {
        "event": {"name": [EVENT]},
        "occurred": {"since": iso(since_s), "until": iso(time.time() + 60.0)},
        "resource": {"id": [_RESOURCE + run for run in runs]},
        "order": "DESC",
    }
    page = api.call("POST", "/events/filter", {"filter": wanted, "limit": min(most, _PAGE)})
    events = list(page["events"])
    while page.get("next_page") and len(events) < most:
        page = api.call("GET", "/events/filter/next?" + str(page["next_page"]).partition("?")[2])
        events += page["events"]
    for event in events:
        run = str(event["resource"]["prefect.resource.id"]).removeprefix(_RESOURCE)
        if run in runs:
            found.setdefault(run, set()).add(unix_s(str(event["occurred"])))
