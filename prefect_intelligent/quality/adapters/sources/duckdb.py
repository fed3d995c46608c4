"""Opens datasets as DuckDB relations: a read-only, locked connection of its own for each verification."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import InvalidInputError, MissingExtraError, PrefectIntelligentError

try:
    import duckdb
except ImportError as exc:
    raise MissingExtraError("checking data", "quality") from exc


LOCK_PATIENCE_S = 20.0


class SourceError(PrefectIntelligentError, RuntimeError):
    """A dataset cannot be opened, read or edited."""


@contextlib.contextmanager
def open_locked(dataset: Dataset, table: str, timeout_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which `table` is the dataset and nothing can be changed.

    Frames and Parquet files are read in place, a CSV file is loaded, a DuckDB file is opened read-only. SQL cannot
    access other files, extensions or variables of the calling Python, and cannot change that configuration.

    Args:
        dataset: What to open; not a PostgreSQL table.
        table: Name of the dataset in SQL; for a DuckDB file the table of that name.
        timeout_s: Queries are interrupted after so many seconds.

    Raises:
        SourceError: It cannot be opened.
    """
    path = Path(dataset.location)
    if dataset.kind is not DataKind.FRAME and not path.is_file():
        raise SourceError(f"{dataset}: no such file")
    config: dict[str, Any] = {"enable_external_access": "false", "python_enable_replacements": "false"}
    try:
        if dataset.kind is DataKind.DUCKDB:
            con = connect_patiently(path, read_only=True, config=config)
        elif dataset.kind is DataKind.CSV:
            con = duckdb.connect(":memory:")
            con.execute(f"CREATE TABLE {quoted(table)} AS FROM read_csv(?)", [str(path)])
            for name, value in config.items():
                con.execute(f"SET {name} = {value}")
        else:
            con = open_memory(config)
            _register(con, table, dataset)
    except (duckdb.Error, RuntimeError, OSError, ValueError, TypeError) as exc:
        hint = "; close the connection that this process has to it" if "different configuration" in str(exc) else ""
        raise SourceError(f"{dataset}: cannot be opened ({_first_line(exc)}{hint})") from exc
    done = threading.Event()

    def interrupt() -> None:
        # Repeatedly, because an interrupt between two queries has no effect.
        if not done.wait(timeout_s):
            while not done.wait(0.05):
                con.interrupt()

    watch = threading.Thread(target=interrupt, name="prefect-intelligent-check", daemon=True)
    try:
        con.execute("SET lock_configuration = true")
        if timeout_s:
            watch.start()
        yield con
    except duckdb.Error as exc:
        raise SourceError(f"{dataset}: {_first_line(exc)}") from exc
    finally:
        done.set()
        if watch.is_alive():
            watch.join()
        con.close()


def _register(con: duckdb.DuckDBPyConnection, table: str, dataset: Dataset) -> None:
    """Make the frame or the Parquet file a table."""
    if dataset.kind is not DataKind.FRAME:
        con.register(table, _parquet(Path(dataset.location)))
        return
    frame = readable(dataset.frame)
    if not dataset.casts:
        con.register(table, frame)
        return
    con.register("dq_uncast", frame)
    names = [row[0] for row in con.execute("DESCRIBE dq_uncast").fetchall()]
    con.execute(f"CREATE TABLE {quoted(table)} AS SELECT {select_list(names, dataset.casts)} FROM dq_uncast")
    con.unregister("dq_uncast")


def open_memory(config: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """An empty database in memory; instants with a time zone are those of UTC there when they lose it."""
    con = duckdb.connect(":memory:", config=dict(config or {}))
    con.execute("SET TimeZone = 'UTC'")
    return con


def connect_patiently(path: Path, **options: Any) -> duckdb.DuckDBPyConnection:
    """A connection to a DuckDB file; waits up to `LOCK_PATIENCE_S` for another process that has it open."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return duckdb.connect(str(path), **options)
        except duckdb.IOException as exc:
            if "lock" not in str(exc).lower() or time.monotonic() > deadline:
                raise
            time.sleep(jittered(0.1))


def readable(frame: Any) -> Any:
    """The frame, or a copy if DuckDB cannot read it in place (e.g. a reversed one) or takes periods for numbers."""
    if not hasattr(frame, "iloc"):
        return frame
    for at, kind in enumerate(frame.dtypes):
        if type(kind).__name__ in ("PeriodDtype", "SparseDtype"):
            column = frame.iloc[:, at]
            dense = column.dt.to_timestamp() if type(kind).__name__ == "PeriodDtype" else column.sparse.to_dense()
            frame = frame.copy(deep=False)
            frame.isetitem(at, dense)
    with duckdb.connect(":memory:") as con:
        try:
            con.register("frame", frame)
            return frame
        except (duckdb.Error, RuntimeError):
            import pyarrow as pa

            with contextlib.suppress(ValueError, TypeError, NotImplementedError, KeyError):
                return pa.Table.from_pandas(frame, preserve_index=False)
            return frame


def select_list(columns: Iterable[str], casts: Mapping[str, str]) -> str:
    """The columns for a SELECT, read as the types of `casts`."""
    return ", ".join(
        f"CAST({quoted(name)} AS {casts[name]}) AS {quoted(name)}" if name in casts else quoted(name)
        for name in columns
    )


def columns_of(con: duckdb.DuckDBPyConnection, table: str, schema: str = "main") -> dict[str, str]:
    """Name and type of the columns of a table, in order; empty if there is no such table."""
    rows = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? "
        "ORDER BY column_index",
        [schema, table],
    ).fetchall()
    return dict(rows)


def tables_of(con: duckdb.DuckDBPyConnection) -> list[str]:
    """All tables and views, as SCHEMA.TABLE where the schema is not the default one."""
    rows = con.execute(
        "SELECT table_schema, table_name FROM information_schema.tables ORDER BY table_schema, table_name"
    ).fetchall()
    return [name if schema == "main" else f"{schema}.{name}" for schema, name in rows]


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier.

    Raises:
        InvalidInputError: It contains a NUL character.
    """
    if "\x00" in name:
        raise InvalidInputError("name", name, "may not hold a NUL character")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _parquet(path: Path) -> Any:
    import pyarrow.dataset

    return pyarrow.dataset.dataset(str(path), format="parquet")


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
