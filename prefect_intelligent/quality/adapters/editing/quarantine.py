"""Lists, shows and releases quarantined rows. Nothing is deleted: released rows are kept with state "released"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.quality.adapters.editing.sessions import (
    EditSession,
    open_session,
    read_parquet,
    replace_file,
    write_parquet,
)
from prefect_intelligent.quality.adapters.editing.sql import META, SUFFIX
from prefect_intelligent.quality.adapters.sources.csv import as_text, read_csv, write_csv
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError, literal, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineBatch:
    """Rows that one run has quarantined for the same reasons.

    Attributes:
        table: The dataset's table.
        run_id: The run.
        at: When they were quarantined, UTC.
        state: held, released or repaired.
        reasons: Ids of the failed checks.
        rows: Number of rows.
    """

    table: str
    run_id: str
    at: str
    state: str
    reasons: tuple[str, ...]
    rows: int

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in ("table", "run_id", "at", "state", "reasons", "rows")}


def batches(dataset: Dataset) -> tuple[QuarantineBatch, ...]:
    """The quarantined rows of a dataset, or of all tables of a database if no table is named; oldest first.

    Raises:
        SourceError: It cannot be read.
    """
    found: list[QuarantineBatch] = []
    place = _place(dataset)
    for table in _tables(place):
        with open_session(place, table, keep=False) as session:
            rows = session.execute(
                f"SELECT _dq_run_id, CAST(_dq_at AS VARCHAR), _dq_state, _dq_reasons, count(*) FROM {session.target} "
                "GROUP BY 1, 2, 3, 4 ORDER BY 2, 1, 3, 4"
            ).fetchall()
        found += [
            QuarantineBatch(table=table, run_id=run, at=at, state=state, reasons=tuple(reasons), rows=int(n))
            for run, at, state, reasons, n in rows
        ]
    return tuple(found)


def rows(dataset: Dataset, *, run_id: str | None = None, limit: int = 20) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Column names and quarantined rows of one table.

    Raises:
        SourceError: It cannot be read.
    """
    place = _place(dataset)
    with open_session(place, _only_table(place), keep=False) as session:
        columns = session.columns(session.target)
        where = f"WHERE _dq_run_id = {literal(run_id)}" if run_id else ""
        names = ", ".join(quoted(c) for c in columns)
        found = session.execute(
            f"SELECT {names} FROM {session.target} {where} ORDER BY _dq_at, _dq_id LIMIT {int(limit)}"
        ).fetchall()
    return tuple(columns), [list(row) for row in found]


