"""Logs a trained forecaster to MLflow: figures, curves, a calibration plot, and a registered model with its alias.

Its files (JSON and arrays, no pickle) are artifacts of the run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.errors import (
    MissingExtraError,
    TrackerAccessDeniedError,
    TrackerError,
    TrackerUnavailableError,
)
from prefect_intelligent.forecasting.evaluation import ForecasterEvaluation

EXPERIMENT: Final = "prefect-intelligent-forecaster"
MODEL: Final = "prefect-intelligent-forecaster"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredForecaster:
    """A forecaster in the MLflow registry.

    Attributes:
        run_id: MLflow run.
        version: Version of the registered model.
        alias: "champion" if it serves from now on, else "challenger".
    """

    run_id: str
    version: str
    alias: str


def register_forecaster(
    uri: str, folder: Path, evaluation: ForecasterEvaluation, parameters: Mapping[str, float | str], *, serves: bool
) -> RegisteredForecaster:
    """Log a forecaster and register it, with the alias "champion" if it `serves`, else "challenger".

    Args:
        uri: URI of the tracking server and of the registry.
        folder: Has `forecaster.json` and `forecaster.npz`.
        evaluation: Of the same training.
        parameters: Logged as parameters of the run.
        serves: Whether it serves from now on.

    Raises:
        TrackerUnavailableError: MLflow does not answer; the run may be incomplete.
        TrackerAccessDeniedError: MLflow does not accept the credentials.
        MissingExtraError: MLflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("tracking with MLflow", "tracking") from error
    try:
        return _register(MlflowClient(tracking_uri=uri, registry_uri=uri), folder, evaluation, parameters, serves)
    except (SQLAlchemyError, OSError) as error:
        raise TrackerUnavailableError(f"MLflow: {str(error).splitlines()[0][:300]}") from error
    except MlflowException as error:
        text = f"MLflow: {str(error).splitlines()[0][:300]}"
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call, unused-ignore]
        if status in (401, 403):
            raise TrackerAccessDeniedError(text) from error
        raise (TrackerUnavailableError if status >= 500 else TrackerError)(text) from error


def _register(
    client: Any, folder: Path, evaluation: ForecasterEvaluation, parameters: Mapping[str, float | str], serves: bool
) -> RegisteredForecaster:
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
    run = client.create_run(experiment, tags={"pi.kind": "forecaster"})
    run_id = str(run.info.run_id)
    for name, value in parameters.items():
        client.log_param(run_id, name, value)
    for name, value in evaluation.figures.items():
        client.log_metric(run_id, name, value)
    for trees, train_loss, test_loss in evaluation.learning.tolist():
        client.log_metric(run_id, "log_loss/train", train_loss, step=int(trees))
        client.log_metric(run_id, "log_loss/test", test_loss, step=int(trees))
    for number, (forecast, failed, runs) in enumerate(evaluation.calibration.tolist(), start=1):
        client.log_metric(run_id, "calibration/promised", forecast, step=number)
        client.log_metric(run_id, "calibration/seen", failed, step=number)
        client.log_metric(run_id, "calibration/runs", runs, step=number)
    client.log_artifacts(run_id, str(folder), "forecaster")
    with tempfile.TemporaryDirectory() as scratch:
        if _draw(evaluation, Path(scratch) / "forecaster.png"):
            client.log_artifact(run_id, str(Path(scratch) / "forecaster.png"), "plots")
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(MODEL, description="Failures and durations of flow runs; files, no pickle.")
    version = client.create_model_version(MODEL, f"{run.info.artifact_uri}/forecaster", run_id).version
    alias = CHAMPION if serves else CHALLENGER
    client.set_registered_model_alias(MODEL, alias, version)
    return RegisteredForecaster(run_id=run_id, version=str(version), alias=alias)


def _draw(evaluation: ForecasterEvaluation, file: Path) -> bool:
    """Draw calibration, ROC, precision-recall and learning curve into a file; False without matplotlib or curves."""
    if not len(evaluation.roc):
        return False
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    calibration, roc, recall, learning = figure.subplots(2, 2).ravel()
    calibration.plot([0, 1], [0, 1], color="0.7")
    calibration.plot(evaluation.calibration[:, 0], evaluation.calibration[:, 1], marker="o")
    calibration.set(title="Calibration", xlabel="promised", ylabel="seen")
    roc.plot([0, 1], [0, 1], color="0.7")
    roc.plot(evaluation.roc[:, 0], evaluation.roc[:, 1])
    roc.set(title=f"ROC, area {evaluation.figures['auc']:.3f}", xlabel="false alarms", ylabel="failures found")
    recall.plot(evaluation.precision_recall[:, 0], evaluation.precision_recall[:, 1])
    recall.set(title=f"Average precision {evaluation.figures['ap']:.3f}", xlabel="failures found", ylabel="precision")
    learning.plot(evaluation.learning[:, 0], evaluation.learning[:, 1], label="training")
    learning.plot(evaluation.learning[:, 0], evaluation.learning[:, 2], label="test")
    learning.set(title="Log loss", xlabel="trees")
    learning.legend()
    figure.savefig(file, dpi=80)
    return True
