"""Settings to what finds the alerts of a pool."""

from __future__ import annotations

from prefect_intelligent.analytics.pool_alerts import AlertFinder
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.history import open_runs
from prefect_intelligent.wiring.pipeline_graph import open_graph
from prefect_intelligent.wiring.steering import PoolController, open_controller


def open_alert_finder(settings: Settings, pool: str) -> tuple[PoolController, AlertFinder]:
    """The pool, and what finds its alerts.

    Raises:
        InvalidInputError: A setting cannot be used; `UnknownNameError` if the server has no such pool.
        StoreError: The history cannot be opened.
    """
    controller = open_controller(settings, pool, by="alerts")
    runs = open_runs(settings)
    finder = AlertFinder(
        observe=controller.orchestrator.observe,
        read_runs=lambda since_s: runs.run_frame(since_s=since_s, pool=pool),
        history=controller.history,
        pool=pool,
        prices=settings.prices_of(pool),
        interval_s=settings.interval_s,
        graph=open_graph(settings, runs),
        budgets=settings.budgets_usd_per_day,
    )
    return controller, finder
