"""Opens PostgreSQL tables for a verification: a read-only session with a time limit per statement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect_intelligent.domain.datasets import Dataset
from prefect_intelligent.errors import MissingExtraError
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError


class PostgresSource:
    """One read-only session on the database of a dataset."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.database: str = connection.info.dbname

    def columns(self, schema: str, table: str) -> dict[str, str]:
        """Name and type of the columns of a table, in order; empty if there is no such table."""
        rows = self.connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (schema, table),
        ).fetchall()
        return dict(rows)

    def soda(self, name: str) -> Any:
        """Soda's data source on this session, under the given name."""
        try:
            from soda_postgres.common.data_sources import postgres_data_source as soda
        except ImportError as exc:
            raise MissingExtraError("checking PostgreSQL tables", "postgres") from exc
        connection = self.connection

        class Session(soda.PostgresDataSourceConnection):  # type: ignore[misc]
            def _create_connection(self, _config: Any) -> Any:
                return connection

        unused = {"host": "unused", "user": "unused", "database": self.database, "password": ""}
        model = soda.PostgresDataSourceModel(name=name, connection=unused)
        return soda.PostgresDataSourceImpl(data_source_model=model, connection=Session(name, {}))


@contextlib.contextmanager
def open_read_only(dataset: Dataset, timeout_s: float) -> Iterator[PostgresSource]:
    """A read-only session that takes one statement at a time, so that SQL of a contract cannot write.

    Raises:
        SourceError: The server cannot be reached or refuses.
    """
    try:
        import psycopg
    except ImportError as exc:
        raise MissingExtraError("checking PostgreSQL tables", "postgres") from exc
    options = f"-c default_transaction_read_only=on -c statement_timeout={int(timeout_s * 1000)}"
    try:
        connection = psycopg.connect(dataset.location, options=options, connect_timeout=10, autocommit=True)
    except psycopg.Error as exc:
        raise SourceError(f"{dataset}: {str(exc).splitlines()[0]}") from exc
    connection.prepare_threshold = 0  # the server then takes one statement at a time
    with contextlib.closing(connection):
        yield PostgresSource(connection)
