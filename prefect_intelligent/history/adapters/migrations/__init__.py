"""The schema of the history database: revisions of Alembic, run whenever a database is opened.

The number of a database's schema is kept in its own table `pi_schema_version`, beside Prefect's or anybody else's
`alembic_version`. To change the tables, change `sql_tables` and add a file to `versions/` whose `upgrade(op)` does the
same to a database that exists; a test holds the two together. A revision only adds, since processes of the version
before may still be at work on the database. On SQLite it must not rebuild `pi_runs` (`batch_alter_table`): its triggers
would be lost. One that changes what is packed in `pi_run_days` empties that table, which is only a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, column, func, inspect, select, table
from sqlalchemy.exc import DBAPIError

from prefect_intelligent import __version__
from prefect_intelligent.errors import StoreError

VERSION_TABLE: Final = "pi_schema_version"
HEAD: Final = "0003"
"""Number of the newest schema, which the tables of `sql_tables` have."""

_FOLDER: Final = Path(__file__).parent
_LOCK: Final = 0x70695F736368656D  # "pi_schem" in ASCII: of PostgreSQL's advisory locks, one that nobody else takes


def upgrade(engine: Engine, *, head: str = HEAD, folder: Path = _FOLDER) -> None:
    """Bring the database to the newest schema; one query if it has it already.

    All or nothing. However many processes open a database at once, one of them does it and the others wait.

    Args:
        engine: Of the database.
        head: Number of the newest schema.
        folder: Where `versions/` is; tests have revisions of their own.

    Raises:
        StoreError: Its schema is newer than we know, or it may not be changed. Nothing was written.
    """
    with engine.connect() as connection, suppress(DBAPIError):  # whatever is wrong shows again when it is changed
        if _schema(connection) == head:
            return
    try:
        with _alone(engine) as connection:
            _run(connection, folder)
    except DBAPIError as error:
        raise StoreError(
            f"the history {engine.url.render_as_string()} cannot be brought to schema {head!r}: "
            f"{str(error.orig).strip().splitlines()[0]}; open it once with the right to change its tables"
        ) from error


def _schema(connection: Connection) -> str | None:
    """Number of the database's schema; raises DBAPIError if it has none yet."""
    numbers = table(VERSION_TABLE, column("version_num"), schema=_where(connection))
    found: str | None = connection.execute(select(numbers.c.version_num)).scalar_one_or_none()
    return found


def _where(connection: Connection) -> str | None:
    """The schema of PostgreSQL in which our tables are made: the first of the search path."""
    return connection.dialect.default_schema_name if connection.dialect.name == "postgresql" else None


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other process makes at the same time."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        yield connection
        connection.commit()


def _run(connection: Connection, folder: Path) -> None:
    """Run the revisions that the database lacks; one without a number gets all of them, since the first is harmless."""
    from alembic.operations import Operations  # not needed by those who find everything in place
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(folder))
    known = [script.revision for script in scripts.walk_revisions()]
    found = _schema(connection) if inspect(connection).has_table(VERSION_TABLE, schema=_where(connection)) else None
    if found is not None and found not in known:
        raise StoreError(
            f"the history {connection.engine.url.render_as_string()} has schema {found!r}, and prefect-intelligent "
            f"{__version__} knows none newer than {known[0]!r}: a newer version has written it. Install that version, "
            "or name another database as `history_url`. Nothing was written"
        )

    def missing(heads: Any, _: MigrationContext) -> Iterable[Any]:
        newer = reversed(list(scripts.iterate_revisions("head", heads or "base")))
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in newer]

    options = {"version_table": VERSION_TABLE, "version_table_schema": _where(connection), "fn": missing}
    context = MigrationContext.configure(connection, opts=options)
    context.run_migrations(op=Operations(context))
