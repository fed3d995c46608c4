"""The project file `pipelines.toml`: declarations and wait policies besides those in the source of flows."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from prefect_intelligent.domain import Terms, parse_span
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.pipelines.conflicts.schema_contracts import parse_columns
from prefect_intelligent.pipelines.deployments import TableSchema

LatePolicy = Literal["hold", "skip", "stale"]

_WAIT_KEYS: Final = ("wait", "on_late")
_DEPLOYMENT_KEYS: Final = ("terms", "expects", "promises", *_WAIT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """How long a deployment waits for the inputs of a batch, and what happens then.

    Attributes:
        wait_s: Seconds since the first fresh input of a batch.
        on_late: "hold" waits `HOLD_S` and ignores `wait_s`; "skip" drops the batch after `wait_s`; "stale" runs with
            the inputs that have arrived, after `wait_s` or as soon as the missing inputs have failed.
    """

    wait_s: float = 6 * 3600.0
    on_late: LatePolicy = "hold"


HOLD_S: Final = 14 * 86_400.0
"""Wait of the policy "hold": two weeks, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The content of a project file.

    Attributes:
        wait_policy: Default for all deployments.
        wait_policies: Wait policies by deployment.
        terms: Terms that replace those of the decorator, key by key, by deployment.
        expects: Required columns, by deployment and dataset.
        promises: Guaranteed columns, by deployment and dataset.
        external: Datasets that come from outside.
    """

    wait_policy: WaitPolicy = field(default_factory=WaitPolicy)
    wait_policies: Mapping[str, WaitPolicy] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expects: Mapping[str, Mapping[str, TableSchema]] = field(default_factory=dict)
    promises: Mapping[str, Mapping[str, TableSchema]] = field(default_factory=dict)
    external: frozenset[str] = frozenset()

    def wait_policy_of(self, deployment: str) -> WaitPolicy:
        """Return the wait policy of a deployment."""
        return self.wait_policies.get(deployment, self.wait_policy)

    def terms_of(self, deployment: str, terms: Terms) -> Terms:
        """Return `terms`, with the terms that the file gives the deployment in place of theirs, key by key.

        Raises:
            InvalidInputError: A value is invalid.
        """
        overriding = self.terms.get(deployment)
        return terms if overriding is None else Terms.from_dict({**terms.to_dict(), **overriding})


def read_project(text: str, name: str = "pipelines.toml") -> Project:
    """Parse a project file.

    Raises:
        InvalidInputError: It is not TOML, or a value is invalid.
        UnknownNameError: There is no such key.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(name, str(error), "must be valid TOML") from error
    _check_keys(data, ("external", "deployments", *_WAIT_KEYS), name)
    wait_policy = _read_wait_policy(data, WaitPolicy(), name)
    wait_policies, terms = {}, {}
    expects: dict[str, dict[str, TableSchema]] = {}
    promises: dict[str, dict[str, TableSchema]] = {}
    for deployment, table in _table(data, "deployments", name).items():
        where = f"{name} [deployments.{deployment!r}]"
        if not isinstance(table, dict):
            raise InvalidInputError(where, table, "must be a table")
        _check_keys(table, _DEPLOYMENT_KEYS, where)
        wait_policies[deployment] = _read_wait_policy(table, wait_policy, where)
        if "terms" in table:
            terms[deployment] = _table(table, "terms", where)
            loop = set(terms[deployment].get("inputs", ())) & set(terms[deployment].get("outputs", ()))
            if loop:
                raise InvalidInputError(
                    where, sorted(loop)[0], "a deployment cannot wait for a dataset it writes itself"
                )
            Terms.from_dict(terms[deployment])
        for key, target in (("expects", expects), ("promises", promises)):
            if key in table:
                shapes = _table(table, key, where)
                target[deployment] = {dataset: parse_columns(_table(shapes, dataset, where)) for dataset in shapes}
    external = data.get("external", [])
    if not isinstance(external, list) or not all(isinstance(item, str) for item in external):
        raise InvalidInputError(f"{name} external", external, "must be a list of dataset names")
    return Project(
        wait_policy=wait_policy,
        wait_policies=wait_policies,
        terms=terms,
        expects=expects,
        promises=promises,
        external=frozenset(external),
    )


def with_terms(text: str, deployment: str, key: str, value: float) -> str:
    """Return the text of a project file with one number of a deployment's terms set, and otherwise unchanged.

    Raises:
        InvalidInputError: The file sets this deployment's terms in another form than a table of their own.
    """
    header = f'[deployments."{deployment}".terms]'
    lines = text.splitlines()
    at = next((i + 1 for i, line in enumerate(lines) if line.strip() == header), None)
    if at is None:
        found = "\n".join([*lines, *([""] if lines else []), header, f"{key} = {value:g}", ""])
    else:
        end = next((i for i in range(at, len(lines)) if lines[i].startswith("[")), len(lines))
        kept = [line for line in lines[at:end] if line.split("=")[0].strip() != key]
        found = "\n".join([*lines[:at], f"{key} = {value:g}", *kept, *lines[end:]]) + "\n"
    read_project(found)
    return found


def replace_wait_policy(project: Project, wait_s: float | None, on_late: LatePolicy | None) -> Project:
    """Return the project with another default wait policy; None leaves a value."""
    wait_policy = project.wait_policy
    if wait_s is not None:
        wait_policy = replace(wait_policy, wait_s=wait_s)
    if on_late is not None:
        wait_policy = replace(wait_policy, on_late=on_late)
    return replace(project, wait_policy=wait_policy)


def _check_keys(data: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in keys:
            raise UnknownNameError(f"key in {where}", key, keys)


def _table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = data.get(key, {})
    if not isinstance(found, dict):
        raise InvalidInputError(f"{where} {key}", found, "must be a table")
    return found


def _read_wait_policy(data: Mapping[str, Any], default: WaitPolicy, where: str) -> WaitPolicy:
    found = default
    if "wait" in data:
        found = replace(found, wait_s=parse_span(str(data["wait"]), what=f"{where} wait"))
    if "on_late" in data:
        if data["on_late"] not in get_args(LatePolicy):
            raise UnknownNameError(f"on_late in {where}", str(data["on_late"]), get_args(LatePolicy))
        found = replace(found, on_late=data["on_late"])
    return found
