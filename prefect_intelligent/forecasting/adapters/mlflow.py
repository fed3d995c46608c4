"""A trained forecaster in MLflow: figures, curves, a calibration plot, and a registered model with its alias.

The files are the forecaster's own (JSON and arrays, no pickle), logged as artifacts of the run.
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
from prefect_intelligent.forecasting.evaluation import Appraisal

EXPERIMENT: Final = "prefect-intelligent-forecaster"
MODEL: Final = "prefect-intelligent-forecaster"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Where a forecaster has gone.

    Attributes:
        run_id: MLflow run.
        version: Of the registered model.
        alias: "champion" if it serves from now on, else "challenger".
    """

    run_id: str
    version: str
    alias: str


def register_forecaster(
    uri: str, folder: Path, appraisal: Appraisal, facts: Mapping[str, float | str], *, serves: bool
) -> Registered:
    """Log a forecaster and register it; `serves` gives it the alias "champion", else it is the "challenger".

    Args:
        uri: Tracking URI; the registry is there too.
        folder: Holds `forecaster.json` and `forecaster.npz`.
        appraisal: Of the same training.
        facts: Go in as parameters.
        serves: Whether it takes over.

    Raises:
        TrackerUnavailableError: MLflow does not answer; what was logged so far is a run of its own.
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
        return _register(MlflowClient(tracking_uri=uri, registry_uri=uri), folder, appraisal, facts, serves)
    except (SQLAlchemyError, OSError) as error:
        raise TrackerUnavailableError(f"MLflow: {str(error).splitlines()[0][:300]}") from error
    except MlflowException as error:
        text = f"MLflow: {str(error).splitlines()[0][:300]}"
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call, unused-ignore]
        if status in (401, 403):
            raise TrackerAccessDeniedError(text) from error
        raise (TrackerUnavailableError if status >= 500 else TrackerError)(text) from error


def _register(
    client: Any, folder: Path, appraisal: Appraisal, facts: Mapping[str, float | str], serves: bool
) -> Registered:
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
    run = client.create_run(experiment, tags={"pi.kind": "forecaster"})
    run_id = str(run.info.run_id)
    for name, value in facts.items():
        client.log_param(run_id, name, value)
    for name, value in appraisal.figures.items():
        client.log_metric(run_id, name, value)
    for trees, train_loss, test_loss in appraisal.learning.tolist():
        client.log_metric(run_id, "log_loss/train", train_loss, step=int(trees))
        client.log_metric(run_id, "log_loss/test", test_loss, step=int(trees))
    for share, (promised, seen, runs) in enumerate(appraisal.calibration.tolist(), start=1):
        client.log_metric(run_id, "calibration/promised", promised, step=share)
        client.log_metric(run_id, "calibration/seen", seen, step=share)
        client.log_metric(run_id, "calibration/runs", runs, step=share)
    client.log_artifacts(run_id, str(folder), "forecaster")
    with tempfile.TemporaryDirectory() as scratch:
        if _draw(appraisal, Path(scratch) / "forecaster.png"):
            client.log_artifact(run_id, str(Path(scratch) / "forecaster.png"), "plots")
    client.set_terminated(run_id)
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(MODEL, description="Failures and durations of flow runs; files, no pickle.")
    version = client.create_model_version(MODEL, f"{run.info.artifact_uri}/forecaster", run_id).version
    alias = CHAMPION if serves else CHALLENGER
    client.set_registered_model_alias(MODEL, alias, version)
    return Registered(run_id=run_id, version=str(version), alias=alias)


def _draw(appraisal: Appraisal, file: Path) -> bool:
    """Calibration, ROC, precision-recall and learning curve on one sheet; False without matplotlib or curves."""
    if not len(appraisal.roc):
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
    calibration.plot(appraisal.calibration[:, 0], appraisal.calibration[:, 1], marker="o")
    calibration.set(title="Calibration", xlabel="promised", ylabel="seen")
    roc.plot([0, 1], [0, 1], color="0.7")
    roc.plot(appraisal.roc[:, 0], appraisal.roc[:, 1])
    roc.set(title=f"ROC, area {appraisal.figures['auc']:.3f}", xlabel="false alarms", ylabel="failures found")
    recall.plot(appraisal.precision_recall[:, 0], appraisal.precision_recall[:, 1])
    recall.set(title=f"Average precision {appraisal.figures['ap']:.3f}", xlabel="failures found", ylabel="precision")
    learning.plot(appraisal.learning[:, 0], appraisal.learning[:, 1], label="training")
    learning.plot(appraisal.learning[:, 0], appraisal.learning[:, 2], label="test")
    learning.set(title="Log loss", xlabel="trees")
    learning.legend()
    figure.savefig(file, dpi=80)
    return True
