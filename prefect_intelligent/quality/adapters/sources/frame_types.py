"""Types of a frame's columns, compared by value with those that a contract declares.

A frame often cannot say what it holds: one missing integer makes a pandas column of floats, dates come as text or as
instants at midnight. Where every value is one of the declared type, and is the same when it is converted there and
back, the column is read as that type. The frame itself stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import duckdb

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.quality.adapters.sources.duckdb import quoted, readable
from prefect_intelligent.quality.model import Contract, SchemaDrift

_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
_INSTANTS: Final = ("DATE", "TIME", "TIMESTAMP")
_DECLARED: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\(\d{1,2}( *, *\d{1,2})?\))?")
_CALLS: Final = {
    "number": 'frame["{0}"] = frame["{0}"].astype("Int64")',
    "instant": 'frame["{0}"] = pandas.to_datetime(frame["{0}"])',
}


def with_casts(dataset: Dataset, contract: Contract) -> Dataset:
    """The dataset, with the types as which columns of its frame are read; unchanged if it is no frame."""
    if dataset.kind is not DataKind.FRAME:
        return dataset
    declared = {str(c["name"]).lower(): str(c["data_type"]) for c in contract.tree["columns"] if c.get("data_type")}
    casts: dict[str, str] = {}
    try:
        with duckdb.connect(":memory:") as con:
            con.register("frame", readable(dataset.frame))
            for name, found, *_ in con.execute("DESCRIBE frame").fetchall():
                wanted = _type_named(con, declared.get(name.lower(), ""))
                if wanted is not None and wanted != found and _is_castable(con, name, found, wanted):
                    casts[name] = wanted
    except (duckdb.Error, RuntimeError, ValueError, TypeError):  # the checker says what is wrong with the frame
        return dataset
    return replace(dataset, casts=casts)


def conversion_hint(drift: SchemaDrift) -> str:
    """How to convert the columns of a pandas frame that are of another type than declared; "" if none is."""
    calls = [_CALLS[family].format(name) for name, wanted, _ in drift.retyped if (family := _family(wanted))]
    return "convert what is meant: " + "; ".join(calls) if calls else ""


def _type_named(con: duckdb.DuckDBPyConnection, declared: str) -> str | None:
    """DuckDB's name of a declared type; None for a type to which nothing is converted."""
    if not _DECLARED.fullmatch(declared):
        return None
    try:
        row = con.execute(f"SELECT typeof(TRY_CAST('' AS {declared}))").fetchone()
    except duckdb.Error:
        return None
    name = None if row is None else str(row[0])
    return name if name is not None and _family(name) else None


def _family(name: str) -> str | None:
    upper = name.upper()
    if upper.startswith((*_NUMBERS, "INT", "NUMERIC", "REAL")):
        return "number"
    return "instant" if upper.startswith(_INSTANTS) else None


def _is_castable(con: duckdb.DuckDBPyConnection, name: str, found: str, wanted: str) -> bool:
    column = quoted(name)
    same = f"CAST(TRY_CAST({column} AS {wanted}) AS {found}) IS NOT DISTINCT FROM {column}"
    row = con.execute(f"SELECT count({column}), count(*) FILTER (NOT ({same})) FROM frame").fetchone()
    values, lost = row if row is not None else (0, 1)
    if values == 0:
        return True
    kind = _family(found) or ("text" if found == "VARCHAR" else None)
    return lost == 0 and (kind == _family(wanted) or (kind == "text" and _family(wanted) == "instant"))
