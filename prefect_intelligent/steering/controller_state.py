"""What a controller carries from one pass to the next; stored in the history, so that any process can carry on.

A decision record holds the state after the pass (under the key "memory"). Before anything is written to Prefect, an
*intent* record with the state at that moment is stored too: should the controller die between the write and the
decision record, the next one does not take the values it finds for a person's.
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
from prefect_intelligent.steering.identity import Ids, from_rows, to_rows
from prefect_intelligent.steering.manual_overrides import KnownSettings, SettingKey

INTENT = "intent"
RELEASE = "release"

_PER_QUEUE = ("own_limit", "limit_changed_s")
_PER_POOL = ("order_changed_s", "pool_changed_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPlan:
    """What a planner has chosen.

    Attributes:
        name: Name of the candidate.
        at_s: When it was chosen, Unix seconds.
    """

    name: str
    at_s: float

    def holds(self, now_s: float, span_s: float) -> bool:
        """Whether it was chosen within the last `span_s` seconds."""
        return 0 <= now_s - self.at_s < span_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerState:
    """What is carried from pass to pass.

    Attributes:
        passes: How many passes there were; an intent with more passes than the last decision has no decision.
        releases: How many requests to end manual overrides have been carried out.
        known: The settings, and which of them a person has set.
        guard: The guard's state, as numbers, per queue and for the pool (""); infinity is None.
        chosen: The planner's last choice; None if there is no planner.
        ids: Of the pool and its queues.
    """

    passes: int = 0
    releases: int = 0
    known: KnownSettings = field(default_factory=KnownSettings)
    guard: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    chosen: ChosenPlan | None = None
    ids: Ids = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "passes": self.passes,
            "releases": self.releases,
            "standing": self.known.to_dict(),
            "guard": {name: dict(values) for name, values in self.guard.items()},
            "chosen": None if self.chosen is None else {"name": self.chosen.name, "at_s": self.chosen.at_s},
            "ids": to_rows(self.ids),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        chosen = data.get("chosen")
        return cls(
            chosen=None if chosen is None else ChosenPlan(name=str(chosen["name"]), at_s=float(chosen["at_s"])),
            passes=int(data["passes"]),
            releases=int(data["releases"]),
            known=KnownSettings.from_dict(data.get("standing", {})),
            guard={
                str(name): {column: None if value is None else float(value) for column, value in values.items()}
                for name, values in data.get("guard", {}).items()
            },
            ids=from_rows(data.get("ids", ())),
        )

    def without(self, names: Set[str | None]) -> Self:
        """The state without what is known of these queues; None is the pool."""
        known = self.known

        def others(values: Mapping[SettingKey, Any]) -> dict[SettingKey, Any]:
            return {key: value for key, value in values.items() if key[0] not in names}

        return replace(
            self,
            known=KnownSettings(
                values=others(known.values), pending=others(known.pending), overrides=others(known.overrides)
            ),
            guard={name: values for name, values in self.guard.items() if (name or None) not in names},
            ids={name: value for name, value in self.ids.items() if name not in names},
        )


def load_state(history: HistoryStore, pool: str) -> ControllerState:
    """The state of the pool's controller: from its last decision, or from a later intent that never became one."""
    state = ControllerState()
    for kind in (DECISION, INTENT):
        found = read_latest(history, kind, pool, lambda record: ControllerState.from_dict(record["memory"]))
        if found is not None and found.passes > state.passes:
            state = found
    return state


def apply_release_requests(history: HistoryStore, pool: str, state: ControllerState) -> ControllerState:
    """The state without the manual overrides that a person has asked to end since the last pass."""
    requests = history.records(RELEASE, pool)[state.releases :]
    if not requests:
        return state
    asked: list[list[str]] = read_each(RELEASE, requests, lambda request: list(request["queues"]))
    ended = {queue for queues in asked for queue in queues}
    everything = [] in asked
    kept = {key: found for key, found in state.known.overrides.items() if not (everything or (key[0] or "") in ended)}
    return replace(state, releases=state.releases + len(requests), known=replace(state.known, overrides=kept))


def request_release(history: HistoryStore, pool: str, queues: Sequence[str], now_s: float) -> None:
    """Ask for an end to the manual overrides of these queues ("" is the pool), or to all if none is named."""
    history.append(RELEASE, pool, now_s, {"queues": list(queues)})


def restore_guard_state(state: ControllerState, names: Sequence[str], census: Census, now_s: float) -> GuardState:
    """The guard's state for the queues as they are now.

    Instants later than `now_s` count as `now_s`: after a clock that jumped back the guard waits one interval, not until
    the old time.
    """
    fresh = GuardState.start(census)
    values: dict[str, Array] = {name: getattr(fresh, name) for name in (*_PER_QUEUE, *_PER_POOL)}
    for index, name in enumerate(names):
        if (kept := state.guard.get(name)) is not None:
            for column in kept.keys() & set(_PER_QUEUE):
                values[column][index] = _number(kept[column])
    if (kept := state.guard.get("")) is not None:
        for column in kept.keys() & set(_PER_POOL):
            values[column] = np.array(_number(kept[column]))
    for column in ("limit_changed_s", *_PER_POOL):
        values[column] = np.minimum(values[column], now_s)
    return GuardState(**values)


def dump_guard_state(
    before: GuardState, after: GuardState, names: Sequence[str], written: Set[SettingKey]
) -> dict[str, dict[str, float | None]]:
    """The part of the guard's state that is stored, by queue.

    Args:
        before: Before the pass.
        after: As if all that was permitted had been written.
        names: Of the queues.
        written: What has been written. A value that has not been starts no interval: the next pass may change it.
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
