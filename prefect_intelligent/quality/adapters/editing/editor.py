"""Moves bad rows into quarantine and repairs values, atomically, in files, frames and tables.

Tables are edited in one transaction. An edited frame is a new frame. Parquet and CSV files are read, edited and
replaced by one rename, after their bad rows are committed to a DuckDB file beside them (`FILE.quarantine.duckdb`).
Quarantine is the table `TABLE__quarantine`, from which nothing is ever deleted. Originals of repaired rows are copied
there with state "repaired".
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.quality.adapters.editing import backups
from prefect_intelligent.quality.adapters.editing import sql as row_sql
from prefect_intelligent.quality.adapters.editing.sessions import (
    EditSession,
    duckdb_columns,
    open_session,
    open_store,
    read_parquet,
    refuse_names,
    refuse_uneditable,
    replace_file,
    write_parquet,
)
from prefect_intelligent.quality.adapters.editing.sql import BAD, FRAME, SUFFIX
from prefect_intelligent.quality.adapters.sources.csv import CsvFormat, read_csv, rewrite_column, write_csv
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError, quoted, readable, select_list
from prefect_intelligent.quality.model import QUARANTINE_ACTIONS, REPAIR_ACTIONS
from prefect_intelligent.quality.remediation import BudgetExceededError, EditReport, RowEdit


class RowEditor:
    """Edits datasets.

    Args:
        store: DuckDB file for the quarantined rows of frames.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    def edit(
        self,
        dataset: Dataset,
        table: str,
        edits: Sequence[RowEdit],
        *,
        run_id: str,
        at_s: float,
        budget_rows: int | None = None,
        dry_run: bool = False,
    ) -> EditReport:
        """Apply the edits, all or none.

        Args:
            dataset: The data.
            table: Name of the table in the contract.
            edits: Repairs first, as from `required_edits`.
            run_id: Written with each quarantined row; one run does not quarantine a row twice.
            at_s: The present, Unix seconds.
            budget_rows: Most rows that may be moved; None is unlimited.
            dry_run: Count the rows and change nothing.

        Raises:
            BudgetExceededError: More than `budget_rows` rows would be moved.
            SourceError: The dataset cannot be changed.
        """
        at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        try:
            return self._edit(dataset, table, edits, run_id, at, budget_rows, dry_run)
        except (duckdb.Error, OSError, ValueError, TypeError, NotImplementedError) as exc:
            if isinstance(exc, PrefectIntelligentError):
                raise
            reason = str(exc).splitlines() or [type(exc).__name__]
            raise SourceError(f"{dataset}: cannot be edited ({reason[0]})") from exc

    def _edit(
        self,
        dataset: Dataset,
        table: str,
        edits: Sequence[RowEdit],
        run_id: str,
        at: str,
        budget_rows: int | None,
        dry_run: bool,
    ) -> EditReport:
        if dataset.kind in (DataKind.DUCKDB, DataKind.POSTGRES):
            with open_session(dataset, table, keep=not dry_run) as session:
                report = _edit_table(session, edits, run_id, at, budget_rows)
            return replace(report, quarantine=f"{dataset}{SUFFIX}" if dataset.table else f"{dataset}::{table}{SUFFIX}")
        store = self.quarantine_file(dataset)
        rows, report = self._edit_frame(dataset, table, edits, run_id, at, budget_rows, None if dry_run else store)
        if dataset.kind is not DataKind.FRAME and not dry_run:
            rows.write(Path(dataset.location))
        data = rows.frame if dataset.kind is DataKind.FRAME else None
        return replace(report, quarantine=f"{store}::{table}{SUFFIX}", data=data)

    def save_snapshot(self, dataset: Dataset, table: str) -> bool:
        """Copy the dataset as its last good snapshot, TABLE__good or FILE.good; False for a frame."""
        return backups.save_snapshot(dataset, table)

    def restore_snapshot(self, dataset: Dataset, table: str, run_id: str) -> bool:
        """Restore the snapshot; the replaced data is kept as TABLE__bad_... or FILE.bad-... ."""
        return backups.restore_snapshot(dataset, table, run_id)

    def quarantine_file(self, dataset: Dataset) -> Path:
        """The DuckDB file for the quarantined rows of a frame or a file."""
        return self.store if dataset.kind is DataKind.FRAME else Path(f"{dataset.location}.quarantine.duckdb")

    def _edit_frame(
        self,
        dataset: Dataset,
        table: str,
        edits: Sequence[RowEdit],
        run_id: str,
        at: str,
        budget_rows: int | None,
        store: Path | None,
    ) -> tuple[_Rows, EditReport]:
        rows = _Rows.read(dataset)
        by_check: dict[str, int] = {}
        repaired = 0
        bad: list[int] = []
        with open_store(store) as con:
            session = EditSession(
                execute=con.execute,
                source="dq_source",
                target=f"{'store.' if store else ''}main.{quoted(table + SUFFIX)}",
                dialect=FRAME,
                columns=duckdb_columns(con),
            )
            con.execute("BEGIN")
            for edit in edits:
                if edit.action in REPAIR_ACTIONS and edit.check.rows is not None:
                    columns = rows.register(con, table)
                    count = _keep_originals(session, edit, run_id, at)
                    by_check[edit.check.id] = count
                    repaired += count
                    name, new = row_sql.repair("dq_source", edit.check, edit.action, FRAME)
                    failing = row_sql.failing_condition(edit.check.rows)
                    sql = f"SELECT CASE WHEN {failing} THEN {new} ELSE {name} END FROM dq_source ORDER BY _dq_row"
                    index = [column.lower() for column in columns].index(str(edit.check.column).lower())
                    rows = rows.with_column(index, con.sql(sql).to_arrow_table().column(0))
            splits = [edit for edit in edits if edit.action in QUARANTINE_ACTIONS]
            if splits:
                rows.register(con, table)
                by_check |= _split(session, splits, run_id, at, budget_rows)
                bad = [row for (row,) in con.execute(f"SELECT _dq_n FROM {BAD} ORDER BY _dq_n").fetchall()]
                rows = rows.without(bad)
            con.execute("COMMIT")
        return rows, EditReport(quarantined=len(bad), repaired=repaired, by_check=by_check)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows of a frame or a file while they are edited.

    Attributes:
        frame: The rows, typed: a pandas frame or an Arrow table.
        casts: Columns that are read as another type than their own, for a frame.
        text: The rows of a CSV file as text, an Arrow table; None otherwise.
        csv: Format of the CSV file; None otherwise.
    """

    frame: Any
    casts: Mapping[str, str] = field(default_factory=dict)
    text: Any = None
    csv: CsvFormat | None = None

    @classmethod
    def read(cls, dataset: Dataset) -> _Rows:
        if dataset.kind is DataKind.FRAME:
            return cls(frame=dataset.frame, casts=dataset.casts)
        if dataset.kind is DataKind.PARQUET:
            return cls(frame=read_parquet(Path(dataset.location)))
        frame, text, csv = read_csv(Path(dataset.location))
        return cls(frame=frame, text=text, csv=csv)

    def write(self, path: Path) -> None:
        """Replace the file by one rename."""
        if self.csv is None:
            write_parquet(path, self.frame)
            return
        with replace_file(path) as draft:
            write_csv(draft, self.text, self.csv)

    def register(self, con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
        """Create views of the rows, `dq_source` with row numbers and `table`; returns the names of the columns."""
        con.register("dq_frame", readable(self.frame))
        columns = list(duckdb_columns(con)("dq_frame"))
        refuse_names(columns, FRAME.row)
        names = select_list(columns, self.casts)
        con.execute(
            "CREATE OR REPLACE TEMPORARY VIEW dq_source AS "
            f"SELECT {names}, row_number() OVER () - 1 AS _dq_row FROM dq_frame"
        )
        con.execute(f"CREATE OR REPLACE TEMPORARY VIEW {quoted(table)} AS SELECT {names} FROM dq_frame")
        return columns

    def without(self, positions: list[int]) -> _Rows:
        import numpy as np

        keep = np.ones(len(self.frame), dtype=bool)
        keep[np.asarray(positions, dtype=np.int64)] = False
        frame = self.frame.loc[keep] if hasattr(self.frame, "iloc") else self.frame.filter(keep)
        return replace(self, frame=frame, text=None if self.text is None else self.text.filter(keep))

    def with_column(self, index: int, values: Any) -> _Rows:
        """The rows with other values in one column, cast to its type if that loses nothing."""
        if hasattr(self.frame, "iloc"):
            return replace(self, frame=_with_series(self.frame, index, values.to_pandas()))
        field = self.frame.schema.field(index)
        with contextlib.suppress(ValueError, TypeError, NotImplementedError):
            values = values.cast(field.type)
        frame = self.frame.set_column(index, field.name, values)
        if self.csv is None:
            return replace(self, frame=frame)
        return replace(self, frame=frame, text=rewrite_column(self.text, self.frame, frame, index, self.csv))


def _with_series(frame: Any, index: int, series: Any) -> Any:
    series.index = frame.index
    with contextlib.suppress(ValueError, TypeError):
        typed = series.astype(frame.dtypes.iloc[index])
        if bool(((typed == series) | (typed.isna() & series.isna())).all()):
            series = typed
    frame = frame.copy(deep=False)
    frame.isetitem(index, series)
    return frame


def _edit_table(
    session: EditSession, edits: Sequence[RowEdit], run_id: str, at: str, budget_rows: int | None
) -> EditReport:
    refuse_uneditable(session)
    by_check: dict[str, int] = {}
    repaired = 0
    for edit in edits:
        if edit.action in REPAIR_ACTIONS and edit.check.rows is not None:
            rows = _keep_originals(session, edit, run_id, at)
            name, new = row_sql.repair(session.source, edit.check, edit.action, session.dialect)
            session.execute(
                f"UPDATE {session.source} SET {name} = {new} WHERE {row_sql.failing_condition(edit.check.rows)}"
            )
            by_check[edit.check.id] = rows
            repaired += rows
    splits = [edit for edit in edits if edit.action in QUARANTINE_ACTIONS]
    if not splits:
        return EditReport(repaired=repaired, by_check=by_check)
    by_check |= _split(session, splits, run_id, at, budget_rows)
    row = session.dialect.row
    session.execute(f"DELETE FROM {session.source} WHERE {row} IN (SELECT _dq_n FROM {BAD})")
    moved = int(session.execute(f"SELECT count(*) FROM {BAD}").fetchall()[0][0])
    return EditReport(quarantined=moved, repaired=repaired, by_check=by_check)


def _split(
    session: EditSession, splits: Sequence[RowEdit], run_id: str, at: str, budget_rows: int | None
) -> dict[str, int]:
    """Find the bad rows and copy them into quarantine; returns rows by check id."""
    session.execute(f"DROP TABLE IF EXISTS {BAD}")
    by_predicate = [e.check for e in splits if e.check.rows is not None and not e.check.rows.keys]
    session.execute(row_sql.find_bad(session.source, by_predicate, session.dialect))
    for edit in splits:
        if edit.check.rows is not None and edit.check.rows.keys:
            session.execute(row_sql.add_duplicates(session.source, edit.check, edit.action, session.dialect))
    moved = int(session.execute(f"SELECT count(*) FROM {BAD}").fetchall()[0][0])
    if budget_rows is not None and moved > budget_rows:
        raise BudgetExceededError(moved, budget_rows)
    _fill(session, run_id, at, "held")
    return {str(name): int(rows) for name, rows in session.execute(row_sql.count_reasons()).fetchall()}


def _keep_originals(session: EditSession, edit: RowEdit, run_id: str, at: str) -> int:
    """Copy the rows that a repair will change to quarantine; returns how many."""
    session.execute(f"DROP TABLE IF EXISTS {BAD}")
    session.execute(row_sql.find_bad(session.source, [edit.check], session.dialect))
    rows = int(session.execute(f"SELECT count(*) FROM {BAD}").fetchall()[0][0])
    _fill(session, run_id, at, "repaired")
    return rows


def _fill(session: EditSession, run_id: str, at: str, state: str) -> None:
    """Copy the bad rows into the quarantine table, which is created or widened if necessary."""
    source, target, dialect = session.source, session.target, session.dialect
    columns = {name: kind for name, kind in session.columns(source).items() if name != dialect.row}
    session.execute(row_sql.create_quarantine(source, target, columns, dialect))
    statements, texts = row_sql.widen_quarantine(target, session.columns(target), columns, dialect)
    statements += row_sql.move_to_quarantine(
        source, target, columns, dialect, texts=texts, run_id=run_id, at=at, state=state
    )
    for statement in statements:
        session.execute(statement)
