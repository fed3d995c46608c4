"""CSV files, read twice: typed, to decide about rows, and as the text that stands there, to keep what is not changed.

DuckDB's types would rewrite the clean rows of a file (`1.50`, `01/02/2024`, a semicolon): what is written back is the
text, with the file's own delimiter, quote and header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prefect_intelligent.quality.adapters.sources.duckdb import literal, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """How a file is written.

    Attributes:
        delimiter: Between fields.
        quote: Around fields; "" if none.
        escape: Before a quote within a field.
        header: Whether the first line names the columns.
        columns: Their names, with the types they seem to have.
        formats: Of dates and timestamps, by DuckDB type; absent if ISO.
    """

    delimiter: str
    quote: str
    escape: str
    header: bool
    columns: Mapping[str, str]
    formats: Mapping[str, str]


def read_csv(path: Path) -> tuple[Any, Any, CsvFormat]:
    """(typed Arrow table, the same rows as text, form of the file).

    Raises:
        duckdb.Error: It cannot be read.
    """
    with duckdb.connect(":memory:") as con:
        (found,) = con.execute(
            "SELECT Delimiter, Quote, Escape, HasHeader, Columns, SkipRows, DateFormat, TimestampFormat "
            "FROM sniff_csv(?)",
            [str(path)],
        ).fetchall()
        delimiter, quote, escape, header, columns, skipped, date, timestamp = found
        none = ("", "(empty)", "\x00", None)
        form = CsvFormat(
            delimiter=delimiter,
            quote="" if quote in none else quote,
            escape="" if escape in none else escape,
            header=bool(header),
            columns={column["name"]: column["type"] for column in columns},
            formats={k: str(f) for k, f in (("DATE", date), ("TIMESTAMP", timestamp)) if f not in none},
        )
        typed = con.read_csv(str(path)).to_arrow_table()
        names = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in form.columns)
        text = con.sql(
            f"FROM read_csv({literal(str(path))}, auto_detect = false, delim = {literal(form.delimiter)}, "
            f"quote = {literal(form.quote)}, escape = {literal(form.escape)}, header = {str(form.header).lower()}, "
            f"skip = {int(skipped or 0)}, columns = {{{names}}})"
        ).to_arrow_table()
    return typed, text, form


def write_csv(path: Path, text: Any, form: CsvFormat) -> None:
    """Write rows of text in the form of a file."""
    with duckdb.connect(":memory:") as con:
        con.register("clean", text)
        options = f"FORMAT CSV, DELIMITER {literal(form.delimiter)}, HEADER {str(form.header).lower()}"
        options += f", QUOTE {literal(form.quote)}" if form.quote else ""
        options += f", ESCAPE {literal(form.escape)}" if form.quote and form.escape else ""
        con.execute(f"COPY clean TO {literal(str(path))} ({options})")


def as_text(typed: Any, form: CsvFormat) -> Any:
    """Typed rows as they would stand in the file."""
    with duckdb.connect(":memory:") as con:
        con.register("typed", typed)
        fields = ", ".join(f"{_said(quoted(name), name, form)} AS {quoted(name)}" for name in typed.column_names)
        return con.sql(f"SELECT {fields} FROM typed").to_arrow_table()


def rewrite_column(text: Any, before: Any, after: Any, place: int, form: CsvFormat) -> Any:
    """The text with the values of one column that differ between two typed tables of the same rows written anew."""
    name = text.column_names[place]
    with duckdb.connect(":memory:") as con:
        for table, rows in (("was", before), ("now", after), ("said", text)):
            con.register(table, rows.select([place]).rename_columns(["v"]))
        new = con.sql(
            f"SELECT CASE WHEN now.v IS DISTINCT FROM was.v THEN {_said('now.v', name, form)} ELSE said.v END "
            "FROM now POSITIONAL JOIN was POSITIONAL JOIN said"
        ).to_arrow_table()
        return text.set_column(place, name, new.column(0))


def _said(value: str, column: str, form: CsvFormat) -> str:
    """SQL for a value of a column as text."""
    pattern = form.formats.get(form.columns[column])
    return f"strftime({value}, {literal(pattern)})" if pattern else f"CAST({value} AS VARCHAR)"
