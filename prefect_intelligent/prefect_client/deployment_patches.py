"""Patches: temporary changes of a deployment, each under a key, stored in a Prefect variable with what was before.

A deployment may have several patches at once (held for a dataset, limited because a warehouse is overloaded, given more
memory). One variable per deployment stores its original settings and all patches (under "claims"); the settings in
force follow from the two: no slot if any patch holds it, else the least limit, the largest memory, all hosts to avoid.
So patches can be reverted in any order, by any process, and reverting the last one leaves the deployment as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError
from prefect_intelligent.prefect_client.api import PrefectApi

HELD: Final = "prefect-intelligent-hold"
"""Name of the concurrency limit without a free slot, and tag of our variables."""
SHARED: Final = "prefect-intelligent-share-"
AVOID: Final = "avoid_hosts"
"""Job variable of a pool that lists hosts to avoid; the pool's base job template decides what it does."""

Kind = Literal["hold", "share", "resize", "avoid", "patience"]

_VARIABLE: Final = "prefect_intelligent_hold_"
_ALL_TAKEN: Final = 1_000_000  # runs in flight release slots of the limit that they find, so that many must be taken
_MEMORY: Final = ("memory", "mem_limit", "memory_limit", "memory_request")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(\s*[A-Za-z]*)")
_ACTIVE_STATES: Final = ("PENDING", "RUNNING", "CANCELLING")


@contextmanager
def open_api() -> Iterator[PrefectApi]:
    """A client for the API of this process's settings, closed at the end."""
    try:
        api = PrefectApi(timeout_s=30.0)
    except InvalidInputError as error:  # none is configured, or it cannot be used
        raise OrchestratorUnavailableError(str(error)) from error
    try:
        yield api
    finally:
        api.close()


def get_or_none(api: PrefectApi, route: str) -> dict[str, Any] | None:
    """The answer of a GET; None if Prefect answers "not found"."""
    found: dict[str, Any] | None = api.call("GET", route, absent_ok=True)
    return found


def apply_patch(api: PrefectApi, key: str, names: Sequence[str], kind: Kind, amount: Any) -> tuple[str, ...]:
    """Patch deployments; returns those patched: ones that do not exist, or cannot be patched so, are left out."""
    deployments = [
        (name, found) for name in names if (found := get_or_none(api, f"/deployments/name/{name}")) is not None
    ]
    if kind == "resize":
        deployments = [(name, found) for name, found in deployments if _memory_of(api, found)]
    elif kind == "avoid":
        deployments = [(name, found) for name, found in deployments if AVOID in _template(api, found)]
    if kind == "share" and deployments:
        _ensure_share(api, key, int(amount), [found["id"] for _, found in deployments])
    for name, found in deployments:
        variable = get_or_none(api, f"/variables/name/{_variable(found)}")
        kept = _new_record(name, found) if variable is None else read_patches(variable)
        kept["claims"][key] = [kind, amount]
        # What to revert to is written before anything is changed.
        if variable is None:
            body = {"name": _variable(found), "value": json.dumps(kept), "tags": [HELD]}
            variable = api.call("POST", "/variables/", body)
        _put_in_force(api, found, kept, variable["id"])
    return tuple(name for name, _ in deployments)


def revert_patch(api: PrefectApi, key: str) -> tuple[tuple[str, Kind, Any], ...]:
    """Revert the patches under a key; returns (deployment, kind, amount) where no other patch of that kind is left."""
    freed: list[tuple[str, Kind, Any]] = []
    for variable in patch_variables(api):
        kept = read_patches(variable)
        if key not in kept["claims"]:
            continue
        kind, amount = kept["claims"].pop(key)
        found = get_or_none(api, f"/deployments/{kept['id']}")
        if found is not None:  # else the deployment has been deleted meanwhile
            _put_in_force(api, found, kept, variable["id"])
        if not kept["claims"]:
            api.call("DELETE", f"/variables/{variable['id']}")
        if found is not None and not any(other[0] == kind for other in kept["claims"].values()):
            freed.append((str(kept["name"]), kind, amount))
    share = get_or_none(api, f"/v2/concurrency_limits/{_share_name(key)}")
    if share is not None:
        api.call("DELETE", f"/v2/concurrency_limits/{share['id']}")
    return tuple(freed)


def patch_variables(api: PrefectApi) -> list[dict[str, Any]]:
    """The variables that store patches."""
    found: list[dict[str, Any]] = []
    while True:
        body = {"variables": {"tags": {"all_": [HELD]}}, "limit": 200, "offset": len(found)}
        page = api.call("POST", "/variables/filter", body)
        found += page
        if len(page) < 200:
            return found


def read_patches(variable: dict[str, Any]) -> dict[str, Any]:
    """Content of a variable: id and name of the deployment, its original limit and options, job variables, patches."""
    value = variable["value"]
    kept: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    kept.setdefault("claims", {dataset: ["hold", 0] for dataset in kept.pop("datasets", ())})
    kept.setdefault("job_variables", {})
    return kept


def _variable(found: dict[str, Any]) -> str:
    return _VARIABLE + str(found["id"]).replace("-", "_")


