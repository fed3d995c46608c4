"""Job variables under claims: more memory, and hosts to avoid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.claims.records import Claim, Replaced

AVOID: Final = "avoid_hosts"
"""Job variable of a pool that lists hosts to avoid; the pool's base job template decides what it does."""

_MEMORY: Final = ("memory", "mem_limit", "memory_limit", "memory_request")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(\s*[A-Za-z]*)")


def can_carry(api: PrefectApi, found: Mapping[str, Any], kind: str) -> bool:
    """Whether a claim of this kind changes anything of the deployment."""
    if kind == "resize":
        return bool(_memory_of(_template(api, found), found.get("job_variables") or {}))
    return kind != "avoid" or AVOID in _template(api, found)


def without_claims(now: Mapping[str, Any], kept: Replaced) -> dict[str, Any]:
    """The owner's job variables; one that the owner has changed since is left as it is."""
    own = dict(now)
    for name, (before, after) in kept.job_variables.items():
        if own.get(name) == after:
            if before is None:
                del own[name]
            else:
                own[name] = before
    return own


def put_variables_in_force(
    api: PrefectApi, found: Mapping[str, Any], kept: Replaced, claims: Sequence[Claim]
) -> list[str]:
    """Write the job variables that follow from the claims; returns what an owner has set meanwhile, in sentences."""
    now = dict(found.get("job_variables") or {})
    own = without_claims(now, kept)
    changed = sorted(name for name, (_, after) in kept.job_variables.items() if now.get(name) != after)
    notes = [f"{kept.name}: its owner has set {name} to {own.get(name)!r}; that is kept" for name in changed]
    wanted = dict(own)
    times = max((claim.amount for claim in claims if claim.kind == "resize"), default=1.0)
    if times > 1.0:
        for name, value in _memory_of(_template(api, found), own).items():
            wanted[name] = scaled(value, times)
    hosts = sorted({claim.amount for claim in claims if claim.kind == "avoid"})
    if hosts:
        wanted[AVOID] = sorted({*(own.get(AVOID) or []), *hosts})
    ours = {name: [own.get(name), wanted[name]] for name in wanted if wanted[name] != own.get(name)}
    if ours != kept.job_variables:
        kept.job_variables = ours
        kept.save(api)
    if wanted != now:
        api.call("PATCH", f"/deployments/{found['id']}", {"job_variables": wanted})
    return notes


def scaled(value: Any, times: float) -> Any:
    """A number, or a text such as "512Mi" with its unit, multiplied by `times`; other values stay as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * times) if isinstance(value, int) else value * times
    found = _AMOUNT.fullmatch(str(value).strip())
    if found is None:
        return value
    amount = float(found[1]) * times
    return f"{amount:g}{found[2]}"


def _memory_of(template: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Job variables for memory that have a value: the deployment's own or the pool's default."""
    wanted = {name: own.get(name, (template.get(name) or {}).get("default")) for name in _MEMORY}
    return {name: value for name, value in wanted.items() if value is not None and scaled(value, 2.0) != value}


def _template(api: PrefectApi, found: Mapping[str, Any]) -> dict[str, Any]:
    """The job variables that the template of the deployment's pool has."""
    pool = found.get("work_pool_name")
    held = None if pool is None else api.call("GET", path("work_pools", pool), absent_ok=True)
    known: dict[str, Any] = ((held or {}).get("base_job_template") or {}).get("variables", {}).get("properties", {})
    return known
