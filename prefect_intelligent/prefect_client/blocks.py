"""Blocks of Prefect in which the addresses and credentials of our databases and registries can be kept.

`prefect block register -m prefect_intelligent` shows their types to the server, so that they can be filled in there.
Names that begin with "Prefect" are Prefect's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError

_DOCS = "https://github.com/prefect-intelligent/prefect-intelligent/blob/main/docs/how-to/use-blocks.md"


class HistoryDatabase(Block):
    """The database of the history; the setting `history_block` names it."""

    _block_type_name = "Intelligent History Database"
    _block_type_slug = "intelligent-history"
    _documentation_url = _DOCS  # type: ignore[assignment]
    _description = "The database that keeps runs, decisions and records of prefect-intelligent."

    url: SecretStr = Field(description="sqlite:///file or postgresql://user:password@host/database")


class MlflowServer(Block):
    """An MLflow server for tracking and for the registry of policies; the setting `mlflow_block` names it."""

    _block_type_name = "Intelligent MLflow Server"
    _block_type_slug = "intelligent-mlflow"
    _documentation_url = _DOCS  # type: ignore[assignment]
    _description = "The MLflow server that prefect-intelligent ships to and takes policies from."

    tracking_uri: str = Field(description="Address of the server")
    registry_uri: str | None = Field(default=None, description="Address of the registry, if it is another")
    username: str | None = Field(default=None, description="For basic authentication")
    password: SecretStr | None = Field(default=None, description="For basic authentication")
    token: SecretStr | None = Field(default=None, description="For a bearer")

    def environment(self) -> Mapping[str, str]:
        """The variables by which MLflow knows them."""
        found = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.registry_uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": None if self.password is None else self.password.get_secret_value(),
            "MLFLOW_TRACKING_TOKEN": None if self.token is None else self.token.get_secret_value(),
        }
        return {name: value for name, value in found.items() if value}


def load_block(kind: type[Block], name: str, setting: str) -> Any:
    """The block of that name.

    Raises:
        InvalidInputError: The server has none.
        OrchestratorUnavailableError: The server does not answer.
    """
    import httpx

    try:
        return kind.load(name, _sync=True)  # type: ignore[call-arg, unused-ignore]
    except ValueError as error:
        raise InvalidInputError(
            setting,
            name,
            f"the server has no block {kind.get_block_type_slug()}/{name}; make it there, or correct the name",
        ) from error
    except httpx.HTTPError as error:
        raise OrchestratorUnavailableError(
            f"the block {name} of the setting {setting} cannot be read: {error}"
        ) from error
