"""The project file `pipelines.toml`: declarations and policies for flows whose source one cannot or will not change."""

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

_ORDER_KEYS: Final = ("wait", "on_late")
_DEPLOYMENT_KEYS: Final = ("terms", "expects", "promises", *_ORDER_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """How long a deployment waits for the inputs of a batch, and what happens then.

    Attributes:
        wait_s: Seconds from the first fresh input of a batch.
        on_late: "hold" waits `HOLD_S` whatever `wait_s` says; "skip" gives the batch up after `wait_s`; "stale" runs
            with what there is, after `wait_s` or as soon as the missing inputs have failed.
    """

    wait_s: float = 6 * 3600.0
    on_late: LatePolicy = "hold"


HOLD_S: Final = 14 * 86_400.0
"""How long "hold" waits: two weeks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The content of a project file.

    Attributes:
        ordering: For deployments that do not say otherwise.
        orderings: By deployment.
        terms: Terms that replace those of the decorator, key by key, by deployment.
        expects: Columns needed, by deployment and dataset.
        promises: Columns promised, by deployment and dataset.
        external: Datasets that come from outside.
    """

    ordering: WaitPolicy = field(default_factory=WaitPolicy)
    orderings: Mapping[str, WaitPolicy] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expects: Mapping[str, Mapping[str, TableSchema]] = field(default_factory=dict)
    promises: Mapping[str, Mapping[str, TableSchema]] = field(default_factory=dict)
    external: frozenset[str] = frozenset()

    def ordering_of(self, deployment: str) -> WaitPolicy:
        """How `deployment` waits."""
        return self.orderings.get(deployment, self.ordering)

    def terms_of(self, deployment: str, terms: Terms) -> Terms:
        """`terms` with what the file says about the deployment put in.

        Raises:
            InvalidInputError: A value is not usable.
        """
        own = self.terms.get(deployment)
        return terms if own is None else Terms.from_dict({**terms.to_dict(), **own})


def read_project(text: str, name: str = "pipelines.toml") -> Project:
    """Parse a project file.

    Raises:
        InvalidInputError: It is not TOML, or a value cannot be used; `UnknownNameError` for a key that does not exist.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(name, str(error), "must be valid TOML") from error
    _known(data, ("external", "deployments", *_ORDER_KEYS), name)
    ordering = _ordering(data, WaitPolicy(), name)
    orderings, terms = {}, {}
    expects: dict[str, dict[str, TableSchema]] = {}
    promises: dict[str, dict[str, TableSchema]] = {}
    for deployment, table in _table(data, "deployments", name).items():
        where = f"{name} [deployments.{deployment!r}]"
        if not isinstance(table, dict):
            raise InvalidInputError(where, table, "must be a table")
        _known(table, _DEPLOYMENT_KEYS, where)
        orderings[deployment] = _ordering(table, ordering, where)
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
        ordering=ordering,
        orderings=orderings,
        terms=terms,
        expects=expects,
        promises=promises,
        external=frozenset(external),
    )


def with_terms(text: str, deployment: str, key: str, value: float) -> str:
    """The text of a project file with one number of a deployment's terms set; everything else is left as it is.

    Raises:
        InvalidInputError: The file sets this deployment's terms in a form that cannot be added to.
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
    """The project with other defaults, as given on the command line; None leaves a value."""
    ordering = project.ordering
    if wait_s is not None:
        ordering = replace(ordering, wait_s=wait_s)
    if on_late is not None:
        ordering = replace(ordering, on_late=on_late)
    return replace(project, ordering=ordering)


def _known(data: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in keys:
            raise UnknownNameError(f"key in {where}", key, keys)


def _table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = data.get(key, {})
    if not isinstance(found, dict):
        raise InvalidInputError(f"{where} {key}", found, "must be a table")
    return found


def _ordering(data: Mapping[str, Any], default: WaitPolicy, where: str) -> WaitPolicy:
    found = default
    if "wait" in data:
        found = replace(found, wait_s=parse_span(str(data["wait"]), what=f"{where} wait"))
    if "on_late" in data:
        if data["on_late"] not in get_args(LatePolicy):
            raise UnknownNameError(f"on_late in {where}", str(data["on_late"]), get_args(LatePolicy))
        found = replace(found, on_late=data["on_late"])
    return found
