"""Addresses and credentials that the settings leave to blocks on the Prefect server."""

from __future__ import annotations

import os
from functools import lru_cache

from prefect_intelligent.settings import Settings


def history_url(settings: Settings) -> str:
    """Database of the history: that of the block `history_block`, else as the settings say.

    Raises:
        InvalidInputError: There is no such block; `OrchestratorUnavailableError` if the server does not answer.
    """
    return settings.history if settings.history_block is None else _url_of(settings.history_block)


def mlflow_uri(settings: Settings) -> str:
    """MLflow: that of the block `mlflow_block`, whose credentials are put where MLflow looks; else the settings'.

    Raises:
        InvalidInputError: There is no such block; `OrchestratorUnavailableError` if the server does not answer.
    """
    if settings.mlflow_block is not None and "MLFLOW_TRACKING_URI" not in os.environ:
        from prefect_intelligent.prefect_client.blocks import MlflowServer, load_block

        os.environ.update(load_block(MlflowServer, settings.mlflow_block, "mlflow_block").environment())
    return settings.mlflow_uri


@lru_cache(maxsize=8)
def _url_of(name: str) -> str:
    """Asked once: a history is opened often, and the server may be away then."""
    from prefect_intelligent.prefect_client.blocks import HistoryDatabase, load_block

    found: HistoryDatabase = load_block(HistoryDatabase, name, "history_block")
    return found.url.get_secret_value()
