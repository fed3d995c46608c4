"""Reads and lints Soda data contracts: refuses what Soda ignores silently and what must not be executed.

Soda passes a contract with a misspelt key, executes SQL from it unchecked, and resolves environment variables in it.
So a contract is linted before it is used: its YAML (`contracts.yaml`), Soda's own JSON schema, its names, the
attributes that this package reads, and its SQL (`contracts.sql`).
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import InvalidInputError, MissingExtraError, PrefectIntelligentError
from prefect_intelligent.quality.adapters.contracts.sql import check_variables, find_unsafe_sql
from prefect_intelligent.quality.adapters.contracts.yaml import MAX_BYTES, ContractError, read_tree
from prefect_intelligent.quality.model import Contract, check_parameters, parse_action, parse_severity

CHECK_ATTRIBUTES = (
    "severity",
    "remediation",
    "value",
    "statistic",
    "min",
    "max",
    "type",
    "budget_percent",
    "added",
    "keys",
)
"""Attributes of a check that this package reads; other keys are the user's."""

UNSAFE_NAME = re.compile(r"[\"'`;\\\x00-\x1f$]")


def load_contract(source: str | Path | Contract) -> Contract:
    """Read and lint a contract from a file, or from its text if `source` has several lines.

    Raises:
        ContractError: It cannot be used; names the place and the problem.
    """
    if isinstance(source, Contract):
        return source
    if not isinstance(source, str | Path):
        raise ContractError("contract", type(source).__name__, "must be the path of a YAML file, or its text")
    if isinstance(source, str) and "\n" in source:
        return parse_contract(source, "contract")
    return parse_contract(read_contract(Path(source)), str(source))


def read_contract(path: Path) -> str:
    """The text of a contract file, at most one byte more than is allowed.

    Raises:
        ContractError: It cannot be read as text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        return raw.decode("utf-8-sig", errors="replace" if len(raw) > MAX_BYTES else "strict")
    except OSError as exc:
        raise ContractError("contract", str(path), f"cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # not UTF-8, or a NUL in the path
        raise ContractError("contract", str(path), "must be the path of UTF-8 text") from exc


def parse_contract(text: str, source: str) -> Contract:
    """Lint the text of a contract; see `load_contract`."""
    tree = read_tree(text, source)
    for finding in _findings(tree, source):
        raise finding
    # Soda wants the key, which a contract of checks on the dataset alone does not need.
    return Contract(
        source=source, text=text, dataset=tree["dataset"], tree={**tree, "columns": tree.get("columns") or []}
    )


def lint(text: str, source: str) -> list[ContractError]:
    """All problems of a contract, in the order to fix them; empty if it can be used."""
    try:
        tree = read_tree(text, source)
    except ContractError as exc:
        return [exc]
    return _findings(tree, source)


def _findings(tree: dict[str, Any], source: str) -> list[ContractError]:
    found = list(_against_schema(tree, source))
    if found:
        return found
    checks = list(_checks(tree))
    if not tree.get("columns") and any(kind == "schema" for _, kind, _ in checks):
        return [
            ContractError(
                f"{source}: columns", "none", "a schema check compares the dataset with its columns: list them"
            )
        ]
    if not checks:
        return [ContractError(f"{source}: checks", "none", "a contract without checks would pass on anything")]
    found += _names(tree, source)
    for where, kind, body in checks:
        found += _attributes(body.get("attributes") or {}, f"{source}: {where}", kind)
    found += [ContractError(f"{source}: {place}", sql, problem) for place, sql, problem in find_unsafe_sql(tree)]
    try:
        check_variables(None, tree)
    except InvalidInputError as exc:
        found.append(ContractError(f"{source}: variables", exc.got, f"the default of a {exc.what} {exc.expected}"))
    return found


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    """Soda's JSON schema, read without importing Soda and completed with keys that Soda reads but does not declare."""
    spec = importlib.util.find_spec("soda_core")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("checking a contract", "quality")
    folder = Path(spec.submodule_search_locations[0]) / "contracts"
    found: dict[str, Any] = json.loads((folder / "soda_data_contract_json_schema_1_0_0.json").read_text())
    _complete(found)
    found["required"] = [key for key in found["required"] if key != "columns"]
    return found


def _complete(node: Any) -> None:
    """Allow `attributes` and `filter` in `failed_rows` and `metric` checks, where the schema lacks them."""
    if isinstance(node, list):
        for item in node:
            _complete(item)
    elif isinstance(node, dict):
        for kind in ("failed_rows", "metric"):
            for option in node.get("properties", {}).get(kind, {}).get("oneOf", []):
                if "properties" in option:
                    option["properties"].setdefault("attributes", {"$ref": "#/$defs/attributes"})
                    option["properties"].setdefault("filter", {"type": "string"})
        for item in node.values():
            _complete(item)


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_schema())


@lru_cache(maxsize=1)
def _check_keys() -> dict[str, dict[str, set[str]]]:
    """Known check types and their keys, for the dataset ("checks") and for a column ("columns")."""
    known: dict[str, dict[str, set[str]]] = {"checks": {}, "columns": {}}

    def walk(node: Any, level: str) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item, level)
        elif isinstance(node, dict):
            for name, body in node.get("properties", {}).items():
                options = [body, *body.get("oneOf", [])]
                keys = {key for option in options for key in option.get("properties", {})}
                known[level].setdefault(name, set()).update(keys)
            for key in ("anyOf", "oneOf", "allOf"):
                walk(node.get(key, []), level)

    properties = _schema()["properties"]
    walk(properties["checks"]["items"], "checks")
    for part in properties["columns"]["items"]["allOf"]:
        if "checks" in part.get("properties", {}):
            walk(part["properties"]["checks"]["items"], "columns")
    return known


