"""Rules about interfaces: columns, types and ranges of datasets, and parameters of flows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prefect_intelligent.domain.objective import run_cost
from prefect_intelligent.pipelines.conflicts.findings import Finding
from prefect_intelligent.pipelines.conflicts.start_times import Calendar
from prefect_intelligent.pipelines.deployments import ColumnSpec, DeploymentCall, DeploymentNode, Inventory, TableSchema
from prefect_intelligent.pipelines.graph import Graph

_FAMILIES = (
    {"int", "integer", "bigint", "smallint", "tinyint", "int64", "int32"},
    {"float", "double", "double precision", "real", "decimal", "numeric", "number", "float64"},
    {"str", "string", "text", "varchar", "character varying", "char"},
    {"timestamp", "datetime", "timestamp without time zone", "timestamp_ns"},
    {"bool", "boolean"},
)
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_NOT_CONSTRAINTS = frozenset({"type", "title", "default", "position", "description"})


def same_type(one: str, other: str) -> bool:
    """Return whether two type names of different SQL dialects mean the same; lengths in brackets are ignored."""
    a, b = (name.lower().split("(")[0].strip() for name in (one, other))
    return a == b or any(a in family and b in family for family in _FAMILIES)


def unmet_expectations(promised: TableSchema, expected: TableSchema) -> list[str]:
    """Return what `expected` requires and `promised` does not guarantee, one phrase each."""
    found = []
    for name, want in sorted(expected.items()):
        have = promised.get(name)
        if have is None:
            found.append(f"column {name} is gone")
            continue
        if want.type is not None and have.type is not None and not same_type(want.type, have.type):
            found.append(f"column {name} is {have.type}, expected {want.type}")
        if want.minimum is not None and (have.minimum is None or have.minimum < want.minimum):
            found.append(f"column {name} may go below {want.minimum:g}")
        if want.maximum is not None and (have.maximum is None or have.maximum > want.maximum):
            found.append(f"column {name} may go above {want.maximum:g}")
    return found


def contract_break(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A reader that expects of a dataset what its producer's contract does not promise."""
    for name, reader in sorted(inventory.nodes.items()):
        for dataset, expected in sorted(reader.expects.items()):
            for writer_name in graph.writers.get(dataset, ()):
                writer = inventory.nodes.get(writer_name)
                if writer is None or dataset not in writer.promises:
                    continue
                broken = unmet_expectations(writer.promises[dataset], expected)
                if broken:
                    cost = run_cost(
                        inventory.prices, held_s=reader.mean_s, failed=True, failure_usd=reader.terms.failure_usd
                    )
                    yield Finding(
                        rule="contract-break",
                        subjects=tuple(sorted((name, writer_name, dataset))),
                        evidence=f"{name} reads {dataset} of {writer_name}: {'; '.join(broken)}",
                        advice=f"keep the promise in the contract of {writer_name}, or change {name} first",
                        cost_usd=cost.total_usd,
                    )


def parameter_errors(
    schema: Mapping[str, Any], given: Mapping[str, Any], *, complete: bool, unknown: Collection[str] = ()
) -> list[str]:
    """Return the errors of parameters against a flow's schema, one phrase each; empty if they are valid.

    Args:
        schema: JSON schema as Prefect stores it, with `properties` and `required`.
        given: Parameters; text with a Jinja template is valid for every type.
        complete: Whether `given` holds all parameters, so that a missing required one is an error.
        unknown: Names of further parameters whose values are not known yet.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    names = {*given, *unknown}
    open_ended = bool(schema.get("additionalProperties"))
    found = [f"there is no parameter {name}" for name in sorted(names) if name not in properties and not open_ended]
    if complete:
        found += [f"parameter {name} is required" for name in sorted(schema.get("required", ())) if name not in names]
    for name, value in sorted(given.items()):
        templated = isinstance(value, str) and ("{{" in value or "{%" in value)
        if name not in properties or value is None or templated:
            continue
        if isinstance(value, Mapping) and "__prefect_kind" in value:  # a template or a block, resolved later
            continue
        if error := _schema_error(properties[name], value, schema):
            found.append(f"parameter {name} {error}")
    return found


def _schema_error(wanted: Mapping[str, Any], value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return why a value is invalid for one property of a schema; None if it is valid."""
    kind = wanted.get("type")
    if isinstance(kind, str) and kind in _JSON_TYPES:
        fits = isinstance(value, _JSON_TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")
        if not fits and not (kind == "integer" and isinstance(value, float) and value.is_integer()):
            return f"must be {kind}, got {type(value).__name__}"
        if not wanted.keys() - _NOT_CONSTRAINTS:
            return None
    from jsonschema import Draft202012Validator

    resolved = {**wanted, **{key: schema[key] for key in ("definitions", "$defs") if key in schema}}
    error = next(Draft202012Validator(resolved).iter_errors(value), None)
    if error is None:
        dated = isinstance(value, str) and str(wanted.get("format")).startswith("date") and not _is_instant(value)
        return f"must be a {wanted['format']}, got {value!r}" if dated else None
    kinds = sorted(
        {str(item.get("type") or item.get("$ref", "").rpartition("/")[2]) for item in wanted.get("anyOf", ())}
    )
    wants = f"must be {' or '.join(kinds)}, got {type(value).__name__}" if kinds else error.message
    return wants if len(wants) <= 160 else wants[:157] + "..."


def _is_instant(text: str) -> bool:
    """Return whether pydantic would parse the text as a date or an instant."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return text.replace(".", "", 1).isdigit()
    return True


def parameter_break(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Defaults, schedules, calls and automations whose parameters do not fit the flow they start."""
    calls: dict[str, list[DeploymentCall]] = {}
    for call in inventory.calls:
        calls.setdefault(call.callee, []).append(call)
    for name, node in sorted(inventory.nodes.items()):
        if node.schema is None:
            continue
        for where, parameters, unknown in _starts_of(node, calls.get(name, ())):
            given = {key: value for key, value in {**node.parameters, **parameters}.items() if key not in unknown}
            if errors := parameter_errors(node.schema, given, complete=True, unknown=unknown):
                yield Finding(
                    rule="parameter-break",
                    subjects=tuple(sorted({name, *([where] if where in inventory.nodes else [])})),
                    evidence=f"{where} starts {name}: {'; '.join(errors)}",
                    advice=f"give the parameter in {where}, or give it a default in the flow",
                    cost_usd=node.terms.failure_usd or None,
                )


def _starts_of(
    node: DeploymentNode, calls: Iterable[DeploymentCall]
) -> Iterator[tuple[str, Mapping[str, Any], Collection[str]]]:
    """Yield what starts a deployment: its name, the known parameters, and the names of unknown ones."""
    for schedule in node.active_schedules:
        yield f"schedule {schedule}", schedule.parameters, ()
    for call in calls:
        if call.parameters is not None:
            yield call.caller, call.parameters, call.unknown


def parse_columns(columns: Mapping[str, Any]) -> dict[str, ColumnSpec]:
    """Parse the columns of the project file: a type name, or a table with `type`, `min` and `max`."""
    shape = {}
    for name, value in columns.items():
        if isinstance(value, str):
            shape[name] = ColumnSpec(type=value.lower())
        elif isinstance(value, Mapping):
            kind = value.get("type")
            shape[name] = ColumnSpec(
                type=None if kind is None else str(kind).lower(), minimum=value.get("min"), maximum=value.get("max")
            )
        else:
            shape[name] = ColumnSpec()
    return shape
