"""Which settings a person has set by hand: steering leaves those alone for a while.

A value found in Prefect that is neither what was there after the last pass nor what we were about to write is a manual
override. It is left alone for `hold_s`, until it is changed back, or until `control release`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from prefect_intelligent.domain import Change, PoolSetting, QueueSetting
from prefect_intelligent.domain.queues import MAX_PRIORITY
from prefect_intelligent.history.reading import read_each

SettingKey = tuple[str | None, Literal["priority", "limit"]]
"""Names one value: the queue (None is the pool itself) and which of its settings."""

SettingValues = Mapping[SettingKey, int | None]


def values_of(pool: PoolSetting, queues: Iterable[QueueSetting]) -> dict[SettingKey, int | None]:
    """Every value of a pool that steering may touch."""
    values: dict[SettingKey, int | None] = {(None, "limit"): pool.limit}
    for queue in queues:
        values[queue.name, "priority"] = queue.priority
        values[queue.name, "limit"] = queue.limit
    return values


def key_of(change: Change) -> SettingKey:
    """The value that a change is about."""
    return change.queue, change.field


def describe(key: SettingKey) -> str:
    """A key in words."""
    queue, which = key
    return f"{which} of the pool" if queue is None else f"{which} of queue {queue!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualOverride:
    """A value that a person has set.

    Attributes:
        value: What the person set.
        before: What was there; setting that again ends the override.
        since_s: When it was first seen, Unix seconds.
        until_s: When steering may change the value again, Unix seconds.
    """

    value: int | None
    before: int | None
    since_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSettings:
    """What a controller knows of the settings between two passes.

    Attributes:
        values: What Prefect held when last read; empty if it never was.
        pending: What we were about to write without knowing yet whether it was written.
        overrides: Values that a person has set.
    """

    values: SettingValues = field(default_factory=dict)
    pending: SettingValues = field(default_factory=dict)
    overrides: Mapping[SettingKey, ManualOverride] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "values": to_rows(self.values),
            "pending": to_rows(self.pending),
            "holds": [[*key, o.value, o.before, o.since_s, o.until_s] for key, o in self.overrides.items()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        return cls(
            values=from_rows(data.get("values", ())),
            pending=from_rows(data.get("pending", ())),
            overrides=dict(read_each("manual override", data.get("holds", ()), _read_override)),
        )


def to_rows(values: SettingValues) -> list[list[Any]]:
    """Values in a form that JSON can hold."""
    return [[queue, which, value] for (queue, which), value in values.items()]


def from_rows(rows: Sequence[Sequence[Any]]) -> dict[SettingKey, int | None]:
    """Inverse of `to_rows`; a row that cannot be read is left out, the others count."""
    return dict(read_each("setting", rows, _read_value))


def _read_value(row: Sequence[Any]) -> tuple[SettingKey, int | None]:
    queue, which, value, *_ = row
    number = None if value is None else int(value)
    least = {"priority": 1, "limit": 0}[which]
    if not (least <= number <= MAX_PRIORITY if number is not None else which == "limit"):
        raise ValueError(f"{which} is {value!r}")
    return (None if queue is None else str(queue), which), number


def _read_override(row: Sequence[Any]) -> tuple[SettingKey, ManualOverride]:
    queue, which, value, before, since_s, until_s, *_ = row
    key, value = _read_value((queue, which, value))
    _, before = _read_value((queue, which, before))
    return key, ManualOverride(value=value, before=before, since_s=float(since_s), until_s=float(until_s))


def detect_overrides(
    known: KnownSettings, found: SettingValues, now_s: float, hold_s: float
) -> dict[SettingKey, ManualOverride]:
    """Which of the values found are manual overrides.

    Args:
        known: From the last pass.
        found: What Prefect holds now.
        now_s: The present instant. After a clock that jumped back no override lasts longer than `hold_s` from now.
        hold_s: How long a value is left alone.
    """
    overrides: dict[SettingKey, ManualOverride] = {}
    for key, value in found.items():
        if (old := known.overrides.get(key)) is not None:
            if value == old.before or (value == old.value and now_s >= old.until_s):
                continue
            if value == old.value:
                until_s = min(old.until_s, now_s + hold_s)
                overrides[key] = ManualOverride(value=value, before=old.before, since_s=old.since_s, until_s=until_s)
            else:
                overrides[key] = ManualOverride(value=value, before=old.before, since_s=now_s, until_s=now_s + hold_s)
        elif key in known.values and value != known.values[key] and not _is_pending(known, key, value):
            before = known.values[key]
            overrides[key] = ManualOverride(value=value, before=before, since_s=now_s, until_s=now_s + hold_s)
    return overrides


def _is_pending(known: KnownSettings, key: SettingKey, value: int | None) -> bool:
    """Whether we were about to write the value."""
    return key in known.pending and known.pending[key] == value
