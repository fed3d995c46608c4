"""Profiles a dataset and writes a first contract that passes on it; what is only inferred from the data warns."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.quality.adapters.contracts.lint import UNSAFE_NAME
from prefect_intelligent.quality.adapters.contracts.yaml import is_literal_text
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError, columns_of, open_locked, quoted, tables_of

_ENUM_VALUES = 20
_NUMBER = re.compile(
    r"u?(tiny|small|big|huge)?int(eger)?|double( precision)?|float|real|(decimal|numeric)(\(.*\))?", re.I
)
_ORDERED = re.compile(r"(var)?char|character|text|date|time", re.I)
"""Types with min and max in every data source; columns of other types are cast to text first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """Profile of one column.

    Attributes:
        name: Name of the column.
        type: Type in the data source.
        missing: Number of NULLs.
        distinct: Number of distinct values.
        low: Smallest value, as text; None without values.
        high: Largest value, as text; None without values.
        values: All values, sorted, of a text column with at most 20 distinct values; else empty.
    """

    name: str
    type: str
    missing: int
    distinct: int
    low: str | None
    high: str | None
    values: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in ("name", "type", "missing", "distinct", "low", "high", "values")}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProfile:
    """Profile of a dataset.

    Attributes:
        table: Name of the table.
        rows: Number of rows.
        columns: Profiles of the columns, in order.
    """

    table: str
    rows: int
    columns: tuple[ColumnProfile, ...]


@contextlib.contextmanager
def _opened(dataset: Dataset, table: str) -> Iterator[tuple[Any, str]]:
    """(connection, quoted table): a read-only connection to the dataset."""
    if dataset.kind is DataKind.POSTGRES:
        from prefect_intelligent.quality.adapters.sources.postgres import open_read_only

        with open_read_only(dataset, 300.0) as source:
            yield source, f"{quoted(dataset.schema or 'public')}.{quoted(table)}"
        return
    with open_locked(dataset, table, 300.0) as con:
        yield con, f"{quoted(dataset.schema or 'main')}.{quoted(table)}"


def profile(dataset: Dataset) -> TableProfile:
    """Profile every column of a dataset.

    Raises:
        SourceError: It cannot be opened, or it has no such table.
        InvalidInputError: The dataset is a database and names no table.
    """
    table = dataset.table or ("" if dataset.kind is DataKind.DUCKDB else Path(dataset.location).stem or "data")
    with _opened(dataset, table or "data") as (con, source):
        if isinstance(con, duckdb.DuckDBPyConnection):
            if not table:
                raise InvalidInputError("data", str(dataset), f"add ::TABLE, one of: {', '.join(tables_of(con))}")
            columns = columns_of(con, table, dataset.schema or "main")
            execute: Any = con.execute
        else:
            columns = con.columns(dataset.schema or "public", table)
            execute = con.connection.execute
        if not columns:
            raise SourceError(f"{dataset}: no table {table!r}")
        rows = int(execute(f"SELECT count(*) FROM {source}").fetchall()[0][0])
        found = tuple(_column(execute, source, name, kind) for name, kind in columns.items())
    return TableProfile(table=table, rows=rows, columns=found)


def _column(execute: Any, source: str, name: str, kind: str) -> ColumnProfile:
    column = quoted(name)
    value = column if _NUMBER.fullmatch(kind) or _ORDERED.match(kind) else f"CAST({column} AS VARCHAR)"
    missing, distinct, low, high = execute(
        f"SELECT count(*) - count({column}), count(DISTINCT {value}), "
        f"CAST(min({value}) AS VARCHAR), CAST(max({value}) AS VARCHAR) FROM {source}"
    ).fetchall()[0]
    values: tuple[str, ...] = ()
    if 0 < distinct <= _ENUM_VALUES and ("CHAR" in kind.upper() or kind.lower() == "text"):
        rows = execute(
            f"SELECT DISTINCT {column} FROM {source} WHERE {column} IS NOT NULL ORDER BY {column}"
        ).fetchall()
        values = tuple(str(row[0]) for row in rows)
    return ColumnProfile(
        name=name, type=kind, missing=int(missing), distinct=int(distinct), low=low, high=high, values=values
    )


def new_contract(found: TableProfile, schema: str = "main") -> str:
    """The YAML of a contract that passes on the profiled data.

    It requires the columns, their types and rows; no NULLs where there were none; and unique values where they were
    unique in a column that is named like a key. Enumerations and ranges are inferred from one profile: they only warn.
    All checks of columns carry `generated: true`.
    """
    unsafe = [c.name for c in found.columns if UNSAFE_NAME.search(c.name)]
    if unsafe:
        raise InvalidInputError("column", unsafe[0], "a contract cannot name it: quotes, ;, \\, $ are not allowed")
    inferred = {"severity": "minor", "generated": True}
    columns: list[dict[str, Any]] = []
    for column in found.columns:
        entry: dict[str, Any] = {"name": column.name, "data_type": _plain_type(column.type)}
        checks: list[dict[str, Any]] = []
        if found.rows and not column.missing:
            checks.append({"missing": {"attributes": {"generated": True}}})
        if found.rows > 1 and column.distinct == found.rows and _looks_like_a_key(column.name):
            checks.append({"duplicate": {"attributes": {"generated": True}}})
        if column.values and all(len(value) <= 100 and is_literal_text(value) for value in column.values):
            threshold = {"level": "warn", "must_be": 0}
            checks.append(
                {"invalid": {"valid_values": list(column.values), "threshold": threshold, "attributes": dict(inferred)}}
            )
        elif (limits := _range(column)) is not None:
            low, high = limits
            margin = (high - low) or abs(high) or 1.0
            body: dict[str, Any] = {
                "valid_min": 0 if low >= 0 else low - margin,
                "valid_max": high + margin,
                "threshold": {"level": "warn", "must_be": 0},
                "attributes": dict(inferred),
            }
            checks.append({"invalid": body})
        if checks:
            entry["checks"] = checks
        columns.append(entry)
    tree = {
        "dataset": f"ds/{schema}/{UNSAFE_NAME.sub('_', found.table)}",
        "checks": [{"schema": {"allow_other_column_order": True}}, {"row_count": {"threshold": _min_rows(found)}}],
        "columns": columns,
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _range(column: ColumnProfile) -> tuple[float, float] | None:
    """Smallest and largest value of a column of finite numbers; None for other columns."""
    if column.low is None or column.high is None or not _NUMBER.fullmatch(column.type):
        return None
    low, high = float(column.low), float(column.high)
    return (low, high) if math.isfinite(2 * low) and math.isfinite(2 * high) else None


def _min_rows(found: TableProfile) -> dict[str, int]:
    return {"must_be_greater_than": 0} if found.rows else {"must_be_greater_than_or_equal": 0}


def _looks_like_a_key(name: str) -> bool:
    low = name.lower()
    return low in ("id", "key", "uuid", "code") or low.endswith(("_id", "_key", "_uuid", "_code", "id"))


def _plain_type(kind: str) -> str:
    """The type without its parameters, as Soda compares it."""
    return kind.split("(")[0].strip().lower()
