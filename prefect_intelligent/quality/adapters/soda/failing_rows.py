"""Derives the failing rows of a check from Soda's internal objects and the contract.

Rows are selected by the condition with which Soda counts them, so the two cannot disagree. Where Soda counts with a
query of its own (reference data) or of the user (`query`, `keys_query`), an equivalent condition on one row is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect_intelligent.quality.adapters.sources.duckdb import quoted
from prefect_intelligent.quality.model import FailingRows

ROWS_FAILED = {
    "missing": "missing_count",
    "invalid": "invalid_count",
    "duplicate": "duplicate_count",
    "failed_rows": "failed_rows_count",
}
"""Kind of check to the name of its count of failing rows."""


def failing_rows(impl: Any, contract_impl: Any, attributes: Mapping[str, Any]) -> FailingRows | None:
    """The failing rows of a check.

    Args:
        impl: Soda's object of the check.
        contract_impl: Soda's object of the contract.
        attributes: Attributes of the check; `keys` names the columns by which a query identifies rows.

    Returns:
        None if the rows cannot be selected, or if Soda's internal objects have changed.
    """
    try:
        render: Callable[[Any], str] = contract_impl.data_source_impl.sql_dialect.build_expression_sql
        scope = [f"({impl.scope.filter})"] if impl.scope.filter else []
        if impl.type == "duplicate":
            return _duplicates(impl, scope, render)
        if impl.type == "failed_rows" and (impl.is_query_check() or impl.is_keys_query_check()):
            return _by_key(impl.failed_rows_check_yaml, attributes.get("keys") or ())
        if impl.type == "invalid" and impl.missing_and_validity.has_reference_data():
            return _without_reference(impl, scope, render)
        expression = getattr(impl, ROWS_FAILED[impl.type] + "_metric_impl").sql_condition_expression()
        return None if expression is None else FailingRows(predicate=render(expression), scope=" AND ".join(scope))
    except (AttributeError, KeyError, TypeError):
        return None


def _duplicates(impl: Any, scope: list[str], render: Callable[[Any], str]) -> FailingRows:
    columns = getattr(impl, "column_impl", None)
    keys = [str(columns.column_yaml.name)] if columns is not None else list(impl.check_yaml.columns)
    if impl.check_yaml.filter:
        scope.append(f"({impl.check_yaml.filter})")
    if columns is not None:
        missing = impl.missing_and_validity.is_missing_expr(impl.column_expression)
        scope.append(f"NOT ({render(missing)})")
    return FailingRows(keys=tuple(keys), scope=" AND ".join(scope))


def _by_key(check: Any, keys: Any) -> FailingRows | None:
    """The rows whose key the query returns; a key with a NULL in it matches no row."""
    if not keys:
        return None
    columns = ", ".join(quoted(str(key)) for key in keys)
    query = str(check.query or check.keys_query).strip().rstrip(";")
    return FailingRows(predicate=f"({columns}) IN (SELECT {columns} FROM ({query}) AS dq_failing)")


def _without_reference(impl: Any, scope: list[str], render: Callable[[Any], str]) -> FailingRows:
    """The rows whose value is not missing and not among those of the reference dataset."""
    reference = impl.missing_and_validity.valid_reference_data
    if impl.check_yaml.filter:
        scope.append(f"({impl.check_yaml.filter})")
    column, missing = impl.column_expression, impl.missing_and_validity.is_missing_expr(impl.column_expression)
    table = ".".join(quoted(str(part)) for part in (*(reference.dataset_prefix or ()), reference.dataset_name))
    value = quoted(str(reference.column))
    unknown = f"{render(column)} NOT IN (SELECT {value} FROM {table} WHERE {value} IS NOT NULL)"
    return FailingRows(predicate=f"NOT ({render(missing)}) AND {unknown}", scope=" AND ".join(scope))
