"""Sessions that edit datasets: a transaction on a table, the quarantine file of frames, replacing files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.quality.adapters.editing.sql import DUCKDB, POSTGRES, SUFFIX, SqlDialect
from prefect_intelligent.quality.adapters.sources.duckdb import (
    LOCK_PATIENCE_S,
    SourceError,
    connect_patiently,
    literal,
    quoted,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSession:
    """A transaction on the table of a dataset.

    Attributes:
        execute: Executes SQL; the result has `fetchall`.
        source: Quoted name of the table, with its schema.
        target: Quoted name of its quarantine table, with the schema.
        dialect: SQL dialect of the database.
        columns: Function from a quoted table name to column names and their types.
    """

    execute: Callable[..., Any]
    source: str
    target: str
    dialect: SqlDialect
    columns: Callable[[str], dict[str, str]]

    def exists(self, table: str) -> bool:
        """Whether there is a table of that (quoted) name; the transaction stays usable if there is none."""
        schema, name = (part.replace('""', '"') for part in table[1:-1].split('"."'))
        found = self.execute(
            "SELECT count(*) FROM information_schema.tables "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(name)}"
        ).fetchall()
        return bool(found[0][0])


@contextlib.contextmanager
def open_session(dataset: Dataset, table: str, *, keep: bool = True) -> Iterator[EditSession]:
    """A transaction on a DuckDB or PostgreSQL table, committed at the end if `keep`, else rolled back."""
    table = dataset.table or table
    if dataset.kind is DataKind.POSTGRES:
        import psycopg

        schema = dataset.schema or "public"
        try:
            with (
                psycopg.connect(dataset.location, connect_timeout=10, autocommit=True) as con,
                con.transaction(force_rollback=not keep),
            ):
                con.prepare_threshold = 0  # the server then takes one statement at a time
                # No other session may write between finding the rows and moving them.
                con.execute(f"LOCK TABLE {quoted(schema)}.{quoted(table)} IN SHARE ROW EXCLUSIVE MODE".encode())
                yield _session(lambda sql, *a: con.execute(sql.encode(), *a), schema, table, POSTGRES, _pg_columns(con))
        except psycopg.Error as exc:
            raise SourceError(f"{dataset}: {str(exc).splitlines()[0]}") from exc
        return
    schema = dataset.schema or "main"
    try:
        database = connect_patiently(Path(dataset.location))
    except duckdb.Error as exc:
        raise SourceError(f"{dataset}: {str(exc).splitlines()[0]}") from exc
    try:
        database.execute("SET enable_external_access = false")
        database.execute("SET python_enable_replacements = false")
        database.execute("SET lock_configuration = true")
        database.execute("BEGIN")
        yield _session(database.execute, schema, table, DUCKDB, duckdb_columns(database))
        database.execute("COMMIT" if keep else "ROLLBACK")
    except duckdb.Error as exc:
        raise SourceError(f"{dataset}: {str(exc).splitlines()[0]}") from exc
    finally:
        database.close()


def _session(
    execute: Callable[..., Any], schema: str, table: str, dialect: SqlDialect, columns: Callable[[str], dict[str, str]]
) -> EditSession:
    return EditSession(
        execute=execute,
        source=f"{quoted(schema)}.{quoted(table)}",
        target=f"{quoted(schema)}.{quoted(table + SUFFIX)}",
        dialect=dialect,
        columns=columns,
    )


@contextlib.contextmanager
def open_store(store: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for editing frames, with the quarantine file attached as `store` unless it is a dry run."""
    con = duckdb.connect(":memory:")
    try:
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            deadline = time.monotonic() + LOCK_PATIENCE_S
            while True:
                try:
                    con.execute(f"ATTACH {literal(str(store))} AS store")
                    break
                except duckdb.Error as exc:
                    if "lock" not in str(exc).lower() or time.monotonic() > deadline:
                        raise
                    time.sleep(jittered(0.1))
        con.execute("SET enable_external_access = false")
        con.execute("SET python_enable_replacements = false")
        con.execute("SET lock_configuration = true")
        yield con
    except duckdb.Error as exc:
        raise SourceError(f"quarantine: {str(exc).splitlines()[0]}") from exc
    finally:
        con.close()


def duckdb_columns(con: duckdb.DuckDBPyConnection) -> Callable[[str], dict[str, str]]:
    """A function from a quoted table name to column names and their types."""
    return lambda table: {row[0]: row[1] for row in con.execute(f"DESCRIBE {table}").fetchall()}


def _pg_columns(con: Any) -> Callable[[str], dict[str, str]]:
    def columns(table: str) -> dict[str, str]:
        rows = con.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        ).fetchall()
        return dict(rows)

    return columns


def refuse_names(columns: Iterable[str], row: str) -> None:
    """Refuse columns whose names hide the row id of the data source (`row`) or columns of the quarantine.

    Raises:
        SourceError: There is such a column.
    """
    for name in columns:
        if name.lower().startswith("_dq_"):
            raise SourceError(f"column {name!r}: names that begin with _dq_ belong to the quarantine; rename it")
        if name.lower() == row.lower():
            raise SourceError(f"column {name!r} hides the numbers of the rows, which DuckDB keeps under it; rename it")


def refuse_uneditable(session: EditSession) -> None:
    """Refuse a table whose rows cannot be edited one by one.

    Raises:
        SourceError: It is a view or a partitioned table, or `refuse_names` refuses its columns.
    """
    refuse_names(session.columns(session.source), session.dialect.row)
    schema, table = (part.replace('""', '"') for part in session.source[1:-1].split('"."'))
    kinds = session.execute(
        "SELECT table_type FROM information_schema.tables "
        f"WHERE table_schema = {literal(schema)} AND table_name = {literal(table)}"
    ).fetchall()
    if any("VIEW" in kind for (kind,) in kinds):
        raise SourceError(f"{session.source} is a view: rows can be set aside in tables only")
    if session.dialect is POSTGRES:
        parts = session.execute(
            f"SELECT count(*) FROM pg_inherits WHERE inhparent = {literal(session.source)}::regclass"
        ).fetchall()
        if parts[0][0]:
            raise SourceError(f"{session.source} has partitions, whose rows have no common numbers: gate each of them")


def read_parquet(path: Path) -> Any:
    """A Parquet file as an Arrow table, with the metadata of its schema."""
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path).read()


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` by one rename at the end, or is removed after an error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_parquet(path: Path, table: Any) -> None:
    """Replace a Parquet file by one rename."""
    import pyarrow.parquet

    with replace_file(path) as draft:
        pyarrow.parquet.write_table(table, draft)
