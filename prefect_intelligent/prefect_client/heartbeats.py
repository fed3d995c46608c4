"""Heartbeats of flow runs, from Prefect's events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from statistics import median
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
_AHEAD_S: Final = 3600.0
"""How far the clock of a machine that sends heartbeats may be ahead."""


def read_heartbeats(api: PrefectApi, runs: Sequence[str]) -> dict[str, Heartbeats]:
    """Run id to its heartbeats, of the runs that sent one within a day.

    Runs with a heartbeat within two minutes take one call for every fifty events; of those how often they come is not
    always known, and it does not matter. Of the others the last six are read, together as far as they are recent; at
    most twenty are asked for one by one, and the rest is left out.

    Raises:
        OrchestratorUnavailableError: Prefect does not answer.
    """
    found: dict[str, dict[float, float]] = {}
    if not runs:
        return {}
    now_s = api.now_s()
    _collect(api, runs, now_s - _RECENT_S, len(runs) * _WANTED, found)
    quiet = [run for run in runs if run not in found]
    _collect(api, quiet, now_s - 3600.0, len(quiet) * _WANTED, found)
    rare = [run for run in quiet if len(found.get(run, ())) < _WANTED]
    for run in rare[:_ONE_BY_ONE]:
        _collect(api, [run], now_s - _BACK_S, _WANTED, found)
    return {run: Heartbeats.of(_by_servers_clock(beats)) for run, beats in found.items()}


def _collect(
    api: PrefectApi, runs: Collection[str], since_s: float, most: int, found: dict[str, dict[float, float]]
) -> None:
    """Add the last heartbeats of these runs, at most so many of all together: when they occurred, and were received."""
    if not runs:
        return
    wanted = {
        "event": {"name": [EVENT]},
        "occurred": {"since": iso(since_s), "until": iso(api.now_s() + _AHEAD_S)},
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
            occurred_s = unix_s(str(event["occurred"]))
            found.setdefault(run, {})[occurred_s] = unix_s(str(event.get("received") or event["occurred"]))


def _by_servers_clock(beats: Mapping[float, float]) -> list[float]:
    """Instants of heartbeats, corrected for the clock of the machine that sends them.

    Where they arrive at the pace at which they are sent, what lies between is the difference of the clocks; those that
    arrive all at once, after an outage, do not tell it.
    """
    pairs = sorted(beats.items())
    steady = len(pairs) > 1 and all(
        abs((b_received - a_received) - (b - a)) < (b - a) / 2 for (a, a_received), (b, b_received) in pairwise(pairs)
    )
    ahead_s = median(occurred - received for occurred, received in pairs) if steady else 0.0
    return [occurred - ahead_s for occurred, _ in pairs]
