"""The columns of the table of runs as arrays: whole days from packed copies, the rest row by row.

A driver makes one Python object per value, so a million runs take seconds to read however they are stored. On SQLite
`pack` therefore keeps a copy of each past day column by column; triggers of the database remove the copy of a day in
the transaction that changes one of its runs, so that a copy is never older than its rows. On PostgreSQL all runs are
read row by row.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Engine, Integer, Select, cast, func, select

from prefect_intelligent.history.adapters.sql_tables import CODED, DAYS, RUNS

Columns = dict[str, npt.NDArray[Any]]
"""Name to one array per column, all of one length."""

NUMBERS: Final = ("scheduled_s", "submitted_s", "started_s", "ended_s", "due_s", "late_usd_per_hour", "failure_usd")
EXTRA: Final = ("size", "expected_s", "attempts")
PARAMETERS: Final = "parameters"
"""Of the columns of texts the one that is copied as it is."""
_ALL: Final = (*NUMBERS, *EXTRA)
_EVERY: Final = (*_ALL, PARAMETERS)
_LINES: Final = "line of parameters"
_PAIRS: Final = (("deployment", "queue"), ("version", "host"), ("cause", "pool"))
_RADIX: Final = 2**26
_ROWS_AT_ONCE: Final = 20_000
_DAY_S: Final = 86400.0
_WORTH_PACKING: Final = 500
"""Runs of a day below which a copy saves nothing."""


def pack(engine: Engine, before_s: float) -> int:
    """Copy the days that end before an instant and have no copy; returns how many. Nothing on PostgreSQL."""
    if engine.dialect.name != "sqlite":
        return 0
    day = cast(RUNS.c.submitted_s / _DAY_S, Integer)
    crowded = select(day).group_by(day).having(func.count() >= _WORTH_PACKING)
    with engine.connect() as connection:
        wanted = set(connection.execute(crowded).scalars()) - set(connection.execute(select(DAYS.c.day)).scalars())
    packed = 0
    for number in sorted(wanted):
        if (number + 1) * _DAY_S > before_s or number < 0:
            continue
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # nobody changes the day between reading and keeping it
            rows = _read_rows(connection, _within(select(), number * _DAY_S, (number + 1) * _DAY_S), _EVERY)
            content = io.BytesIO()
            np.savez(content, **_packed(_sorted(rows)))  # type: ignore[arg-type]
            connection.execute(DAYS.insert().values(day=number, columns=content.getvalue()))
            connection.commit()
        packed += 1
    return packed


def read_columns(
    engine: Engine,
    *,
    since_s: float | None,
    until_s: float | None,
    pool: int | None,
    extra: bool,
    parameters: bool = False,
) -> Columns:
    """Runs submitted in the span, by submission.

    Args:
        engine: The database.
        since_s: Start of the span (included); None for all.
        until_s: End of the span (excluded); None for all.
        pool: Number of the pool's name; None for all pools.
        extra: Whether `EXTRA` is read too.
        parameters: Whether `PARAMETERS` is read too.

    Returns:
        Numbers of names for each of `CODED` (0 is none), the code of the state, and the numbers; missing is NaN.
    """
    wanted = (*(_ALL if extra else NUMBERS), *((PARAMETERS,) if parameters else ()))
    low = -np.inf if since_s is None else since_s
    high = np.inf if until_s is None else until_s
    parts: list[Columns] = []
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")  # one view of copies and rows
        days = _days(connection, low, high)
        for number in days:
            blob = connection.execute(select(DAYS.c.columns).where(DAYS.c.day == number)).scalar_one()
            parts.append(_clip(_unpack(blob, wanted), low, high, pool))
        for start, end in _gaps(days, low, high):
            parts.append(_sorted(_read_rows(connection, _within(select(), start, end), wanted, pool)))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    submitted = table["submitted_s"]
    return table if bool(np.all(submitted[1:] >= submitted[:-1])) else _sorted(table)


def _days(connection: Connection, low: float, high: float) -> list[int]:
    """Packed days that overlap the span, in order."""
    if connection.dialect.name != "sqlite":
        return []
    wanted = select(DAYS.c.day).order_by(DAYS.c.day)
    return [
        number
        for number in connection.execute(wanted).scalars()
        if low < (number + 1) * _DAY_S and number * _DAY_S < high
    ]


def _gaps(days: Sequence[int], low: float, high: float) -> Iterator[tuple[float, float]]:
    """What of the span the packed days leave; at least one, so that there is always a part."""
    start = low
    for number in days:
        if number * _DAY_S > start:
            yield start, number * _DAY_S
        start = (number + 1) * _DAY_S
    yield start, max(start, high)


def _within(wanted: Select[Any], low: float, high: float) -> Select[Any]:
    if np.isfinite(low):
        wanted = wanted.where(RUNS.c.submitted_s >= low)
    return wanted.where(RUNS.c.submitted_s < high) if np.isfinite(high) else wanted


def _clip(table: Columns, low: float, high: float, pool: int | None) -> Columns:
    submitted = table["submitted_s"]
    kept = (submitted >= low) & (submitted < high)
    if pool is not None:
        kept &= table["pool"] == pool
    return table if bool(kept.all()) else {name: column[kept] for name, column in table.items()}


def _sorted(table: Columns) -> Columns:
    order = np.argsort(table["submitted_s"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def _packed(table: Columns) -> Columns:
    """With the distinct texts in one array of bytes, by lines (JSON has no line ends), and the line of each row."""
    lines = {text: line for line, text in enumerate(dict.fromkeys(table[PARAMETERS].tolist()))}
    every = "\n".join(text or "" for text in lines).encode()
    of_rows = np.array([lines[text] for text in table[PARAMETERS].tolist()], dtype=np.int32)
    return {**table, PARAMETERS: np.frombuffer(every, dtype=np.uint8), _LINES: of_rows}


def _unpack(content: bytes, columns: Sequence[str]) -> Columns:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        table: Columns = {name: found[name] for name in (*CODED, "state", *columns)}
        if PARAMETERS in table:
            lines = table[PARAMETERS].tobytes().decode().split("\n")
            texts = np.array([text or None for text in lines], dtype=object)
            table[PARAMETERS] = texts[found[_LINES]]
        return table


def _read_rows(connection: Connection, wanted: Select[Any], names: Sequence[str], pool: int | None = None) -> Columns:
    """Rows through the driver itself (rows of SQLAlchemy cost a second a million), in pieces."""
    numbers = [name for name in names if name != PARAMETERS]
    with_texts = len(numbers) < len(names)
    # Two names travel in one number: what takes the time is the count of Python objects the driver makes.
    pairs = [func.coalesce(RUNS.c[a], 0) * _RADIX + func.coalesce(RUNS.c[b], 0) for a, b in _PAIRS]
    wanted = wanted.add_columns(*pairs, RUNS.c.state, *(RUNS.c[name] for name in numbers))
    if with_texts:
        wanted = wanted.add_columns(RUNS.c[PARAMETERS])
    if pool is not None:
        wanted = wanted.where(RUNS.c.pool == pool)
    compiled = wanted.compile(connection.engine, compile_kwargs={"literal_binds": True})
    cursor = connection.connection.cursor()
    parts: list[npt.NDArray[Any]] = []
    texts: list[str | None] = []
    try:
        cursor.execute(str(compiled))
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            if with_texts:
                *cells, last = zip(*rows, strict=True)
                parts.append(np.array(cells, dtype=float).T)
                texts += last
            else:
                parts.append(np.array(rows, dtype=float))
    finally:
        cursor.close()
    first = len(_PAIRS) + 1
    table = np.concatenate(parts) if parts else np.empty((0, first + len(numbers)))
    columns: Columns = {}
    for at, (a, b) in enumerate(_PAIRS):
        both = table[:, at].astype(np.int64)
        columns[a], columns[b] = (both // _RADIX).astype(np.int32), (both % _RADIX).astype(np.int32)
    columns["state"] = table[:, len(_PAIRS)].astype(np.int8)
    for at, name in enumerate(numbers):
        columns[name] = np.ascontiguousarray(table[:, first + at])
    if with_texts:
        columns[PARAMETERS] = np.array(texts, dtype=object)
    return columns
