"""Puts claims on deployments in force, reverts them, and mends them where the server has something else.

A claim is stored before anything is changed, and what an owner has set before it is replaced. So a pass of any process
finishes what another has begun, and puts a claim in force again that a deploy has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from prefect_intelligent.domain.instants import iso
from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.claims.job_variables import (
    can_carry,
    put_variables_in_force,
    without_claims,
)
from prefect_intelligent.prefect_client.claims.limits import (
    in_flight,
    owners_limit,
    owners_options,
    put_limit_in_force,
)
from prefect_intelligent.prefect_client.claims.records import (
    Claim,
    ClaimRecords,
    Kind,
    Replaced,
    drop_claims,
    read_records,
    split_former,
    write_claim,
)
from prefect_intelligent.prefect_client.claims.shares import Demand, parts_of
from prefect_intelligent.prefect_client.claims.waiting_runs import bring_back, set_aside

_ROUNDS = 3
_MANY = 2000


def find_deployment(api: PrefectApi, name: str) -> dict[str, Any] | None:
    """The deployment "flow/deployment" as the API gives it, whatever characters its name has; None if there is none."""
    flow, _, short = name.partition("/")
    body = {"deployments": {"name": {"any_": [short]}}, "flows": {"name": {"any_": [flow]}}}
    found: list[dict[str, Any]] = api.call("POST", "/deployments/filter", body)
    return found[0] if found else None


def claim(api: PrefectApi, key: str, names: Sequence[str], kind: Kind, amount: Any) -> tuple[str, ...]:
    """Claim deployments under a key; returns those claimed, without ones that do not exist or cannot carry it."""
    claims = [Claim(deployment=name, key=key, kind=kind, amount=amount) for name in dict.fromkeys(names)]
    found = {one.deployment: find_deployment(api, one.deployment) for one in claims}
    able = [one for one in claims if (stored := found[one.deployment]) is not None and can_carry(api, stored, kind)]
    for one in able:
        write_claim(api, one)
    done = tuple(one.deployment for one in able)
    put_in_force(api, done)
    return done


def release(api: PrefectApi, key: str) -> tuple[tuple[str, Kind, Any], ...]:
    """End the claims with a key; returns (deployment, kind, amount) where no other claim of that kind is left.

    Owners get back what they set last, also what they have deployed meanwhile.
    """
    before = split_former(api, read_records(api))
    ended = before.under(key)
    drop_claims(api, before, key)
    put_in_force(api, [one.deployment for one in ended])
    after = read_records(api)
    return tuple(
        (one.deployment, one.kind, one.amount)
        for one in ended
        if one.kind not in {other.kind for other in after.of(one.deployment)}
        and find_deployment(api, one.deployment) is not None
    )


def mend(api: PrefectApi, *, spared: Callable[[str | None], bool] = lambda pool: False) -> tuple[str, ...]:
    """Compare every claim with what the server has, and put in force again what is not.

    Args:
        api: The server.
        spared: Whether nothing may be written to the deployments of a work pool (None is no pool).

    Returns:
        What was found to differ, in sentences; empty if everything stands.
    """
    records = read_records(api)
    if not records.claims and not records.replaced:
        return records.problems
    records = split_former(api, records)
    names = {*records.deployments, *(kept.name for kept in records.replaced.values())}
    return (*records.problems, *_put_all(api, records, sorted(names), spared=spared, most=200))


def as_owner_set(api: PrefectApi, found: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment with the limit, the options and the job variables that its owner has set, whatever claims it has."""
    records = read_records(api)
    return _as_owner_set(api, found, records.replaced.get(str(found["id"])))


