"""Automations on the Prefect server that hand alerts to its notification blocks."""

from __future__ import annotations

from collections.abc import Sequence

from prefect_intelligent.analytics.adapters import prefect_notifications
from prefect_intelligent.analytics.adapters.prefect_notifications import Notice
from prefect_intelligent.prefect_client.api import PrefectApi

__all__ = ["Notice", "arrange_notices", "remove_notices"]


def arrange_notices(pool: str, blocks: Sequence[str], *, pages_only: bool, write: bool) -> Sequence[Notice]:
    """What has to be written so that alerts of the pool go to these blocks; done if `write`.

    Raises:
        UnknownNameError: There is no such block.
        InvalidInputError: The block cannot notify, or an automation of that name is somebody else's.
    """
    api = PrefectApi()
    notices = prefect_notifications.plan_notices(api, pool, blocks, pages_only=pages_only)
    if write:
        prefect_notifications.write_notices(api, notices)
    return notices


def remove_notices(pool: str, *, write: bool) -> Sequence[Notice]:
    """What has to be deleted so that nothing of ours notifies about the pool; done if `write`."""
    api = PrefectApi()
    notices = prefect_notifications.plan_removal(api, pool)
    if write:
        prefect_notifications.write_notices(api, notices)
    return notices
