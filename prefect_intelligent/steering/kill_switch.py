"""The kill switch of a pool: while it is off, no controller and no hook writes to Prefect.

It is stored in the history, so it reaches every controller and every hook that shares the store.
"""

from __future__ import annotations

from typing import Literal

from prefect_intelligent.history.ports import HistoryStore

KIND = "switch"

Position = Literal["on", "off", "restored"]
"""`restored` is off until a controller is started, which turns it on; without it a hook would steer again at once."""


def read_switch(history: HistoryStore, pool: str) -> Position:
    """Position of the switch; on if it was never set."""
    record = history.latest(KIND, pool)
    if record is None:
        return "on"
    position: Position = record["position"]
    return position


def set_switch(history: HistoryStore, pool: str, position: Position, now_s: float, by: str) -> None:
    """Set the switch, unless it is in that position already."""
    if read_switch(history, pool) != position:
        history.append(KIND, pool, now_s, {"position": position, "by": by})