def all_as_owners_set(api: PrefectApi, found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same for many deployments."""
    records = read_records(api)
    return [_as_owner_set(api, one, records.replaced.get(str(one["id"]))) for one in found]


def _as_owner_set(api: PrefectApi, found: Mapping[str, Any], kept: Replaced | None) -> dict[str, Any]:
    own = dict(found)
    own["global_concurrency_limit"] = owners_limit(api, found, kept)
    own["concurrency_options"] = owners_options(found, kept)
    if kept is not None:
        own["job_variables"] = without_claims(found.get("job_variables") or {}, kept)
    return own


def put_in_force(api: PrefectApi, names: Collection[str], *, most: int = _MANY) -> None:
    """Put in force what the claims on deployments say, again if another process has changed the claims meanwhile.

    Args:
        api: The server.
        names: The deployments.
        most: Runs of each that are set aside at once.
    """
    records = split_former(api, read_records(api))
    for _ in range(_ROUNDS):
        _put_all(api, records, names, most=most)
        now = read_records(api)
        if [now.of(name) for name in names] == [records.of(name) for name in names]:
            return
        records = now


def _put_all(
    api: PrefectApi,
    records: ClaimRecords,
    names: Collection[str],
    *,
    spared: Callable[[str | None], bool] = lambda pool: False,
    most: int,
) -> list[str]:
    """Put the claims of these deployments, and of those that have a share in common with them, in force."""
    keys = {one.key for name in names for one in records.of(name) if one.kind == "share"}
    concerned = {*names, *(one.deployment for key in keys for one in records.under(key))}
    found = {name: one for name in sorted(concerned) if (one := find_deployment(api, name)) is not None}
    parts = _parts(api, records, found)
    notes: list[str] = []
    for name in sorted(concerned):
        one = found.get(name)
        for kept in [kept for kept in records.replaced.values() if kept.name == name]:
            if one is None or kept.id != one["id"]:
                kept.drop(api)  # that deployment has been deleted, and its limit with it
        if one is None:
            if records.of(name):
                notes.append(f"{name}: has been deleted; its claims wait until it is there again or they are released")
            continue
        if spared(one.get("work_pool_name")):
            continue
        try:
            notes += _put_one(api, one, name, records, parts.get(name), most=most)
        except ConflictError as error:  # deleted or changed in this moment: the next pass looks again
            notes.append(f"{name}: could not be changed ({error})")
    return notes


def _put_one(
    api: PrefectApi, found: Mapping[str, Any], name: str, records: ClaimRecords, part: int | None, *, most: int
) -> list[str]:
    claims = records.of(name)
    known = records.replaced.get(str(found["id"]))
    kept = known or Replaced(id=str(found["id"]), name=name)
    hold = any(one.kind == "hold" for one in claims)
    was_held = kept.held
    if kept.held and not hold:
        bring_back(api, kept.id)  # while it is held, so that no worker claims one meanwhile
    if hold and not kept.held:
        kept.held = True
        kept.save(api)
    notes = put_limit_in_force(api, found, kept, hold=hold, part=part)
    notes += put_variables_in_force(api, found, kept, claims)
    if hold and not _cancels(found, kept):
        set_aside(api, kept.id, most=most)
    if kept.former is not None or (was_held and not hold):
        kept.former, kept.held = None, hold
        kept.save(api)
    if not claims:
        kept.drop(api)
    return notes


def _cancels(found: Mapping[str, Any], kept: Replaced) -> bool:
    """Whether the owner wants runs that find no slot to be cancelled, and has a limit: then they do not pile up."""
    limit = found.get("global_concurrency_limit")
    limited = limit is not None and (kept.occupied or kept.limit is not None)
    options = owners_options(found, kept) or {}
    return limited and options.get("collision_strategy") == "CANCEL_NEW"


def _parts(api: PrefectApi, records: ClaimRecords, found: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The least part of each deployment with shares."""
    parts: dict[str, int] = {}
    demands: dict[str, Demand] = {}
    keys = {one.key for name in found for one in records.of(name) if one.kind == "share"}
    for key in sorted(keys):
        members = [one for one in records.under(key) if one.kind == "share" and one.deployment in found]
        for one in members:
            if one.deployment not in demands:
                demands[one.deployment] = _demand(api, found[one.deployment], records)
        most = min(int(one.amount) for one in members)
        given = parts_of(most, [demands[one.deployment] for one in members])
        for one, part in zip(members, given, strict=True):
            parts[one.deployment] = min(part, parts.get(one.deployment, part))
    return parts


def _demand(api: PrefectApi, found: Mapping[str, Any], records: ClaimRecords) -> Demand:
    due = {
        "deployment_id": {"any_": [found["id"]]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": iso(time.time())},
    }
    waiting = int(api.call("POST", "/flow_runs/count", {"flow_runs": due}))
    limit = owners_limit(api, found, records.replaced.get(str(found["id"])))
    return Demand(
        active=in_flight(api, str(found["id"])), waiting=waiting, limit=None if limit is None else int(limit["limit"])
    )
