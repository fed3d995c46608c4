"""What we believe Prefect holds, and which of it a person has set: human-set values are left alone for a while.

A value that is found in Prefect and is neither what was there after our last pass nor what we were about to write is a
person's. It is held for `hold_s`, until it is changed back, or until `control release`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from prefect_intelligent.domain import Change, PoolSetting, QueueSetting
from prefect_intelligent.domain.queues import MAX_PRIORITY
from prefect_intelligent.history.reading import read_each

Key = tuple[str | None, Literal["priority", "limit"]]
"""One value: the queue (None is the pool itself) and which of its settings."""

Values = Mapping[Key, int | None]


def values_of(pool: PoolSetting, queues: Iterable[QueueSetting]) -> dict[Key, int | None]:
    """Every value of a pool that steering may touch."""
    values: dict[Key, int | None] = {(None, "limit"): pool.limit}
    for queue in queues:
        values[queue.name, "priority"] = queue.priority
        values[queue.name, "limit"] = queue.limit
    return values


def key_of(change: Change) -> Key:
    """What a change is about."""
    return change.queue, change.field


def describe(key: Key) -> str:
    """A key in words."""
    queue, which = key
    return f"{which} of the pool" if queue is None else f"{which} of queue {queue!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualOverride:
    """A value that a person has set.

    Attributes:
        value: What the person set.
        before: What was there; setting that again ends the hold.
        since_s: When we saw it first.
        until_s: When we may change it again.
    """

    value: int | None
    before: int | None
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSettings:
    """What a controller knows of the settings between two passes.

    Attributes:
        values: What Prefect held when last looked at; empty if it never was.
        pending: What we were about to write, and do not know whether we did.
        holds: Values that a person has set.
    """

    values: Values = field(default_factory=dict)
    pending: Values = field(default_factory=dict)
    holds: Mapping[Key, ManualOverride] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "values": to_rows(self.values),
            "pending": to_rows(self.pending),
            "holds": [[*key, hold.value, hold.before, hold.since_s, hold.until_s] for key, hold in self.holds.items()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            values=from_rows(data.get("values", ())),
            pending=from_rows(data.get("pending", ())),
            holds=dict(read_each("manual override", data.get("holds", ()), _read_hold)),
        )


def to_rows(values: Values) -> list[list[Any]]:
    """Values in a form that JSON can hold."""
    return [[queue, which, value] for (queue, which), value in values.items()]


def from_rows(rows: Sequence[Sequence[Any]]) -> dict[Key, int | None]:
    """Inverse of `to_rows`; a row that cannot be read is left out, the others count."""
    return dict(read_each("setting", rows, _read_value))


def _read_value(row: Sequence[Any]) -> tuple[Key, int | None]:
    queue, which, value, *_ = row
    number = None if value is None else int(value)
    least = {"priority": 1, "limit": 0}[which]
    if not (least <= number <= MAX_PRIORITY if number is not None else which == "limit"):
        raise ValueError(f"{which} is {value!r}")
    return (None if queue is None else str(queue), which), number


def _read_hold(row: Sequence[Any]) -> tuple[Key, ManualOverride]:
    queue, which, value, before, since_s, until_s, *_ = row
    key, value = _read_value((queue, which, value))
    _, before = _read_value((queue, which, before))
    return key, ManualOverride(value=value, before=before, since_s=float(since_s), until_s=float(until_s))


def detect_overrides(standing: KnownSettings, found: Values, now_s: float, hold_s: float) -> dict[Key, ManualOverride]:
    """Which of the values found are a person's.

    Args:
        standing: From the last pass.
        found: What Prefect holds now.
        now_s: The present instant. A clock that jumped back cannot make a hold last longer than `hold_s` from now.
        hold_s: How long a value is left alone.
    """
    holds: dict[Key, ManualOverride] = {}
    for key, value in found.items():
        if (hold := standing.holds.get(key)) is not None:
            if value == hold.before or (value == hold.value and now_s >= hold.until_s):
                continue
            if value == hold.value:
                until_s = min(hold.until_s, now_s + hold_s)
                holds[key] = ManualOverride(value=value, before=hold.before, since_s=hold.since_s, until_s=until_s)
            else:
                holds[key] = ManualOverride(value=value, before=hold.before, since_s=now_s, until_s=now_s + hold_s)
        elif key in standing.values and value != standing.values[key] and not _ours(standing, key, value):
            holds[key] = ManualOverride(value=value, before=standing.values[key], since_s=now_s, until_s=now_s + hold_s)
    return holds


def _ours(standing: KnownSettings, key: Key, value: int | None) -> bool:
    """Whether we were about to write the value."""
    return key in standing.pending and standing.pending[key] == value
