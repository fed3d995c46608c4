"""The switch of a pool: while it is off nobody writes to Prefect, whatever runs where.

It is kept in the history store, so it reaches every controller and every hook that shares the store.
"""

from __future__ import annotations

from typing import Literal

from prefect_intelligent.history.ports import HistoryStore

KIND = "switch"

Position = Literal["on", "off", "restored"]
"""`restored` is off for hooks, which would steer again at once; a controller that is started turns it on."""


def read_switch(history: HistoryStore, pool: str) -> Position:
    """Where the switch stands; on if nobody ever touched it."""
    record = history.latest(KIND, pool)
    if record is None:
        return "on"
    position: Position = record["position"]
    return position


def set_switch(history: HistoryStore, pool: str, position: Position, now_s: float, by: str) -> None:
    """Set the switch, unless it already stands there."""
    if read_switch(history, pool) != position:
        history.append(KIND, pool, now_s, {"position": position, "by": by})
