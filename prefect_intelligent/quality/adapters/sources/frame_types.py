"""Types of a frame's columns, compared by value with those that a contract declares.

A frame often cannot say what it holds: one missing integer makes a pandas column of floats, dates come as text or as
instants at midnight. Where every value is one of the declared type, and is the same when it is converted there and
back, the column is read as that type. The frame itself stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import duckdb

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.quality.adapters.sources.duckdb import open_memory, quoted, readable
from prefect_intelligent.quality.model import Contract, SchemaDrift

_FAMILIES: Final = {
    "span": "INTERVAL",
    "number": "TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT "
    "INT NUMERIC DECIMAL REAL FLOAT DOUBLE",
    "instant": "DATE TIME DATETIME",  # and with them TIMESTAMP
    "text": "VARCHAR CHAR TEXT STRING ENUM",
    "truth": "BOOL LOGICAL",
    "uuid": "UUID",
    "json": "JSON",
}
_DECLARED: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\(\d{1,9}( *, *\d{1,2})?\))?")
_CLOCK: Final = r"\d\d:\d\d(:\d\d(\.\d{1,9})?)?"
_TEXTS: Final = {
    "DATE": r"\d{4}-\d\d-\d\d",
    "TIME": _CLOCK,
    "TIMESTAMP": rf"\d{{4}}-\d\d-\d\d([T ]{_CLOCK}(Z|[+-]00(:?00)?)?)?",
    "TIMESTAMP WITH TIME ZONE": rf"\d{{4}}-\d\d-\d\d([T ]{_CLOCK}(Z|[+-]\d\d(:?\d\d)?)?)?",
    "UUID": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "JSON": r"(?s).*",
}
"""How a text of another type is written: ISO 8601 for instants. A cast to TIMESTAMP ignores an offset."""
_CALLS: Final = {
    "number": 'frame["{0}"] = pandas.to_numeric(frame["{0}"])',
    "instant": 'frame["{0}"] = pandas.to_datetime(frame["{0}"])',
    "text": 'frame["{0}"] = frame["{0}"].astype("string")',
    "truth": 'frame["{0}"] = frame["{0}"].astype("boolean")',
}
_WHOLE: Final = 'frame["{0}"] = frame["{0}"].astype("Int64")'


def with_casts(dataset: Dataset, contract: Contract) -> Dataset:
    """The dataset, with the types as which columns of its frame are read; unchanged if it is no frame.

    Raises:
        InvalidInputError: The frame has two columns of a name that the contract declares; SQL ignores case.
    """
    if dataset.kind is not DataKind.FRAME:
        return dataset
    columns = {str(c["name"]).lower(): str(c.get("data_type") or "") for c in contract.tree["columns"]}
    names = column_names(dataset.frame)
    low = [name.lower() for name in names]
    if twice := [name for name in names if low.count(name.lower()) > 1 and name.lower() in columns]:
        raise InvalidInputError("data", " and ".join(map(repr, twice)), "columns of one name in SQL; rename one")
    casts: dict[str, str] = {}
    try:
        with open_memory() as con:
            con.register("frame", readable(dataset.frame))
            for name, found, *_ in con.execute("DESCRIBE frame").fetchall():
                wanted = type_named(con, columns.get(name.lower(), ""))
                if wanted is not None and wanted != found and _is_castable(con, name, found, wanted):
                    casts[name] = wanted
    except (duckdb.Error, RuntimeError, ValueError, TypeError):  # the checker says what is wrong with the frame
        return dataset
    return replace(dataset, casts=casts)


def column_names(frame: Any) -> list[str]:
    """Names of the columns of a pandas or Arrow frame."""
    return [str(name) for name in (frame.columns if hasattr(frame, "iloc") else frame.column_names)]


def conversion_hint(drift: SchemaDrift, frame: Any = None) -> str:
    """How to convert the columns of a pandas frame that are not as declared; "" if there is nothing to say.

    Args:
        drift: What differs.
        frame: The frame; a missing column may be its index.
    """
    calls = []
    if set(drift.removed) & {str(name) for name in getattr(getattr(frame, "index", None), "names", ()) if name}:
        calls.append("frame = frame.reset_index()")
    for name, wanted, found in drift.retyped:
        call = _WHOLE if _is_whole(wanted) else _CALLS.get(_family(wanted) or "", "")
        if call and not found.upper().startswith("BLOB"):
            calls.append(call.format(name))
    return "convert what is meant: " + "; ".join(calls) if calls else ""


def type_named(con: duckdb.DuckDBPyConnection, declared: str) -> str | None:
    """DuckDB's name of a declared type; None if it has no such type."""
    if not _DECLARED.fullmatch(declared):
        return None
    try:
        row = con.execute(f"SELECT typeof(TRY_CAST(NULL AS {declared}))").fetchone()
    except duckdb.Error:
        return None
    return None if row is None else str(row[0])


def _family(name: str) -> str | None:
    upper = name.upper()
    return next((family for family, words in _FAMILIES.items() if upper.startswith(tuple(words.split()))), None)


def _is_whole(name: str) -> bool:
    return _family(name) == "number" and "INT" in name.upper()


def _is_castable(con: duckdb.DuckDBPyConnection, name: str, found: str, wanted: str) -> bool:
    """Whether every value of the column is one of the wanted type; a column without values is of any type."""
    column = quoted(name)
    there, back = f"TRY_CAST({column} AS {wanted})", f"CAST({column} AS VARCHAR)"
    text = _TEXTS.get(wanted)
    of_text = _family(found) == "text" and _family(wanted) != "text"
    if of_text and text is not None:
        same = f"{there} IS NOT NULL AND regexp_full_match({back}, '{text}')"
    else:
        same = f"TRY_CAST({there} AS {found}) IS NOT DISTINCT FROM {column}"
    row = con.execute(
        f"SELECT count({column}), count(*) FILTER ({column} IS NOT NULL AND NOT ({same})) FROM frame"
    ).fetchone()
    values, lost = row if row is not None else (0, 1)
    if values == 0:
        return True
    pair = (_family(found), _family(wanted))
    if of_text:
        return lost == 0 and text is not None
    return lost == 0 and pair[0] is not None and (pair[0] == pair[1] or pair == ("number", "truth"))
