"""The switch of a pool: controllers and hooks write to Prefect while it is on, and at no other time.

It is `unset` until an operator turns it on with `control on` or by starting a controller in mode auto, and again after
`control restore`: a decorator alone steers nothing. While it is `off` only `control on` turns it on.

It is kept with the pool on the Prefect server (`pool_records`), so it reaches every controller and every hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each

KIND = "switch"

Position = Literal["on", "off", "unset"]

_BEFORE_0_3: Mapping[str, Position] = {"restored": "unset"}


def read_switch(history: HistoryStore, pool: str) -> Position:
    """Position of the switch; off if what was written last cannot be read."""
    record = history.latest(KIND, pool)
    return "unset" if record is None else position_of(record)


def position_of(record: Mapping[str, Any]) -> Position:
    """The position that a record says; off if it cannot be read."""
    found = read_each(KIND, [record], _read)
    return found[0] if found else "off"


def _read(record: Mapping[str, Any]) -> Position:
    position: Position = _BEFORE_0_3.get(record["position"], record["position"])
    if position not in get_args(Position):
        raise ValueError(position)
    return position


def set_switch(history: HistoryStore, pool: str, position: Position, now_s: float, by: str) -> None:
    """Set the switch, unless it is in that position already."""
    if read_switch(history, pool) != position:
        history.append(KIND, pool, now_s, {"position": position, "by": by})


def set_if_unset(history: HistoryStore, pool: str, position: Position, now_s: float, by: str) -> None:
    """Set a switch that nobody has set yet, as starting a controller in mode auto does."""
    if read_switch(history, pool) == "unset":
        set_switch(history, pool, position, now_s, by)


def unset_unless_off(history: HistoryStore, pool: str, now_s: float, by: str) -> None:
    """What putting the pool back means."""
    if read_switch(history, pool) == "on":
        set_switch(history, pool, "unset", now_s, by)


def who_steers(position: Position, *, led: bool) -> str:
    """Who writes to the pool, in one sentence.

    Args:
        position: Of the switch.
        led: Whether a controller leads the pool.
    """
    if position == "off":
        return "nobody steers: it is switched off, until `control on`"
    if position == "unset":
        what = "a controller leads and only watches" if led else "nobody steers"
        return f"{what}: steering is not switched on; `control run` in mode auto, or `control on`, does so"
    if led:
        return "a controller steers it"
    return "switched on, no controller leads: hooks of decorated flows make a decision now and then"
