"""The history store on SQLAlchemy Core: a SQLite file by default, PostgreSQL by URL.

Several processes may write at once (controllers, hooks, the command line). A record that `append` has returned survives
the death of the process and of the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from prefect_intelligent.errors import InvalidInputError, MissingExtraError, StoreError

LOCK_TIMEOUT_S = 15.0
"""How long a writer waits for another one before it gives up."""

METADATA = MetaData()
RECORDS = Table(
    "pi_records",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(40), nullable=False),
    Column("pool", String(200), nullable=False),
    Column("at_s", Double, nullable=False),
    Column("record", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    Index("pi_records_newest", "kind", "pool", "id"),
)

_Args = ParamSpec("_Args")
_Out = TypeVar("_Out")


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


def create_tables(engine: Engine, metadata: MetaData) -> None:
    """Make the tables and indexes that are missing; safe when several processes do it at once."""
    for attempt in (1, 2, 3):
        try:
            with engine.begin() as connection:
                for table in metadata.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
            return
        except (IntegrityError, ProgrammingError):  # PostgreSQL: two CREATE IF NOT EXISTS can still collide
            if attempt == 3:
                raise


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
        engine: From `open_engine`; the tables are made here if they are missing.
    """

    @_guarded
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        create_tables(engine, METADATA)

    @_guarded
    def append(self, kind: str, pool: str, at_s: float, record: Mapping[str, Any]) -> int:
        """Keep one record for good and return its number."""
        row = insert(RECORDS).values(kind=kind, pool=pool, at_s=at_s, record=dict(record)).returning(RECORDS.c.id)
        with self._engine.begin() as connection:
            return int(connection.execute(row).scalar_one())

    @_guarded
    def latest(self, kind: str, pool: str) -> Mapping[str, Any] | None:
        """The newest record of that kind for the pool, by order of writing."""
        newest = (
            select(RECORDS.c.record)
            .where(RECORDS.c.kind == kind, RECORDS.c.pool == pool)
            .order_by(RECORDS.c.id.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            found: Mapping[str, Any] | None = connection.execute(newest).scalar_one_or_none()
            return found

    @_guarded
    def records(self, kind: str, pool: str | None = None, since_s: float | None = None) -> Sequence[Mapping[str, Any]]:
        """Records of that kind in the order in which they were written."""
        wanted = select(RECORDS.c.record).where(RECORDS.c.kind == kind).order_by(RECORDS.c.id)
        if pool is not None:
            wanted = wanted.where(RECORDS.c.pool == pool)
        if since_s is not None:
            wanted = wanted.where(RECORDS.c.at_s >= since_s)
        with self._engine.connect() as connection:
            return list(connection.execute(wanted).scalars())

    @_guarded
    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind that are older than `before_s`; returns how many."""
        with self._engine.begin() as connection:
            return connection.execute(delete(RECORDS).where(RECORDS.c.kind == kind, RECORDS.c.at_s < before_s)).rowcount


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