def _new_record(name: str, found: dict[str, Any]) -> dict[str, Any]:
    own = found.get("global_concurrency_limit") or {}
    ours = str(own.get("name", "")).startswith((HELD, SHARED))
    return {
        "id": found["id"],
        "name": name,
        "limit": None if ours else own.get("id"),
        "options": found.get("concurrency_options"),
        "claims": {},
        "job_variables": {},
    }


def _put_in_force(api: PrefectApi, found: dict[str, Any], kept: dict[str, Any], variable: str) -> None:
    """Write the settings that follow from the patches, after storing what they replace."""
    change: dict[str, Any] = {}
    claims = kept["claims"]
    least = min(((amount, key) for key, (kind, amount) in claims.items() if kind == "share"), default=None)
    limit, options = kept["limit"], kept["options"]
    if any(kind == "hold" for kind, _ in claims.values()):
        limit = _ensure_full_limit(api)
    elif least is not None:
        share = get_or_none(api, f"/v2/concurrency_limits/{_share_name(least[1])}")
        limit = None if share is None else str(share["id"])
    if limit != kept["limit"]:
        options = {**(found.get("concurrency_options") or {}), "collision_strategy": "ENQUEUE"}
    now = (found.get("global_concurrency_limit") or {}).get("id")
    if now != limit or (limit == kept["limit"] and found.get("concurrency_options") != options):
        change |= {"global_concurrency_limit_id": limit, "concurrency_options": options}
    jobs = _job_variables(api, found, kept)
    if jobs != (found.get("job_variables") or {}):
        change["job_variables"] = jobs
    api.call("PATCH", f"/variables/{variable}", {"value": json.dumps(kept)})
    if change:
        api.call("PATCH", f"/deployments/{found['id']}", change)


def _job_variables(api: PrefectApi, found: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """The job variables that follow from the patches; one that a person has changed since is left as it is."""
    now = dict(found.get("job_variables") or {})
    for name, (before, after) in list(kept["job_variables"].items()):
        if now.get(name) == after:
            if before is None:
                del now[name]
            else:
                now[name] = before
        else:
            del kept["job_variables"][name]
    original = dict(now)
    times = max((amount for kind, amount in kept["claims"].values() if kind == "resize"), default=1.0)
    if times > 1.0:
        for name, value in _memory_of(api, {**found, "job_variables": original}).items():
            now[name] = scaled(value, times)
    hosts = sorted({amount for kind, amount in kept["claims"].values() if kind == "avoid"})
    if hosts:
        now[AVOID] = sorted({*(original.get(AVOID) or []), *hosts})
    kept["job_variables"] = {n: [original.get(n), now[n]] for n in now if now[n] != original.get(n)}
    return now


def scaled(value: Any, times: float) -> Any:
    """A number, or a text such as "512Mi" with its unit, multiplied by `times`; other values stay as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * times) if isinstance(value, int) else value * times
    found = _AMOUNT.fullmatch(str(value).strip())
    if found is None:
        return value
    amount = float(found[1]) * times
    return f"{amount:g}{found[2]}"


def _memory_of(api: PrefectApi, found: dict[str, Any]) -> dict[str, Any]:
    """Job variables for memory that have a value: the deployment's own or the pool's default."""
    own, given = found.get("job_variables") or {}, _template(api, found)
    wanted = {name: own.get(name, (given.get(name) or {}).get("default")) for name in _MEMORY}
    return {name: value for name, value in wanted.items() if value is not None and scaled(value, 2.0) != value}


def _template(api: PrefectApi, found: dict[str, Any]) -> dict[str, Any]:
    """The job variables that the template of the deployment's pool has."""
    pool = found.get("work_pool_name")
    held = None if pool is None else get_or_none(api, f"/work_pools/{pool}")
    known: dict[str, Any] = ((held or {}).get("base_job_template") or {}).get("variables", {}).get("properties", {})
    return known


def _ensure_full_limit(api: PrefectApi) -> str:
    """Id of the concurrency limit without free slots; created if missing, all its slots taken again."""
    body = {"name": HELD, "limit": 1, "active_slots": _ALL_TAKEN}
    found = get_or_none(api, f"/v2/concurrency_limits/{HELD}")
    if found is None:
        return str(api.call("POST", "/v2/concurrency_limits/", body)["id"])
    api.call("PATCH", f"/v2/concurrency_limits/{found['id']}", {**body, "active": True})
    return str(found["id"])


def _share_name(key: str) -> str:
    return SHARED + hashlib.sha256(key.encode()).hexdigest()[:16]


def _ensure_share(api: PrefectApi, key: str, most: int, deployments: Sequence[str]) -> None:
    """Create the concurrency limit of a key; runs in flight hold slots of it, since they will release them."""
    name = _share_name(key)
    found = get_or_none(api, f"/v2/concurrency_limits/{name}")
    if found is not None:
        if found["limit"] != most:
            api.call("PATCH", f"/v2/concurrency_limits/{found['id']}", {"limit": most})
        return
    in_flight = {"deployment_id": {"any_": list(deployments)}, "state": {"type": {"any_": list(_ACTIVE_STATES)}}}
    taken = int(api.call("POST", "/flow_runs/count", {"flow_runs": in_flight}))
    api.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": most, "active_slots": taken})
