"""What a controller remembers from one pass to the next; kept in the history, so that any process can carry on.

A decision record holds the memory after the pass. Before anything is written to Prefect an *intent* with the memory as
it then was is kept too, so that a controller that dies between the write and its record does not take its own values
for a person's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each, read_latest
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard_state import GuardState
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.manual_overrides import Key, KnownSettings

INTENT = "intent"
RELEASE = "release"

_PER_QUEUE = ("own_limit", "limit_changed_s")
_PER_POOL = ("order_changed_s", "pool_changed_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerState:
    """What is carried from pass to pass.

    Attributes:
        passes: How many passes there were; tells an intent that has no decision from an old one.
        releases: How many requests to end holds have been heeded.
        standing: The settings and whose they are.
        guard: Per queue and for the pool ("") what the guard remembers, as numbers; infinity is None.
    """

    passes: int = 0
    releases: int = 0
    standing: KnownSettings = field(default_factory=KnownSettings)
    guard: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "passes": self.passes,
            "releases": self.releases,
            "standing": self.standing.to_dict(),
            "guard": {name: dict(values) for name, values in self.guard.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            passes=int(data["passes"]),
            releases=int(data["releases"]),
            standing=KnownSettings.from_dict(data.get("standing", {})),
            guard={
                str(name): {column: None if value is None else float(value) for column, value in values.items()}
                for name, values in data.get("guard", {}).items()
            },
        )


def load_state(history: HistoryStore, pool: str) -> ControllerState:
    """The memory of the pool: of its last decision, or of a later intent that never became one."""
    memory = ControllerState()
    for kind in (DECISION, INTENT):
        found = read_latest(history, kind, pool, lambda record: ControllerState.from_dict(record["memory"]))
        if found is not None and found.passes > memory.passes:
            memory = found
    return memory


def apply_release_requests(history: HistoryStore, pool: str, memory: ControllerState) -> ControllerState:
    """The memory without the holds that a person has asked to end since the last pass."""
    requests = history.records(RELEASE, pool)[memory.releases :]
    if not requests:
        return memory
    asked: list[list[str]] = read_each(RELEASE, requests, lambda request: list(request["queues"]))
    ended = {queue for queues in asked for queue in queues}
    everything = [] in asked
    holds = {key: hold for key, hold in memory.standing.holds.items() if not (everything or (key[0] or "") in ended)}
    return replace(memory, releases=memory.releases + len(requests), standing=replace(memory.standing, holds=holds))


def release(history: HistoryStore, pool: str, queues: Sequence[str], now_s: float) -> None:
    """Ask for an end to the holds on these queues ("" is the pool), or on everything if there are none."""
    history.append(RELEASE, pool, now_s, {"queues": list(queues)})


def guard_state(memory: ControllerState, names: Sequence[str], census: Census, now_s: float) -> GuardState:
    """The guard's state for the queues as they are now.

    No change can have been made later than now: after a clock that jumped back the guard waits one interval, not until
    the old time.
    """
    fresh = GuardState.start(census)
    values: dict[str, Array] = {name: getattr(fresh, name) for name in (*_PER_QUEUE, *_PER_POOL)}
    for index, name in enumerate(names):
        if (kept := memory.guard.get(name)) is not None:
            for column in kept.keys() & set(_PER_QUEUE):
                values[column][index] = _number(kept[column])
    if (kept := memory.guard.get("")) is not None:
        for column in kept.keys() & set(_PER_POOL):
            values[column] = np.array(_number(kept[column]))
    for column in ("limit_changed_s", *_PER_POOL):
        values[column] = np.minimum(values[column], now_s)
    return GuardState(**values)


def guard_memory(
    before: GuardState, after: GuardState, names: Sequence[str], written: Set[Key]
) -> dict[str, dict[str, float | None]]:
    """The part of the guard's state that is kept, by queue.

    Args:
        before: Before the pass.
        after: As if all that was permitted had been written.
        names: Of the queues.
        written: What has been written: a value that was not has not been changed, and may be at the next pass.
    """
    kept: dict[str, dict[str, float | None]] = {}
    for index, name in enumerate(names):
        changed = after if (name, "limit") in written else before
        kept[name] = {
            "own_limit": _finite(after.own_limit[index]),
            "limit_changed_s": _finite(changed.limit_changed_s[index]),
        }
    order = after if any(which == "priority" for _, which in written) else before
    pool = after if (None, "limit") in written else before
    return kept | {
        "": {"order_changed_s": _finite(order.order_changed_s), "pool_changed_s": _finite(pool.pool_changed_s)}
    }


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _finite(value: Any) -> float | None:
    number = float(value)
    return None if math.isinf(number) else number
