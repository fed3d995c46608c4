"""Settings to the history and to what a Prefect server remembers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect_intelligent.history.adapters import sql_records
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocks import history_url

if TYPE_CHECKING:
    from prefect_intelligent.history.adapters.prefect_source import PrefectHistory
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns as SqlRuns


def has_history(settings: Settings) -> bool:
    """Whether there is a history yet; looking makes none."""
    return sql_records.has_history(history_url(settings))


def open_history(settings: Settings) -> HistoryStore:
    """The history of decisions and other records.

    Raises:
        StoreError: It cannot be reached or written.
    """
    return sql_records.open_history(history_url(settings))


def open_runs(settings: Settings) -> SqlRuns:
    """The history of runs.

    Raises:
        StoreError: It cannot be reached or written.
    """
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns

    return SqlRuns(sql_records.open_engine(history_url(settings)))


@contextmanager
def scratch_runs() -> Iterator[SqlRuns]:
    """An empty history of runs in a temporary folder that is removed at the end."""
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns

    with tempfile.TemporaryDirectory(prefix="history-") as folder:
        engine = sql_records.open_engine(f"sqlite:///{folder}/history.db")
        try:
            yield SqlRuns(engine)
        finally:
            engine.dispose()


def open_source(*, timeout_s: float = 30.0) -> PrefectHistory:
    """The memory of the Prefect server of the profile in force."""
    from prefect_intelligent.history.adapters.prefect_source import PrefectHistory

    return PrefectHistory(PrefectApi(timeout_s=timeout_s))
