"""Forecasts of the live runs of a pool, with features from the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate, Run, RunPhase, Snapshot
from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.forecasting.forecaster import Forecast, Forecaster
from prefect_intelligent.forecasting.in_flight_risk import failure_probability_now
from prefect_intelligent.forecasting.online_update import update_online
from prefect_intelligent.forecasting.outlook import duration_estimate
from prefect_intelligent.forecasting.point_in_time_features import (
    NO_CONTEXT,
    Context,
    FeatureState,
    SubmittedRun,
    replay_into,
)
from prefect_intelligent.history.runs_frame import duration_s, settled


def forecast_live_runs(
    forecaster: Forecaster,
    runs: pd.DataFrame,
    snapshot: Snapshot,
    *,
    heartbeats: Mapping[str, Heartbeats] | None = None,
    context: Context = NO_CONTEXT,
) -> list[dict[str, Any]]:
    """Duration, failure probability and its reasons for every live run, highest failure probability first.

    For a run that has started the probability is updated by its elapsed time and its missing heartbeats.

    Args:
        forecaster: Trained on this history.
        runs: The history, as from `as_runs` or the store; runs that have not ended are ignored, they are in the
            snapshot.
        snapshot: The pool as it is now.
        heartbeats: Run id to its heartbeats.
        context: Upstream deployments, and the quality checks of their outputs.
    """
    past = runs[settled(runs)].reset_index(drop=True)
    state = FeatureState(forecaster.levels, context.upstream)
    replay_into(state, past, context.output_checks)
    last = past.groupby(past["deployment"].astype(str)).last()
    live = list(snapshot.runs(RunPhase.WAITING, RunPhase.UPCOMING, RunPhase.RUNNING))
    seconds = duration_s(past)[past["failed"]].groupby(past["deployment"].astype(str)[past["failed"]])
    failures = {str(name): duration_estimate(group.tolist()[-50:]) for name, group in seconds}
    features = []
    for run in live:
        known = last.loc[run.deployment] if run.deployment in last.index else None
        version = None if known is None or pd.isna(known["version"]) else str(known["version"])
        size = float("nan") if known is None else float(str(known["size"]))
        submitted = SubmittedRun(
            f"live {run.id}",
            run.deployment,
            snapshot.pool.name,
            run.queue,
            version,
            size,
            parameters=run.parameters,
        )
        features.append(state.features(submitted, max(snapshot.at_s, run.scheduled_s)))
    if not features:
        return []
    names = [run.deployment for run in live]
    forecasts = update_online(forecaster, past, context).forecast(np.array(features, dtype=float), names)
    rows = [
        {
            "id": run.id,
            "deployment": run.deployment,
            "queue": run.queue,
            "scheduled_s": run.scheduled_s,
            "p50_s": forecast.estimate.p50_s,
            "p90_s": forecast.estimate.p90_s,
            "phase": run.phase.value,
            **_failure_row(run, snapshot.at_s, forecast, failures.get(run.deployment), heartbeats or {}),
        }
        for run, forecast in zip(live, forecasts, strict=True)
    ]
    return sorted(rows, key=lambda row: (-float(str(row["failure_probability"])), str(row["id"])))


def _failure_row(
    run: Run, at_s: float, forecast: Forecast, failed: Estimate | None, heartbeats: Mapping[str, Heartbeats]
) -> dict[str, Any]:
    """Failure probability of a live run and its reasons, as JSON values."""
    probability, reasons = forecast.failure_probability, forecast.reasons
    if run.phase is RunPhase.RUNNING and run.started_s is not None:
        probability, since_start = failure_probability_now(
            probability, at_s - run.started_s, forecast.estimate, failed, heartbeats.get(run.id), at_s
        )
        reasons = (*since_start, *reasons)
    return {"failure_probability": probability, "reasons": [str(reason) for reason in reasons]}
