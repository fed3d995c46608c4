"""Holds and shares: claims take slots of a deployment's own concurrency limit, and the limit stays the owner's.

A run needs a slot to become PENDING. A hold takes all slots and a share takes all but its part, so neither changes the
number that the owner has set nor the collision strategy. A deployment without a limit of its own (or with one that it
has in common with others) is given one, which stands in until the claims end; its number is one that nobody sets, so
that a number that is deployed meanwhile is told from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.claims.records import TAG, Replaced

NO_LIMIT: Final = 1_000_000_000
"""The number of a limit of ours."""
ALL_TAKEN: Final = 2_000_000_000
"""Slots that a hold takes: runs in flight release slots of the limit that they find."""
FORMER_SHARE: Final = "prefect-intelligent-share-"
"""Up to version 0.2 all holds had one limit in common, named `TAG`, and each share one with a name that begins so."""

_STILL_TAKEN: Final = 1_500_000_000
_IN_FLIGHT: Final = ("PENDING", "RUNNING", "CANCELLING")
_LIMITS: Final = "/v2/concurrency_limits/"
_GRACE_S: Final = 300  # Prefect's default
_MOST_GRACE_S: Final = 86_400


def is_ours(limit: Mapping[str, Any] | None) -> bool:
    """Whether a limit of a deployment is one of ours, which says nothing about what its owner has set."""
    name = str((limit or {}).get("name", ""))
    if name == TAG or name.startswith(FORMER_SHARE):
        return True
    return limit is not None and name.startswith(f"{TAG}-") and limit["limit"] == NO_LIMIT


def free_slots(limit: Mapping[str, Any]) -> int:
    """Runs that the limit would let start now."""
    return max(0, int(limit["limit"]) - int(limit["active_slots"])) if limit.get("active", True) else 0


def owners_limit(api: PrefectApi, found: Mapping[str, Any], kept: Replaced | None) -> Mapping[str, Any] | None:
    """The limit that the owner of a deployment has set, whatever claims are in force; None without one."""
    limit: Mapping[str, Any] | None = found.get("global_concurrency_limit")
    if not is_ours(limit):
        return limit
    return None if kept is None else _limit(api, kept.former[0] if kept.former is not None else kept.limit)


def owners_options(found: Mapping[str, Any], kept: Replaced | None) -> Any:
    """The concurrency options that the owner of a deployment has set."""
    now = found.get("concurrency_options")
    if kept is not None and kept.former is not None and is_ours(found.get("global_concurrency_limit")):
        return kept.former[1]
    if kept is not None and kept.options is not None and now == _enqueued(kept.options[0]):
        return kept.options[0]
    return now


def in_flight(api: PrefectApi, deployment_id: str) -> int:
    """Runs of a deployment that hold a slot."""
    wanted = {"deployment_id": {"any_": [deployment_id]}, "state": {"type": {"any_": list(_IN_FLIGHT)}}}
    return int(api.call("POST", "/flow_runs/count", {"flow_runs": wanted}))


def put_limit_in_force(
    api: PrefectApi, found: Mapping[str, Any], kept: Replaced, *, hold: bool, part: int | None
) -> list[str]:
    """Take the slots that the claims ask for, or give them back.

    Args:
        api: The server.
        found: The deployment as the API gives it.
        kept: What its owner has set; changed and stored.
        hold: Whether no run may start.
        part: How many runs may be in flight at once; None is no claim.

    Returns:
        What was found to differ from what should stand, in sentences.
    """
    notes: list[str] = []
    limit, change = _leave_former(api, found, kept)
    standing = kept.made or kept.occupied
    if limit is not None and _has_our_name(limit, found) and limit["limit"] != NO_LIMIT:
        notes.append(f"{kept.name}: its owner has deployed a limit of {limit['limit']}, which a release gives back")
        limit, more = _keep_deployed(api, found, kept, limit)
        change |= more
    if kept.occupied and not _is_own(limit, found):  # its owner has taken the limit away, or another one
        _set_slots(api, f"deployment:{found['id']}", in_flight(api, found["id"]))
        kept.occupied = False
        kept.save(api)
    if hold or part is not None:
        lost = _take(api, found, kept, limit, change, hold=hold, part=part)
        if lost and standing:
            notes.append(f"{kept.name}: was no longer {'held' if hold else 'limited'} on the server; it is again")
    else:
        _give_back(api, found, kept, limit, change)
    return notes


def _take(
    api: PrefectApi,
    found: Mapping[str, Any],
    kept: Replaced,
    limit: Mapping[str, Any] | None,
    change: dict[str, Any],
    *,
    hold: bool,
    part: int | None,
) -> bool:
    """Take slots, of a limit of ours where the owner's does not do; returns whether they were not taken before."""
    lost = False
    if _is_own(limit, found):
        if not kept.occupied:
            kept.occupied = True
            kept.save(api)
    elif limit is None or not _has_our_name(limit, found):
        kept.limit, kept.made, lost = None if limit is None else str(limit["id"]), True, True
        kept.save(api)  # what to revert to is stored before anything is changed
        limit = _stand_in(api, found)
        change["global_concurrency_limit_id"] = limit["id"]
    assert limit is not None
    wanted = ALL_TAKEN
    if not hold and part is not None:
        number = int(limit["limit"])
        if kept.limit is not None and (aside := _limit(api, kept.limit)) is not None:
            part = min(part, int(aside["limit"]))
        wanted = number - min(part, number) + in_flight(api, found["id"])
    now = int(limit["active_slots"])
    if (now < _STILL_TAKEN if hold else now != wanted) or not limit.get("active", True):
        lost = lost or hold
        ours = {"active": True} if _has_our_name(limit, found) else {}
        api.call("PATCH", f"{_LIMITS}{limit['id']}", {"active_slots": wanted, **ours})
    change |= _options(api, found, kept, limit)
    if change:
        api.call("PATCH", f"/deployments/{found['id']}", change)
    return lost


