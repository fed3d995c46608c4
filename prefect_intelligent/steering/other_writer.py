"""Another program that sets what steering has set back again and again, told from a person by its rhythm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.steering.baseline import KIND
from prefect_intelligent.steering.manual_overrides import SettingKey, describe, from_rows

OFTEN: Final = 3
"""A person who sets a value three times to the same number is a program."""
LOOK_BACK_S: Final = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBack:
    """One value that is set back again and again.

    Attributes:
        key: The queue (None is the pool) and which of its settings.
        value: To what it is set back.
        at_s: When that was seen, Unix seconds, oldest first; `OFTEN` or more.
        delays_s: Seconds after our own write, of those of which that is known.
    """

    key: SettingKey
    value: int | None
    at_s: tuple[float, ...]
    delays_s: tuple[float, ...] = ()

    @property
    def rhythm(self) -> str:
        """How often, and how soon after our own writes."""
        gaps = [later - earlier for earlier, later in zip(self.at_s, self.at_s[1:], strict=False)]
        text = f"{len(self.at_s)} times, every {_range(gaps)}"
        return f"{text}, {_range(list(self.delays_s))} after we had set it" if self.delays_s else text

    @property
    def sentence(self) -> str:
        """What is done, and its rhythm."""
        to = "unlimited" if self.value is None else self.value
        return f"the {describe(self.key)} was set back to {to} {self.rhythm}"


def find_set_backs(history: HistoryStore, pool: str, now_s: float) -> tuple[SetBack, ...]:
    """Values that were set back to the same number `OFTEN` times in a month, the most frequent first.

    Raises:
        StoreError: The history cannot be read.
    """
    seen: dict[tuple[SettingKey, int | None], list[tuple[float, float | None]]] = {}
    last: dict[SettingKey, int | None] = {}
    records = history.records(KIND, pool, now_s - LOOK_BACK_S)
    for at_s, values, delays in read_each(KIND, records, _read_edit):
        for key, value in values.items():
            if key in last and last[key] != value:  # somebody changes it, this way and that: a person
                seen = {(other, to): found for (other, to), found in seen.items() if other != key}
            last[key] = value
            seen.setdefault((key, value), []).append((at_s, delays.get(key)))
    found = [
        SetBack(
            key=key,
            value=value,
            at_s=tuple(at_s for at_s, _ in times),
            delays_s=tuple(delay for _, delay in times if delay is not None),
        )
        for (key, value), times in seen.items()
        if len(times) >= OFTEN
    ]
    return tuple(sorted(found, key=lambda one: (-len(one.at_s), str(one.key))))


def _read_edit(record: Mapping[str, Any]) -> tuple[float, dict[SettingKey, int | None], dict[SettingKey, float]]:
    """When, what a person or a program has set, and how long after our own write."""
    if record["what"] not in ("edited", "edited again"):
        return 0.0, {}, {}
    rows = record.get("delays_s", ())
    delays: dict[SettingKey, float] = {(queue, which): float(seconds) for queue, which, seconds in rows}
    return float(record.get("at_s", 0.0)), from_rows(record["values"]), delays


def _range(seconds: list[float]) -> str:
    """The least and the largest of some spans, in words."""
    least, most = describe_span(min(seconds)), describe_span(max(seconds))
    return least if least == most else f"{least} to {most}"