def _against_schema(tree: dict[str, Any], source: str) -> Iterator[ContractError]:
    """Violations of Soda's schema; misspelt checks and keys first, as the schema's own messages do not name them."""
    typos = False
    for level, where, check in _check_items(tree):
        known = _check_keys()[level]
        if not isinstance(check, dict) or len(check) != 1:
            typos = True
            yield ContractError(f"{source}: {where}", check, f"must be one check: {', '.join(sorted(known))}")
            continue
        ((kind, body),) = check.items()
        if kind not in known:
            typos = True
            yield ContractError(f"{source}: {where}", kind, f"unknown check; {_nearest(kind, known)}")
            continue
        for key in body or {} if isinstance(body, dict | None) else {}:
            if (old := _old_between(key, body[key])) is not None:
                typos = True
                yield ContractError(
                    f"{source}: {where}.{kind}.{key}", body[key], f"Soda 4 writes it as threshold: {old}"
                )
            elif known[kind] and key not in known[kind]:
                typos = True
                yield ContractError(f"{source}: {where}.{kind}", key, f"unknown key; {_nearest(key, known[kind])}")
    if typos:
        return
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(tree))
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path) or "the top level"
        got = error.instance if isinstance(error.instance, str | int | float) else type(error.instance).__name__
        yield ContractError(f"{source}: {place}", got, error.message[:500])


def _old_between(key: object, value: object) -> str | None:
    """The form of today for a range that is written as a list, as Soda did before version 4; None for anything else."""
    if key == "threshold" and isinstance(value, dict):
        return next((old for name, held in value.items() if (old := _old_between(name, held)) is not None), None)
    new = {"must_be_between": "must_be_between", "must_be_not_between": "must_be_not_between"}
    new["must_not_be_between"] = "must_be_not_between"
    if key not in new or not isinstance(value, list):
        return None
    low, high = (*value, "LOW", "HIGH")[:2] if len(value) == 2 else ("LOW", "HIGH")
    return f"{{{new[str(key)]}: {{greater_than_or_equal: {low}, less_than_or_equal: {high}}}}}"


def _nearest(word: object, known: Any) -> str:
    near = difflib.get_close_matches(str(word), sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(known))


def _check_items(tree: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(level, place, check) for every entry under `checks`."""
    checks, columns = tree.get("checks"), tree.get("columns")
    for i, check in enumerate(checks if isinstance(checks, list) else []):
        yield "checks", f"checks[{i}]", check
    for column in columns if isinstance(columns, list) else []:
        own = column.get("checks") if isinstance(column, dict) else None
        for i, check in enumerate(own if isinstance(own, list) else []):
            yield "columns", f"columns.{column.get('name')}.checks[{i}]", check


def _checks(tree: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for _, where, check in _check_items(tree):
        ((kind, body),) = check.items()
        yield where, kind, body or {}


def _names(tree: dict[str, Any], source: str) -> Iterator[ContractError]:
    parts = str(tree["dataset"]).split("/")
    names = [("dataset", part) for part in parts] + [("column", str(c["name"])) for c in tree.get("columns") or ()]
    if len(parts) < 2 or not all(parts):
        yield ContractError(f"{source}: dataset", tree["dataset"], "must be data source/.../table, e.g. ds/main/orders")
    columns = [name.lower() for kind, name in names if kind == "column"]
    for name in sorted({c for c in columns if columns.count(c) > 1}):
        yield ContractError(f"{source}: columns", name, "stands twice (case does not matter in SQL)")
    for kind, name in names:
        if UNSAFE_NAME.search(name):
            yield ContractError(f"{source}: {kind}", name, "a name may not hold quotes, ;, \\, $ or control characters")


def _is_name(text: str) -> bool:
    return bool(text) and not UNSAFE_NAME.search(text)


def _attributes(attributes: Mapping[str, Any], where: str, kind: str) -> Iterator[ContractError]:
    for key in attributes:
        near = difflib.get_close_matches(str(key), CHECK_ATTRIBUTES, n=1, cutoff=0.75)
        if key not in CHECK_ATTRIBUTES and near:
            yield ContractError(f"{where}.attributes", key, f"did you mean {near[0]!r}?")
    try:
        if "severity" in attributes:
            parse_severity(attributes["severity"], where)
        action = parse_action(attributes["remediation"], where) if "remediation" in attributes else None
        check_parameters(action, attributes, where)
        budget = attributes.get("budget_percent", 0)
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 <= budget <= 100:
            yield ContractError(f"{where}.attributes.budget_percent", budget, "must be a number from 0 to 100")
        added = attributes.get("added", "warn")
        keys = attributes.get("keys", ["a"])
        if kind != "failed_rows" and "keys" in attributes:
            yield ContractError(f"{where}.attributes.keys", keys, "on a failed_rows check with a query only")
        elif not isinstance(keys, list) or not keys or not all(isinstance(k, str) and _is_name(k) for k in keys):
            yield ContractError(f"{where}.attributes.keys", keys, "must be a list of columns that name one row")
        if added not in ("observe", "warn", "block") or ("added" in attributes and kind != "schema"):
            yield ContractError(f"{where}.attributes.added", added, "on a schema check: observe, warn or block")
    except PrefectIntelligentError as exc:
        yield ContractError(where, dict(attributes), str(exc))
