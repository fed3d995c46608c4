"""Pool limits that steering has written, kept for longer than decisions: what slots cost over time depends on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefect_intelligent.domain import Change
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each

KIND = "pool-limit"


def record_pool_limits(history: HistoryStore, pool: str, at_s: float, changes: Iterable[Change]) -> None:
    """Store those of the changes that are about the pool's limit."""
    for change in changes:
        if change.queue is None:
            history.append(KIND, pool, at_s, {"at_s": at_s, "after": change.after})


def read_pool_limits(history: HistoryStore, pool: str) -> list[tuple[float, float | None]]:
    """From when on (Unix seconds) the pool had which limit; None is unlimited."""
    return read_each(KIND, history.records(KIND, pool), _read)


def _read(record: Mapping[str, Any]) -> tuple[float, float | None]:
    after = record["after"]
    return float(record["at_s"]), None if after is None else float(after)
