"""The settings a pool had before steering changed any: saved before the first write, put back by `control restore`.

They are records of the history store: what was there first; then what a person has set since, which replaces it, so
that `control restore` returns to the last values that a person chose; then a mark when all has been put back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.steering.identity import Ids
from prefect_intelligent.steering.identity import from_rows as ids_from_rows
from prefect_intelligent.steering.identity import to_rows as ids_to_rows
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
        elif what == "remade":
            left = {name for name, _ in values}
            saved, edited, earlier = (
                {key: value for key, value in kept.items() if key[0] not in left} for kept in (saved, edited, earlier)
            )
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
    if what not in ("restored", "saved", "edited", "edited again", "taken back", "remade"):
        raise ValueError(what)
    if what == "remade":
        return what, {(name, "limit"): None for name in record["names"]}
    return what, {} if what == "restored" else from_rows(record["values"])


def read_ids(history: HistoryStore, pool: str) -> dict[str | None, str]:
    """The ids of the pool and the queues whose values are stored; empty for those of versions up to 0.2."""
    ids: dict[str | None, str] = {}
    for what, found in read_each(KIND, history.records(KIND, pool), _read_ids):
        if what == "restored":
            ids = {}
        elif what == "saved":
            ids = found | ids
        elif what == "remade":
            ids = {name: value for name, value in ids.items() if name not in found}
    return ids


def _read_ids(record: Mapping[str, Any]) -> tuple[str, dict[str | None, str]]:
    if record["what"] == "remade":
        return "remade", dict.fromkeys(record["names"], "")
    return record["what"], ids_from_rows(record.get("ids", ()))


def save_baseline(
    history: HistoryStore,
    pool: str,
    values: SettingValues,
    touched: Collection[SettingKey],
    now_s: float,
    ids: Ids = MappingProxyType({}),
) -> None:
    """Before `touched` is written: store all values of the pool, unless those of `touched` are stored already.

    Args:
        history: Where they are stored.
        pool: Name of the pool.
        values: All that Prefect holds.
        touched: What is about to be written.
        now_s: The present instant.
        ids: Of the pool and its queues: values go back to no other.
    """
    kept = read_baseline(history, pool)
    if any(key not in kept for key in touched):
        missing = {key: value for key, value in values.items() if key not in kept}
        names = {name for name, _ in missing}
        new = {name: value for name, value in ids.items() if name in names}
        history.append(KIND, pool, now_s, {"what": "saved", "values": to_rows(missing), "ids": ids_to_rows(new)})


def forget_remade(history: HistoryStore, pool: str, names: Collection[str | None], now_s: float) -> None:
    """Store that these queues (None is the pool) were deleted and made again: their values are those of others."""
    history.append(KIND, pool, now_s, {"what": "remade", "names": sorted(names, key=lambda name: name or "")})


def record_edits(
    history: HistoryStore,
    pool: str,
    edits: SettingValues,
    now_s: float,
    *,
    again: bool,
    delays_s: Mapping[SettingKey, float] = MappingProxyType({}),
) -> None:
    """Store what a person has set: from now on that is what to go back to.

    Args:
        history: Where it is stored.
        pool: Name of the pool.
        edits: What the person has set.
        now_s: The present instant.
        again: Whether these values follow an override that is still in force: taking back then takes back both.
        delays_s: Seconds since we had last written these values, where we had; see `other_writer`.
    """
    if edits:
        record = {
            "what": "edited again" if again else "edited",
            "values": to_rows(edits),
            "delays_s": [[*key, seconds] for key, seconds in delays_s.items()],
            "at_s": now_s,
        }
        history.append(KIND, pool, now_s, record)


def record_reverted_edits(history: HistoryStore, pool: str, edits: SettingValues, now_s: float) -> None:
    """Store that a person has undone an edit: what was to go back to before it counts again."""
    if edits:
        history.append(KIND, pool, now_s, {"what": "taken back", "values": to_rows(edits)})


def mark_restored(history: HistoryStore, pool: str, now_s: float) -> None:
    """Store that all has been put back: there is nothing to go back to until the next write."""
    history.append(KIND, pool, now_s, {"what": "restored"})
