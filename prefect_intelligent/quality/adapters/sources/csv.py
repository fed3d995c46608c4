"""Reads CSV files twice, typed and as text: typed rows are checked, texts are written back.

Writing typed rows would change the clean rows of a file (`1.50`, `01/02/2024`, a semicolon). So unchanged fields are
written as the text that was read, with the file's own delimiter, quote and header.
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
    """Format of a CSV file, as DuckDB detects it.

    Attributes:
        delimiter: Between fields.
        quote: Around fields; "" if none.
        escape: Before a quote within a field; "" if none.
        header: Whether the first line names the columns.
        columns: Column names and their detected types.
        formats: Formats of dates and timestamps by DuckDB type; ISO if absent.
    """

    delimiter: str
    quote: str
    escape: str
    header: bool
    columns: Mapping[str, str]
    formats: Mapping[str, str]


def read_csv(path: Path) -> tuple[Any, Any, CsvFormat]:
    """(typed Arrow table, the same rows as text, format of the file).

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
    """Write rows of text in the format of a file."""
    with duckdb.connect(":memory:") as con:
        con.register("clean", text)
        options = f"FORMAT CSV, DELIMITER {literal(form.delimiter)}, HEADER {str(form.header).lower()}"
        options += f", QUOTE {literal(form.quote)}" if form.quote else ""
        options += f", ESCAPE {literal(form.escape)}" if form.quote and form.escape else ""
        con.execute(f"COPY clean TO {literal(str(path))} ({options})")


def as_text(typed: Any, form: CsvFormat) -> Any:
    """Typed rows as text, in the format of a file."""
    with duckdb.connect(":memory:") as con:
        con.register("typed", typed)
        fields = ", ".join(f"{_text_of(quoted(name), name, form)} AS {quoted(name)}" for name in typed.column_names)
        return con.sql(f"SELECT {fields} FROM typed").to_arrow_table()


def rewrite_column(text: Any, before: Any, after: Any, index: int, form: CsvFormat) -> Any:
    """The rows as text, with the values of one column rewritten where `after` differs from `before`.

    Args:
        text: The rows as text.
        before: The same rows, typed.
        after: The same rows, typed, after a change.
        index: Index of the changed column.
        form: Format of the file.
    """
    name = text.column_names[index]
    with duckdb.connect(":memory:") as con:
        for table, rows in (("was", before), ("now", after), ("written", text)):
            con.register(table, rows.select([index]).rename_columns(["v"]))
        new = con.sql(
            f"SELECT CASE WHEN now.v IS DISTINCT FROM was.v THEN {_text_of('now.v', name, form)} ELSE written.v END "
            "FROM now POSITIONAL JOIN was POSITIONAL JOIN written"
        ).to_arrow_table()
        return text.set_column(index, name, new.column(0))


def _text_of(value: str, column: str, form: CsvFormat) -> str:
    """SQL for a value of a column as text."""
    pattern = form.formats.get(form.columns[column])
    return f"strftime({value}, {literal(pattern)})" if pattern else f"CAST({value} AS VARCHAR)"