def release(
    dataset: Dataset,
    *,
    ids: Sequence[str] = (),
    run_id: str | None = None,
    corrections: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> int:
    """Move held rows back into the dataset, with corrected values if given; returns how many.

    Args:
        dataset: The dataset they came from.
        ids: `_dq_id` of single rows; empty is all, or the only one if it is corrected.
        run_id: Only rows of this run; None is all.
        corrections: Column to the value that all released rows get.
        dry_run: Count the rows and change nothing.

    Raises:
        UnknownNameError: A corrected column does not exist.
        InvalidInputError: The dataset is a frame, or a database that names no table; or several rows would get the
            same correction without being named.
        SourceError: It cannot be written.
    """
    if dataset.kind is DataKind.FRAME:
        raise InvalidInputError("data", "a frame", "rows of a frame go back by reading them from the quarantine file")
    place = _place(dataset)
    table = _only_table(place)
    with open_session(place, table, keep=not dry_run) as session:
        columns = [c for c in session.columns(session.target) if c not in META]
        for name in corrections or {}:
            if name not in columns:
                raise UnknownNameError("column", name, columns)
        where = "_dq_state = 'held'"
        if ids:
            where += f" AND _dq_id IN ({', '.join(literal(i) for i in ids)})"
        if run_id:
            where += f" AND _dq_run_id = {literal(run_id)}"
        count = int(session.execute(f"SELECT count(*) FROM {session.target} WHERE {where}").fetchall()[0][0])
        if corrections and not ids and count > 1:
            raise InvalidInputError(
                "--set",
                f"{count} rows",
                "would give all of them the same value: name the rows with --id (`quarantine show` lists _dq_id)",
            )
        if dry_run or not count:
            return count
        if corrections:
            changes = ", ".join(f"{quoted(c)} = {literal(v)}" for c, v in corrections.items())
            session.execute(f"UPDATE {session.target} SET {changes} WHERE {where}")
        if dataset.kind in (DataKind.PARQUET, DataKind.CSV):
            _into_file(dataset, session, columns, where)
        else:
            _into_table(session, columns, where)
        session.execute(f"UPDATE {session.target} SET _dq_state = 'released' WHERE {where}")
    return count


def _into_table(session: EditSession, columns: Sequence[str], where: str) -> None:
    if not session.exists(session.source):  # the store for frames has quarantine tables only
        names = ", ".join(quoted(c) for c in columns)
        session.execute(f"CREATE TABLE {session.source} AS SELECT {names} FROM {session.target} WHERE false")
    present = session.columns(session.source)
    common = [c for c in columns if c in present]  # columns removed since are only kept in quarantine
    names = ", ".join(quoted(c) for c in common)
    values = ", ".join(f"CAST({quoted(c)} AS {present[c]})" for c in common)
    session.execute(f"INSERT INTO {session.source} ({names}) SELECT {values} FROM {session.target} WHERE {where}")


def _into_file(dataset: Dataset, session: EditSession, columns: Sequence[str], where: str) -> None:
    path = Path(dataset.location)
    if dataset.kind is DataKind.PARQUET:
        present = read_parquet(path)
        write_parquet(path, _append(present, _released_rows(present, session, columns, where)))
        return
    typed, text, form = read_csv(path)
    with replace_file(path) as draft:
        released = as_text(_released_rows(typed, session, columns, where), form)
        write_csv(draft, _append(text, released), form)


def _released_rows(present: Any, session: EditSession, columns: Sequence[str], where: str) -> Any:
    """The released rows, with the columns and types of the file."""
    common = [c for c in columns if c in present.column_names]
    names = ", ".join(quoted(c) for c in common)
    released = session.execute(f"SELECT {names} FROM {session.target} WHERE {where} ORDER BY _dq_id").fetchall()
    with duckdb.connect(":memory:") as con:
        con.register("present", present)
        con.execute("CREATE TABLE released AS FROM present LIMIT 0")
        marks = ", ".join("?" for _ in common)
        con.executemany(f"INSERT INTO released ({names}) VALUES ({marks})", [list(row) for row in released])
        return con.sql("FROM released").to_arrow_table()


def _append(present: Any, new: Any) -> Any:
    """The rows of a file, unchanged, and the new rows after them."""
    import pyarrow as pa

    try:
        return pa.concat_tables([present, new.cast(present.schema)])
    except (ValueError, TypeError, NotImplementedError) as exc:
        raise SourceError(f"the rows do not fit into the file any more ({str(exc).splitlines()[0]})") from exc


def _place(dataset: Dataset) -> Dataset:
    """The database with the quarantine of a dataset."""
    if dataset.kind in (DataKind.PARQUET, DataKind.CSV):
        path = Path(f"{dataset.location}.quarantine.duckdb")
        place = Dataset(kind=DataKind.DUCKDB, location=str(path), schema="main")
    else:
        place = dataset
    if place.kind is DataKind.DUCKDB and not Path(place.location).is_file():
        raise SourceError(f"{dataset}: nothing has been quarantined ({place.location} does not exist)")
    return place


def _tables(place: Dataset) -> list[str]:
    if place.table:
        return [place.table]
    with open_session(place, "none", keep=False) as session:
        found = session.execute(
            "SELECT table_name FROM information_schema.tables "
            f"WHERE table_schema = {literal(place.schema or 'main')} ORDER BY table_name"
        ).fetchall()
    return [str(name).removesuffix(SUFFIX) for (name,) in found if str(name).endswith(SUFFIX)]


def _only_table(place: Dataset) -> str:
    tables = _tables(place)
    if len(tables) != 1:
        raise InvalidInputError("data", str(place), f"add ::TABLE, one of: {', '.join(tables) or 'none'}")
    return tables[0]
