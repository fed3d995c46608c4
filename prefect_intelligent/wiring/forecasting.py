"""Training of the forecaster as one call: for the command, and for a flow that retrains on a schedule."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect_intelligent.forecasting.evaluation import (
    MIN_RUNS_FOR_DRIFT,
    ForecastDrift,
    ForecasterEvaluation,
    check_drift,
    evaluate_forecaster,
    train_and_evaluate,
)
from prefect_intelligent.forecasting.forecaster import Forecaster
from prefect_intelligent.forecasting.point_in_time_features import Context, encode_runs, levels_of
from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.history import open_runs
from prefect_intelligent.wiring.pipeline_graph import forecast_context

WORSE = 1.02
"""A new forecaster takes over unless its Brier score on the newest runs is more than 2 % above the old one's."""


def forecaster_folder(settings: Settings) -> Path:
    """Where the forecaster that serves is kept."""
    return settings.folder / "forecaster"


def tracking_uri(settings: Settings, uri: str | None = None) -> str:
    """MLflow: the one given, `MLFLOW_TRACKING_URI`, or a SQLite file in the data folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{settings.folder / 'mlflow.db'}"


def retrain_forecaster(
    settings: Settings, *, since_s: float, track: bool = False, uri: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Train on the history, evaluate on its newest fifth, serve if not worse, and log to MLflow if asked to.

    The files that serve are exchanged only when everything else has succeeded.

    Args:
        settings: All settings.
        since_s: Runs from then on are used, Unix seconds.
        track: Whether to log and register it in MLflow.
        uri: MLflow, instead of the usual one.
        seed: Of the trees.

    Returns:
        Facts: runs, failed, sha256, folder, serves, figures, and run_id, version and alias in MLflow.

    Raises:
        InvalidInputError: Not enough data.
        TrackerUnavailableError: MLflow does not answer; the old forecaster goes on serving.
    """
    runs = open_runs(settings).run_frame(since_s=since_s, parameters=True)
    context = forecast_context(settings)
    forecaster, evaluation = train_and_evaluate(runs, levels=levels_of(runs), seed=seed, context=context)
    folder = forecaster_folder(settings)
    serves = not _worse(folder, evaluation, runs, context)
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "forecaster"
        digest = forecaster.save(draft)
        facts: dict[str, Any] = {
            **forecaster.trained_on,
            "folder": str(folder),
            "sha256": digest,
            "serves": serves,
            "figures": evaluation.figures,
        }
        if track:
            from prefect_intelligent.forecasting.adapters.mlflow import register_forecaster

            settings.folder.mkdir(parents=True, exist_ok=True)
            given: dict[str, float | str] = {"runs": forecaster.trained_on["runs"], "sha256": digest, "seed": seed}
            known = register_forecaster(tracking_uri(settings, uri), draft, evaluation, given, serves=serves)
            facts |= {"run_id": known.run_id, "version": known.version, "alias": known.alias}
    if serves:
        forecaster.save(folder)
    return facts


def look_for_drift(settings: Settings, *, since_s: float) -> ForecastDrift:
    """Whether the forecaster that serves still fits the history.

    Raises:
        InvalidInputError: There is no forecaster yet, or its files are damaged.
    """
    forecaster = Forecaster.load(forecaster_folder(settings))
    runs = open_runs(settings).run_frame(since_s=since_s, parameters=True)
    return check_drift(forecaster, runs, forecast_context(settings))


def _worse(folder: Path, evaluation: ForecasterEvaluation, runs: Any, context: Context) -> bool:
    """Whether the serving forecaster is better on runs that neither it nor the evaluated one was trained on."""
    if not (folder / "forecaster.json").exists() or "brier" not in evaluation.figures:
        return False
    old = Forecaster.load(folder)
    features, names = encode_runs(runs, old.levels, context)
    if names != old.feature_names:
        return False
    ended = settled(runs).to_numpy()
    unseen = runs["submitted_s"].to_numpy() > float(old.trained_on.get("until_s", time.time()))
    since = runs["submitted_s"].to_numpy()[ended & unseen]
    if len(since) < MIN_RUNS_FOR_DRIFT:
        return False
    theirs = evaluate_forecaster(old, runs, features, float(since[0])).figures
    return "brier" in theirs and evaluation.figures["brier"] > WORSE * theirs["brier"]
