"""Instants of a flow run as Prefect's API gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_intelligent.domain.instants import unix_s


def submitted_s(run: Mapping[str, Any]) -> float:
    """From when a run could have started: its expected start, or its creation if that was later (Unix seconds).

    Waiting and lateness count from here: a run made today for last month has not been late for a month.
    """
    created_s = unix_s(run["created"])
    return created_s if run["expected_start_time"] is None else max(created_s, unix_s(run["expected_start_time"]))
