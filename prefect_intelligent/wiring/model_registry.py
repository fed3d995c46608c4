"""Where promoted policies are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prefect_intelligent.model_registry.adapters.folder import PolicyFiles
from prefect_intelligent.model_registry.adapters.mlflow import CachedRegistry, PolicyRegistry, Scores
from prefect_intelligent.model_registry.ports import PolicyStore
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocks import mlflow_uri

__all__ = ["REGISTERED_NAME", "PolicyRegistry", "Scores", "open_policy_store", "open_registry"]

REGISTERED_NAME: Final = "prefect-intelligent-policy"
_MLFLOW: Final = "mlflow:"


def open_policy_store(settings: Settings, *, follow: bool = False) -> PolicyStore:
    """The store that the setting `policies` names; nothing is written by opening it.

    Args:
        settings: All settings.
        follow: For a controller, which must not wait for MLflow.
    """
    if settings.policies.startswith(_MLFLOW):
        name = settings.policies.removeprefix(_MLFLOW) or REGISTERED_NAME
        return open_registry(settings, name, follow=follow)
    return PolicyFiles(Path(settings.policies).expanduser())


def open_registry(
    settings: Settings, name: str = REGISTERED_NAME, *, uri: str | None = None, follow: bool = False
) -> PolicyRegistry:
    """A registered model of MLflow as a policy store; what is fetched lies in the data folder.

    Args:
        settings: All settings.
        name: Of the registered model.
        uri: MLflow, if not the one of the settings.
        follow: For a controller, which must not wait for MLflow.
    """
    kind = CachedRegistry if follow else PolicyRegistry
    return kind(uri or mlflow_uri(settings), name, settings.folder / "policies")
