"""The records of one pool: the history, with what must not be lost kept on the Prefect server too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prefect_intelligent.domain import PoolSetting, QueueSetting
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.pool_notes import PoolNotes
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.kill_switch import Position, read_switch
from prefect_intelligent.steering.pool_records import PoolRecords
from prefect_intelligent.wiring.history import open_history


def pool_records(
    settings: Settings,
    api: PrefectApi,
    pool: str,
    pool_id: Callable[[], str | None] = lambda: None,
    *,
    history: HistoryStore | None = None,
) -> HistoryStore:
    """The history (that of the settings if none is given), with what must not be lost kept on the server too.

    Raises:
        StoreError: The history store cannot be opened.
    """
    return PoolRecords(history or open_history(settings), PoolNotes(api, pool, pool_id), pool)


def switch_position(settings: Settings, pool: str) -> Position:
    """The position of a pool's switch, also if it was set on another machine.

    Raises:
        StoreError: The history store cannot be opened.
    """
    api = PrefectApi()
    try:
        return read_switch(pool_records(settings, api, pool), pool)
    finally:
        api.close()


def settings_given(
    history: HistoryStore, pool: PoolSetting, queues: tuple[QueueSetting, ...]
) -> tuple[PoolSetting, tuple[QueueSetting, ...]]:
    """The settings of a pool as people have given them: what it holds now, without what steering has changed."""
    given = read_baseline(history, pool.name)

    def of_queue(held: QueueSetting) -> QueueSetting:
        priority = given.get((held.name, "priority")) or held.priority
        return replace(held, priority=priority, limit=given.get((held.name, "limit"), held.limit))

    return replace(pool, limit=given.get((None, "limit"), pool.limit)), tuple(of_queue(queue) for queue in queues)
