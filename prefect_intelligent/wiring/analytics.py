"""Opens what finds the alerts of a pool, and installs automations that send them to Prefect's notification blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefect_intelligent.analytics.adapters import prefect_notifications
from prefect_intelligent.analytics.adapters.prefect_notifications import NotificationChange
from prefect_intelligent.analytics.pool_alerts import AlertFinder
from prefect_intelligent.analytics.run_metrics import RunReport, analyse
from prefect_intelligent.domain.slot_account import SlotAccount, slot_account
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.pool_limits import read_pool_limits
from prefect_intelligent.wiring.blocking import pool_findings
from prefect_intelligent.wiring.history import open_history, open_runs
from prefect_intelligent.wiring.pipeline_graph import awaited_deployments, open_graph
from prefect_intelligent.wiring.steering import PoolController, open_controller

if TYPE_CHECKING:
    import pandas as pd

    from prefect_intelligent.history.adapters.sql_runs import SqlRuns

__all__ = [
    "NotificationChange",
    "history_cost",
    "install_notifications",
    "open_alert_finder",
    "read_slots",
    "remove_notifications",
]


def read_slots(runs: SqlRuns, history: HistoryStore, pool: str | None) -> SlotAccount | None:
    """The account of a pool's slots: its limit as it was copied and as steering has written it, since its first run.

    Returns:
        None if no pool is named or nothing is known of it.
    """
    if pool is None:
        return None
    kept = runs.queue_frame()
    own = kept[(kept["pool"] == pool) & (kept["queue"] == "")]
    known = own["limit"].astype(float).tolist()
    limits = [
        (float(at_s), None if math.isnan(limit) else limit) for at_s, limit in zip(own["at_s"], known, strict=True)
    ]
    return slot_account([*limits, *read_pool_limits(history, pool)], runs.first_submitted_s(pool))


def history_cost(settings: Settings, pool: str, runs: pd.DataFrame, since_s: float, until_s: float) -> RunReport:
    """What a pool has cost, by the account that `report`, the dashboard, `replay` and `recommend` have in common.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        runs: Its runs, as from the history.
        since_s: Start of the span, Unix seconds.
        until_s: Its end.

    Raises:
        StoreError: The history cannot be opened.
    """
    slots = read_slots(open_runs(settings), open_history(settings), pool)
    prices = settings.prices_of(pool)
    return analyse(runs, since_s=since_s, until_s=until_s, prices=prices, slots=slots, dimensions=())


def open_alert_finder(settings: Settings, pool: str) -> tuple[PoolController, AlertFinder]:
    """The pool and the finder of its alerts.

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
        awaited=lambda: awaited_deployments(runs),
        blocked=lambda: pool_findings(settings, controller.api, pool),
    )
    return controller, finder


def install_notifications(
    pool: str, blocks: Sequence[str], *, pages_only: bool, write: bool
) -> Sequence[NotificationChange]:
    """The changes that make alerts of the pool go to these blocks; written if `write`.

    Raises:
        UnknownNameError: There is no such block.
        InvalidInputError: The block cannot notify, or there is an automation of that name without our tag.
    """
    api = PrefectApi()
    changes = prefect_notifications.plan_notifications(api, pool, blocks, pages_only=pages_only)
    if write:
        prefect_notifications.write_changes(api, changes)
    return changes


def remove_notifications(pool: str, *, write: bool) -> Sequence[NotificationChange]:
    """The changes that delete all our automations of the pool; written if `write`."""
    api = PrefectApi()
    changes = prefect_notifications.plan_removal(api, pool)
    if write:
        prefect_notifications.write_changes(api, changes)
    return changes
