"""The variables of claims: one per claim, and one per deployment with the owner's values that claims have replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from prefect_intelligent.errors import ConflictError, InvalidInputError
from prefect_intelligent.prefect_client.api import PrefectApi

TAG: Final = "prefect-intelligent-hold"
"""Tag of our variables; the names of our concurrency limits begin with it."""

Kind = Literal["hold", "share", "resize", "avoid", "patience"]

_CLAIM: Final = "prefect_intelligent_claim_"
_REPLACED: Final = "prefect_intelligent_hold_"
_MOST: Final = 2**31 - 1
_MOST_TIMES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim on one deployment.

    Attributes:
        deployment: "flow/deployment". A deployment that is deleted and made again is claimed again.
        key: What claims it: a dataset, or the key of a measure.
        kind: What is changed.
        amount: Runs at once for "share" (of all deployments with the key), a factor for "resize", a host for "avoid",
            retries for "patience".
    """

    deployment: str
    key: str
    kind: Kind
    amount: Any

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidInputError("kind", self.kind, f"must be one of {', '.join(get_args(Kind))}")
        if self.kind == "resize" and not (isinstance(self.amount, int | float) and 0 < self.amount <= _MOST_TIMES):
            raise InvalidInputError("times the memory", self.amount, f"must be above 0, at most {_MOST_TIMES}")
        if self.kind in ("share", "patience") and not (isinstance(self.amount, int) and 0 <= self.amount <= _MOST):
            raise InvalidInputError(self.kind, self.amount, f"must be a whole number from 0 to {_MOST}")


@dataclass(slots=True, kw_only=True)
class Replaced:
    """What the owner of a deployment has set where a claim is in force; written before the claim is.

    Attributes:
        id: Of the deployment.
        name: "flow/deployment".
        held: Whether runs of it have been set aside.
        occupied: Whether claims take slots of the owner's own limit.
        made: Whether the deployment has been given a limit of ours.
        limit: Id of the owner's limit that ours stands in for; None if the owner has none.
        options: The owner's concurrency options, in a list, if ours are in force; else None.
        job_variables: Name to value before (None is absent) and value of ours.
        former: The owner's limit id and options, if a version up to 0.2 has put a shared limit in force; else None.
        variable: Id of the variable; None if it is not stored.
    """

    id: str
    name: str
    held: bool = False
    occupied: bool = False
    made: bool = False
    limit: str | None = None
    options: list[Any] | None = None
    job_variables: dict[str, list[Any]] = field(default_factory=dict)
    former: list[Any] | None = None
    variable: str | None = None

    def save(self, api: PrefectApi) -> None:
        """Store it."""
        value = json.dumps({name: getattr(self, name) for name in self.__slots__ if name != "variable"})
        if self.variable is None:
            body = {"name": _REPLACED + self.id.replace("-", "_"), "value": value, "tags": [TAG]}
            with suppress(ConflictError):  # another process has just made it, with the same content
                self.variable = str(api.call("POST", "/variables/", body)["id"])
                return
            self.variable = str(api.call("GET", f"/variables/name/{body['name']}")["id"])
        api.call("PATCH", f"/variables/{self.variable}", {"value": value})

    def drop(self, api: PrefectApi) -> None:
        """Remove it."""
        if self.variable is not None:
            api.call("DELETE", f"/variables/{self.variable}", absent_ok=True)
            self.variable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRecords:
    """All claims of a server.

    Attributes:
        claims: Those of variables of their own, with the id of each variable (None for claims of versions up to 0.2,
            which kept all claims of a deployment in one variable).
        replaced: What owners have set, by id of the deployment.
        problems: Variables that cannot be read, one sentence each (a person has edited them).
    """

    claims: tuple[tuple[Claim, str | None], ...]
    replaced: Mapping[str, Replaced]
    problems: tuple[str, ...]

    def of(self, deployment: str) -> list[Claim]:
        """The claims on a deployment, by key."""
        return sorted((c for c, _ in self.claims if c.deployment == deployment), key=lambda claim: claim.key)

    def under(self, key: str) -> list[Claim]:
        """The claims with a key, by deployment."""
        return sorted((c for c, _ in self.claims if c.key == key), key=lambda claim: claim.deployment)

    @property
    def deployments(self) -> list[str]:
        """Names of all deployments with claims."""
        return sorted({claim.deployment for claim, _ in self.claims})


