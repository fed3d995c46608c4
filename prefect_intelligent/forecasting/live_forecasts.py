"""Forecasts of the live runs of a pool: the history is told to a ledger, and the ledger is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Estimate, Run, RunPhase, Snapshot
from prefect_intelligent.forecasting.forecaster import Forecast, Forecaster
from prefect_intelligent.forecasting.in_flight_risk import failure_probability_now
from prefect_intelligent.forecasting.online_update import update_online
from prefect_intelligent.forecasting.outlook import span_of
from prefect_intelligent.forecasting.point_in_time_features import NOTHING, Context, FeatureState, Work, replay_into
from prefect_intelligent.history.runs_frame import duration_s, settled


def forecast_live_runs(
    forecaster: Forecaster,
    runs: pd.DataFrame,
    snapshot: Snapshot,
    *,
    heartbeats: Mapping[str, float] | None = None,
    around: Context = NOTHING,
) -> list[dict[str, Any]]:
    """Duration, failure probability and its reasons of every live run, likeliest failures first.

    For a run at work the probability is what it was before, given its elapsed time and silence since.

    Args:
        forecaster: Trained on this history.
        runs: The history, as from `as_runs` or the store; runs that have not ended are left out, as they are in the
            snapshot.
        snapshot: The pool as it is now.
        heartbeats: Run id to its last sign of life, Unix seconds.
        around: What is known of the world around the runs.
    """
    past = runs[settled(runs)].reset_index(drop=True)
    ledger = FeatureState(forecaster.levels, around.upstream)
    replay_into(ledger, past, around.verified)
    last = past.groupby(past["deployment"].astype(str)).last()
    live = list(snapshot.runs(RunPhase.WAITING, RunPhase.UPCOMING, RunPhase.RUNNING))
    seconds = duration_s(past)[past["failed"]].groupby(past["deployment"].astype(str)[past["failed"]])
    failures = {str(name): span_of(group.tolist()[-50:]) for name, group in seconds}
    features = []
    for run in live:
        known = last.loc[run.deployment] if run.deployment in last.index else None
        version = None if known is None or pd.isna(known["version"]) else str(known["version"])
        size = float("nan") if known is None else float(str(known["size"]))
        work = Work(f"live {run.id}", run.deployment, snapshot.pool.name, run.queue, version, size)
        features.append(ledger.look(work, max(snapshot.at_s, run.scheduled_s)))
    if not features:
        return []
    names = [run.deployment for run in live]
    forecasts = update_online(forecaster, past, around).forecast(np.array(features, dtype=float), names)
    rows = [
        {
            "id": run.id,
            "deployment": run.deployment,
            "queue": run.queue,
            "scheduled_s": run.scheduled_s,
            "p50_s": forecast.estimate.p50_s,
            "p90_s": forecast.estimate.p90_s,
            "phase": run.phase.value,
            **_at_work(run, snapshot.at_s, forecast, failures.get(run.deployment), heartbeats or {}),
        }
        for run, forecast in zip(live, forecasts, strict=True)
    ]
    return sorted(rows, key=lambda row: (-float(str(row["failure_probability"])), str(row["id"])))


def _at_work(
    run: Run, at_s: float, forecast: Forecast, failed: Estimate | None, heartbeats: Mapping[str, float]
) -> dict[str, Any]:
    probability, reasons = forecast.failure_probability, forecast.reasons
    if run.phase is RunPhase.RUNNING and run.started_s is not None:
        silent_s = None if run.id not in heartbeats else at_s - heartbeats[run.id]
        probability, since = failure_probability_now(
            probability, at_s - run.started_s, forecast.estimate, failed, silent_s
        )
        reasons = (*since, *reasons)
    return {"failure_probability": probability, "reasons": [str(reason) for reason in reasons]}
