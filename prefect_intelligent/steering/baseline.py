"""The settings a pool had before steering changed any: saved before the first write, put back by `control restore`.

They are records of the history store: what was there first; then what a person has set since, which replaces it, so
that `control restore` returns to the last values that a person chose; then a mark when all has been put back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.steering.manual_overrides import SettingKey, SettingValues, from_rows, to_rows

KIND = "original"


def read_baseline(history: HistoryStore, pool: str) -> dict[SettingKey, int | None]:
    """The values to go back to; empty if nothing of the pool has been changed since they were last put back."""
    saved: dict[SettingKey, int | None] = {}
    edited: dict[SettingKey, int | None] = {}
    earlier: dict[SettingKey, int | None] = {}  # what to return to if an edit is taken back
    for what, values in read_each(KIND, history.records(KIND, pool), _read):
        if what == "restored":
            saved, edited, earlier = {}, {}, {}
        elif what == "saved":
            saved = dict(values) | saved
        elif what == "edited":
            earlier = {key: value for key, value in earlier.items() if key not in values}
            earlier |= {key: edited[key] for key in values if key in edited}
            edited |= values
        elif what == "edited again":
            edited |= values
        else:
            for key in values:
                edited.pop(key, None)
                if key in earlier:
                    edited[key] = earlier.pop(key)
    return {key: edited.get(key, value) for key, value in saved.items()}


def _read(record: Mapping[str, Any]) -> tuple[str, SettingValues]:
    """What happened, and to which values."""
    what = record["what"]
    if what not in ("restored", "saved", "edited", "edited again", "taken back"):
        raise ValueError(what)
    return what, {} if what == "restored" else from_rows(record["values"])


def save_baseline(
    history: HistoryStore, pool: str, values: SettingValues, touched: Collection[SettingKey], now_s: float
) -> None:
    """Before `touched` is written: store all values of the pool, unless those of `touched` are stored already."""
    kept = read_baseline(history, pool)
    if any(key not in kept for key in touched):
        missing = {key: value for key, value in values.items() if key not in kept}
        history.append(KIND, pool, now_s, {"what": "saved", "values": to_rows(missing)})


def record_edits(history: HistoryStore, pool: str, edits: SettingValues, now_s: float, *, again: bool) -> None:
    """Store what a person has set: from now on that is what to go back to.

    Args:
        history: Where it is stored.
        pool: Name of the pool.
        edits: What the person has set.
        now_s: The present instant.
        again: Whether these values follow an override that is still in force: taking back then takes back both.
    """
    if edits:
        history.append(KIND, pool, now_s, {"what": "edited again" if again else "edited", "values": to_rows(edits)})


def record_reverted_edits(history: HistoryStore, pool: str, edits: SettingValues, now_s: float) -> None:
    """Store that a person has undone an edit: what was to go back to before it counts again."""
    if edits:
        history.append(KIND, pool, now_s, {"what": "taken back", "values": to_rows(edits)})


def mark_restored(history: HistoryStore, pool: str, now_s: float) -> None:
    """Store that all has been put back: there is nothing to go back to until the next write."""
    history.append(KIND, pool, now_s, {"what": "restored"})
