"""The kill switch of a pool: while it is off, no controller and no hook writes to Prefect.

It is stored in the history, so it reaches every controller and every hook that shares the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each

KIND = "switch"

Position = Literal["on", "off", "restored"]
"""`restored` is off until a controller is started, which turns it on; without it a hook would steer again at once."""


def read_switch(history: HistoryStore, pool: str) -> Position:
    """Position of the switch; on if it was never set, off if what was written last cannot be read."""
    record = history.latest(KIND, pool)
    if record is None:
        return "on"
    found = read_each(KIND, [record], _read)
    return found[0] if found else "off"


def _read(record: Mapping[str, Any]) -> Position:
    position: Position = record["position"]
    if position not in get_args(Position):
        raise ValueError(position)
    return position


def set_switch(history: HistoryStore, pool: str, position: Position, now_s: float, by: str) -> None:
    """Set the switch, unless it is in that position already."""
    if read_switch(history, pool) != position:
        history.append(KIND, pool, now_s, {"position": position, "by": by})
