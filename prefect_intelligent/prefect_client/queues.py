"""The work queues of a pool, whatever its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi, path


def read_queues(api: PrefectApi, pool: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All queues of a pool, which is given as the API gives it.

    Prefect takes names that its own routes do not find again, e.g. with a line break at the end; then all queues of the
    server are looked through.
    """
    try:
        return [queue for page in api.pages(path("work_pools", pool["name"], "queues", "filter"), {}) for queue in page]
    except ConflictError:
        pages = api.pages("/work_queues/filter", {})
        return [queue for page in pages for queue in page if queue["work_pool_id"] == pool["id"]]
