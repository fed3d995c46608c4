"""Settings to what the history makes one expect of a pool's deployments."""

from __future__ import annotations

from prefect_intelligent.forecasting.adapters.outlook_cache import HistoryOutlooks
from prefect_intelligent.settings import PoolSettings, Settings
from prefect_intelligent.wiring.history import has_history, open_runs
from prefect_intelligent.wiring.pipeline_graph import forecast_context


def open_outlooks(settings: Settings, pool: str) -> HistoryOutlooks | None:
    """What the history makes one expect of the pool's deployments; None while there is no history."""
    if not has_history(settings):
        return None
    return HistoryOutlooks(
        lambda since_s: open_runs(settings).run_frame(since_s=since_s, pool=pool, parameters=True),
        settings.folder / "forecaster",
        start_up_s=settings.pools.get(pool, PoolSettings()).startup_s,
        context=lambda: forecast_context(settings),
    )
