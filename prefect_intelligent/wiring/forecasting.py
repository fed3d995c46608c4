"""Training of the forecaster as one call: for the command, and for a flow that retrains on a schedule."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect_intelligent.forecasting.evaluation import ENOUGH, Appraisal, Drift, appraise, find_drift, train_appraised
from prefect_intelligent.forecasting.forecaster import Forecaster
from prefect_intelligent.forecasting.point_in_time_features import Context, encode
from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.history import open_runs
from prefect_intelligent.wiring.pipeline_graph import look_around

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
    """Train on the history, appraise on its newest fifth, take over if not worse, and log it all if asked to.

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
    runs = open_runs(settings).run_frame(since_s=since_s)
    around = look_around(settings)
    forecaster, appraisal = train_appraised(runs, seed=seed, around=around)
    folder = forecaster_folder(settings)
    serves = not _worse(folder, appraisal, runs, around)
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "forecaster"
        digest = forecaster.save(draft)
        facts: dict[str, Any] = {
            **forecaster.trained_on,
            "folder": str(folder),
            "sha256": digest,
            "serves": serves,
            "figures": appraisal.figures,
        }
        if track:
            from prefect_intelligent.forecasting.adapters.mlflow import register_forecaster

            settings.folder.mkdir(parents=True, exist_ok=True)
            given: dict[str, float | str] = {"runs": forecaster.trained_on["runs"], "sha256": digest, "seed": seed}
            known = register_forecaster(tracking_uri(settings, uri), draft, appraisal, given, serves=serves)
            facts |= {"run_id": known.run_id, "version": known.version, "alias": known.alias}
    if serves:
        forecaster.save(folder)
    return facts


def look_for_drift(settings: Settings, *, since_s: float) -> Drift:
    """Whether the forecaster that serves still fits the history.

    Raises:
        InvalidInputError: There is no forecaster yet, or its files are damaged.
    """
    forecaster = Forecaster.load(forecaster_folder(settings))
    return find_drift(forecaster, open_runs(settings).run_frame(since_s=since_s), look_around(settings))


def _worse(folder: Path, appraisal: Appraisal, runs: Any, around: Context) -> bool:
    """Whether the forecaster in the folder does better on runs that neither it nor the appraised one has seen."""
    if not (folder / "forecaster.json").exists() or "brier" not in appraisal.figures:
        return False
    old = Forecaster.load(folder)
    features, names = encode(runs, old.levels, around)
    if names != old.feature_names:
        return False
    ended = settled(runs).to_numpy()
    unseen = runs["submitted_s"].to_numpy() > float(old.trained_on.get("until_s", time.time()))
    since = runs["submitted_s"].to_numpy()[ended & unseen]
    if len(since) < ENOUGH:
        return False
    theirs = appraise(old, runs, features, float(since[0])).figures
    return "brier" in theirs and appraisal.figures["brier"] > WORSE * theirs["brier"]
