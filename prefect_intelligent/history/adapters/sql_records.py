"""The history store on SQLAlchemy Core: a SQLite file by default, PostgreSQL by URL.

Several processes may write at once (controllers, hooks, the command line). A record that `append` has returned survives
the death of the process and of the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine, Row, Select, create_engine, delete, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from prefect_intelligent.errors import InvalidInputError, MissingExtraError, StoreError
from prefect_intelligent.history.adapters.migrations import upgrade
from prefect_intelligent.history.adapters.sql_tables import RECORDS
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.local.record_versions import upcast, version_of

LOCK_TIMEOUT_S = 15.0
"""How long a writer waits for another one before it gives up."""

_BACK = 100  # records looked at for the newest that can be read

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")
_Wanted = Select[tuple[int, Any]]


def open_engine(url: str) -> Engine:
    """A pooled engine for the URL; makes the folder of a SQLite file. Nothing is connected yet.

    Raises:
        InvalidInputError: The URL cannot be read or names a database that is not supported.
        MissingExtraError: The driver for PostgreSQL is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInputError("history_url", url, "expected e.g. sqlite:////var/lib/pi/history.db") from error
    backend = parsed.get_backend_name()
    serializer = partial(json.dumps, allow_nan=False)
    if backend == "sqlite":
        return _open_sqlite(parsed, serializer)
    if backend != "postgresql":
        raise InvalidInputError("history_url", backend, "expected a sqlite: or postgresql: URL")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return create_engine(
            parsed, json_serializer=serializer, pool_pre_ping=True, pool_size=2, connect_args={"connect_timeout": 5}
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError("a history on PostgreSQL", "postgres") from error


def _open_sqlite(url: URL, serializer: Callable[[Any], str]) -> Engine:
    if not url.database or url.database == ":memory:":
        raise InvalidInputError("history_url", str(url), "must name a file: a history in memory is lost at exit")
    try:
        Path(url.database).expanduser().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the folder of the history {url.database!r} cannot be made: {error.strerror}") from error
    engine = create_engine(url, json_serializer=serializer, connect_args={"timeout": LOCK_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a record of what to put back must survive a power cut
        cursor.close()

    return engine


def _guarded(method: Callable[_Args, _Out]) -> Callable[_Args, _Out]:
    """Turn what SQLAlchemy raises into one line of ours."""

    @wraps(method)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Out:
        try:
            return method(*args, **kwargs)
        except (SQLAlchemyError, ValueError) as error:  # ValueError: what JSON cannot hold, e.g. a NaN
            cause = getattr(error, "orig", None) or error
            first_line = str(cause).strip().splitlines()[0]
            raise StoreError(f"the history store cannot be used: {first_line}") from error

    return call


class SqlHistory:
    """`HistoryStore` on a database.

    Args:
        engine: From `open_engine`; its schema is brought up to date here.
    """

    @_guarded
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        upgrade(engine)

    @_guarded
    def append(self, kind: str, pool: str, at_s: float, record: Mapping[str, Any]) -> int:
        """Keep one record for good and return its number."""
        values = {"kind": kind, "pool": pool, "at_s": at_s, "record": dict(record), "version": version_of(kind)}
        with self._engine.begin() as connection:
            return int(connection.execute(insert(RECORDS).values(values).returning(RECORDS.c.id)).scalar_one())

    @_guarded
    def latest(self, kind: str, pool: str) -> Mapping[str, Any] | None:
        """The newest record of that kind for the pool, by order of writing."""
        wanted = _newest(_of(kind, pool), 1)
        rows = self._rows(wanted)
        if not rows:
            return None
        found = _read(kind, rows) or _read(kind, self._rows(wanted.limit(_BACK)))
        return found[0] if found else None

    @_guarded
    def records(
        self, kind: str, pool: str | None = None, since_s: float | None = None, *, last: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Records of that kind in the order in which they were written; with `last`, only so many of the newest."""
        wanted = _of(kind, pool)
        if since_s is not None:
            wanted = wanted.where(RECORDS.c.at_s >= since_s)
        if last is None:
            return _read(kind, self._rows(wanted.order_by(RECORDS.c.id)))
        return _read(kind, reversed(self._rows(_newest(wanted, last))))

    @_guarded
    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind that are older than `before_s`; returns how many."""
        with self._engine.begin() as connection:
            return connection.execute(delete(RECORDS).where(RECORDS.c.kind == kind, RECORDS.c.at_s < before_s)).rowcount

    def _rows(self, wanted: _Wanted) -> Sequence[Row[tuple[int, Any]]]:
        with self._engine.connect() as connection:
            return connection.execute(wanted).all()


def _of(kind: str, pool: str | None) -> _Wanted:
    wanted = select(RECORDS.c.version, RECORDS.c.record).where(RECORDS.c.kind == kind)
    return wanted if pool is None else wanted.where(RECORDS.c.pool == pool)


def _newest(wanted: _Wanted, count: int) -> _Wanted:
    """The newest first."""
    return wanted.order_by(RECORDS.c.id.desc()).limit(count)


def _read(kind: str, rows: Iterable[Row[tuple[int, Any]]]) -> list[Mapping[str, Any]]:
    return read_each(kind, rows, lambda row: upcast(kind, row.version, row.record))


def open_history(url: str) -> SqlHistory:
    """The history store at the URL, ready for use.

    Raises:
        StoreError: It cannot be reached or written.
    """
    return SqlHistory(open_engine(url))


def has_history(url: str) -> bool:
    """Whether there is anything to open; asking makes no file."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return True  # opening it will say what is wrong
    return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").exists()
