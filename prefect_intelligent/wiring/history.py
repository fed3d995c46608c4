"""Settings to the history of runs and to what a Prefect server remembers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import Settings

if TYPE_CHECKING:
    from prefect_intelligent.history.adapters.prefect_source import PrefectHistory
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns


def open_runs(settings: Settings) -> SqlRuns:
    """The history of runs.

    Raises:
        StoreError: It cannot be reached or written.
    """
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns

    return SqlRuns(open_engine(settings.history))


def open_source(*, timeout_s: float = 30.0) -> PrefectHistory:
    """The memory of the Prefect server of the profile in force."""
    from prefect_intelligent.history.adapters.prefect_source import PrefectHistory

    return PrefectHistory(PrefectApi(timeout_s=timeout_s))