def read_records(api: PrefectApi) -> ClaimRecords:
    """All claims of a server, in one call per page of variables."""
    claims: list[tuple[Claim, str | None]] = []
    replaced: dict[str, Replaced] = {}
    problems: list[str] = []
    for page in api.pages("/variables/filter", {"variables": {"tags": {"all_": [TAG]}}}):
        for variable in page:
            try:
                if str(variable["name"]).startswith(_CLAIM):
                    claims.append((_read_claim(variable["value"]), str(variable["id"])))
                else:
                    kept, former = _read_replaced(variable)
                    replaced[kept.id] = kept
                    claims += [(claim, None) for claim in former]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                problems.append(f"variable {variable['name']} cannot be read ({type(error).__name__}: {error})")
    return ClaimRecords(claims=tuple(dict.fromkeys(claims)), replaced=replaced, problems=tuple(problems))


def write_claim(api: PrefectApi, claim: Claim) -> None:
    """Store a claim, or its new kind and amount."""
    name = _claim_name(claim)
    value = json.dumps({"deployment": claim.deployment, "key": claim.key, "kind": claim.kind, "amount": claim.amount})
    stored = api.call("GET", f"/variables/name/{name}", absent_ok=True)
    if stored is None:
        with suppress(ConflictError):  # another process has just made it
            api.call("POST", "/variables/", {"name": name, "value": value, "tags": [TAG]})
            return
    api.call("PATCH", f"/variables/name/{name}", {"value": value})


def drop_claims(api: PrefectApi, records: ClaimRecords, key: str) -> None:
    """Remove the claims with a key."""
    for claim, variable in records.claims:
        if claim.key == key and variable is not None:
            api.call("DELETE", f"/variables/{variable}", absent_ok=True)


def split_former(api: PrefectApi, records: ClaimRecords) -> ClaimRecords:
    """Give claims that versions up to 0.2 kept together variables of their own; the records afterwards."""
    if all(variable is not None for _, variable in records.claims):
        return records
    for claim, variable in records.claims:
        if variable is None:
            write_claim(api, claim)
    for kept in records.replaced.values():
        if kept.former is not None:
            kept.save(api)
    return read_records(api)


def _claim_name(claim: Claim) -> str:
    return _CLAIM + hashlib.sha256(json.dumps([claim.deployment, claim.key]).encode()).hexdigest()[:32]


def _content(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else dict(value)
    return found


def _read_claim(value: Any) -> Claim:
    found = _content(value)
    name, key = str(found["deployment"]), str(found["key"])
    return Claim(deployment=name, key=key, kind=found["kind"], amount=found["amount"])


def _read_replaced(variable: Mapping[str, Any]) -> tuple[Replaced, Sequence[Claim]]:
    """What an owner has set, and the claims that versions up to 0.2 kept in the same variable."""
    found = _content(variable["value"])
    kept = Replaced(
        id=str(found["id"]),
        name=str(found["name"]),
        job_variables=dict(found.get("job_variables") or {}),
        variable=str(variable["id"]),
    )
    if "claims" in found or "datasets" in found:
        kept.former = [found.get("limit"), found.get("options")]
        return kept, list(_former_claims(kept.name, found))
    kept.held, kept.occupied, kept.made = (bool(found.get(name)) for name in ("held", "occupied", "made"))
    kept.limit, kept.options, kept.former = found.get("limit"), found.get("options"), found.get("former")
    return kept, ()


def _former_claims(deployment: str, found: Mapping[str, Any]) -> Iterator[Claim]:
    for dataset in found.get("datasets", ()):  # version 0.1
        yield Claim(deployment=deployment, key=str(dataset), kind="hold", amount=0)
    for key, (kind, amount) in found.get("claims", {}).items():
        yield Claim(deployment=deployment, key=str(key), kind=kind, amount=amount)
