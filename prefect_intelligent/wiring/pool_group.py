"""What the controllers of several pools in one process have in common, and which pools there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.history import open_history

if TYPE_CHECKING:
    from prefect_intelligent.steering.adapters.prefect_events import PrefectEventStream


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What the controllers of one process share.

    Attributes:
        history: One connection pool for all of them.
        stream: Prefect's events; None if nobody listens.
    """

    history: HistoryStore
    stream: PrefectEventStream | None = None


@contextmanager
def open_shared_parts(settings: Settings, *, listen: bool) -> Iterator[SharedParts]:
    """The parts, with the event stream open if somebody listens; it is closed at the end.

    Raises:
        StoreError: The history store cannot be opened.
    """
    from prefect_intelligent.steering.adapters.prefect_events import PrefectEventStream

    history = open_history(settings)
    stream = PrefectEventStream() if listen else None
    try:
        yield SharedParts(history=history, stream=stream)
    finally:
        if stream is not None:
            stream.close()


def find_pools(api: PrefectApi, tag: str | None = None) -> tuple[str, ...]:
    """The server's work pools by name; with a tag, those that have a deployment with it.

    Raises:
        OrchestratorError: They cannot be read.
    """
    if tag is None:
        return _names(api, "/work_pools/filter", {}, "name")
    return _names(api, "/deployments/filter", {"deployments": {"tags": {"all_": [tag]}}}, "work_pool_name")


def _names(api: PrefectApi, route: str, body: dict[str, Any], field: str) -> tuple[str, ...]:
    found = {record.get(field) for page in api.pages(route, body) for record in page}
    return tuple(sorted(str(name) for name in found if name))