def _give_back(
    api: PrefectApi,
    found: Mapping[str, Any],
    kept: Replaced,
    limit: Mapping[str, Any] | None,
    change: dict[str, Any],
) -> None:
    stands_in = limit is not None and _has_our_name(limit, found) and not _is_own(limit, found)
    if stands_in:
        aside = _limit(api, kept.limit)
        change["global_concurrency_limit_id"] = None if aside is None else aside["id"]
    change |= _options(api, found, kept, None)
    if change:
        api.call("PATCH", f"/deployments/{found['id']}", change)
    if kept.occupied and limit is not None and _is_own(limit, found):
        api.call("PATCH", f"{_LIMITS}{limit['id']}", {"active_slots": in_flight(api, found["id"])})
    if kept.made or stands_in:
        stray = api.call("GET", path("v2", "concurrency_limits", _name(found)), absent_ok=True)
        if stray is not None and stray["limit"] == NO_LIMIT:
            api.call("DELETE", f"{_LIMITS}{stray['id']}", absent_ok=True)


def _keep_deployed(
    api: PrefectApi, found: Mapping[str, Any], kept: Replaced, limit: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Keep the number that a deploy has written into our limit, where Prefect would have written it without us."""
    aside = _limit(api, kept.limit)
    if aside is not None:
        api.call("PATCH", f"{_LIMITS}{aside['id']}", {"limit": limit["limit"]})
        api.call("PATCH", f"{_LIMITS}{limit['id']}", {"limit": NO_LIMIT})
        return {**limit, "limit": NO_LIMIT}, {}
    kept.limit, kept.made, kept.occupied = None, False, True
    kept.save(api)
    name = f"deployment:{found['id']}"
    with suppress(ConflictError):  # there is a stray one of that name: ours goes on under its own
        api.call("PATCH", f"{_LIMITS}{limit['id']}", {"name": name})
        limit = {**limit, "name": name}
    return limit, {}


def _stand_in(api: PrefectApi, found: Mapping[str, Any]) -> dict[str, Any]:
    """Our limit of a deployment, all its slots taken."""
    body = {"name": _name(found), "limit": NO_LIMIT, "active_slots": ALL_TAKEN}
    with suppress(ConflictError):
        return dict(api.call("POST", _LIMITS, body))
    stray = api.call("GET", path("v2", "concurrency_limits", _name(found)))
    api.call("PATCH", f"{_LIMITS}{stray['id']}", {**body, "active": True})
    return {**stray, **body}


def _options(
    api: PrefectApi, found: Mapping[str, Any], kept: Replaced, limit: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The change of concurrency options: an owner without a limit has no strategy in force, so its runs wait."""
    now, own = found.get("concurrency_options"), owners_options(found, kept)
    stands_in = limit is not None and not _is_own(limit, found) and kept.limit is None
    wanted = _enqueued(own) if stands_in and (own or {}).get("collision_strategy") == "CANCEL_NEW" else own
    replaced = None if wanted == own else [own]
    if replaced != kept.options:
        kept.options = replaced
        kept.save(api)
    return {} if wanted == now else {"concurrency_options": wanted}


def _enqueued(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Our options in place of the owner's; a second more or less of grace tells them from ones that the owner sets."""
    grace_s = (options or {}).get("grace_period_seconds") or _GRACE_S
    ours_s = grace_s + 1 if grace_s < _MOST_GRACE_S else grace_s - 1
    return {**(options or {}), "collision_strategy": "ENQUEUE", "grace_period_seconds": ours_s}


def _leave_former(
    api: PrefectApi, found: Mapping[str, Any], kept: Replaced
) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
    """The owner's limit, and the change that leaves the limit that versions up to 0.2 have put in force."""
    limit: Mapping[str, Any] | None = found.get("global_concurrency_limit")
    if kept.former is None:
        return limit, {}
    own, options = kept.former
    if not is_ours(limit):
        return limit, {}
    limit = _limit(api, own)
    limit_id = None if limit is None else limit["id"]
    return limit, {"global_concurrency_limit_id": limit_id, "concurrency_options": options}


def _limit(api: PrefectApi, limit_id: str | None) -> dict[str, Any] | None:
    if limit_id is None:
        return None
    found: dict[str, Any] | None = api.call("GET", f"{_LIMITS}{limit_id}", absent_ok=True)
    return found


def _set_slots(api: PrefectApi, name: str, slots: int) -> None:
    api.call("PATCH", path("v2", "concurrency_limits", name), {"active_slots": slots}, absent_ok=True)


def _name(found: Mapping[str, Any]) -> str:
    return f"{TAG}-{found['id']}"


def _has_our_name(limit: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return bool(limit["name"] == _name(found))


def _is_own(limit: Mapping[str, Any] | None, found: Mapping[str, Any]) -> bool:
    """Whether it is a limit that the owner has set for this deployment alone."""
    if limit is None:
        return False
    return limit["name"] == f"deployment:{found['id']}" or (_has_our_name(limit, found) and limit["limit"] != NO_LIMIT)
