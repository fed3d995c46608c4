"""Small records kept with a work pool on the Prefect server: what must outlive our own history.

A note is a Prefect variable. It belongs to the pool by id: a pool of the same name that is made anew has none. One that
is too long for a variable is kept in parts; the variable that names the parts is written last, so that a reader sees
the old note or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.variables import MAX_CHARACTERS, put_variable, slug_of

TAG: Final = "prefect-intelligent-pool"
_LONGEST: Final = MAX_CHARACTERS - 500
"""Characters of a note in one variable; the rest is for what stands around it."""


class PoolNotes:
    """Implements `Notes`.

    Args:
        api: The Prefect server.
        pool: Name of the work pool.
        pool_id: Gives the pool's id where it is known; else it is asked for with each call.
    """

    def __init__(self, api: PrefectApi, pool: str, pool_id: Callable[[], str | None] = lambda: None) -> None:
        self._api, self._pool, self._known_id = api, pool, pool_id

    def read(self, name: str) -> Mapping[str, Any] | None:
        """The note of that name; None if there is none, empty if it cannot be read."""
        value = self._value(self._variable(name))
        if value is None:
            return None
        if not isinstance(value, dict) or "pool_id" not in value:
            return {}
        if value["pool_id"] != self._pool_id():
            return None
        found = value.get("note")
        if found is None:
            parts = [self._value(part) for part in _parts(self._variable(name), value)]
            try:
                found = json.loads("".join(part["text"] for part in parts if part))
            except (KeyError, TypeError, ValueError):
                return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, note: Mapping[str, Any]) -> None:
        """Write the note."""
        variable = self._variable(name)
        before = self._value(variable)
        self._write(variable, note, before)
        for part in _parts(variable, before):
            self._api.call("DELETE", f"/variables/name/{part}", absent_ok=True)

    def _write(self, variable: str, note: Mapping[str, Any], before: Any) -> None:
        head: dict[str, Any] = {"pool_id": self._pool_id()}
        text = json.dumps(note)
        if len(text) <= _LONGEST:
            put_variable(self._api, variable, head | {"note": note}, TAG)
            return
        # Text within JSON is longer than itself: each quotation mark takes two characters.
        pieces = [text[at : at + _LONGEST // 2] for at in range(0, len(text), _LONGEST // 2)]
        edition = 1 + (before.get("edition", 0) if isinstance(before, dict) else 0)
        head |= {"edition": edition, "parts": len(pieces)}
        for part, piece in zip(_parts(variable, head), pieces, strict=True):
            put_variable(self._api, part, {"text": piece}, TAG)
        put_variable(self._api, variable, head, TAG)

    def _variable(self, name: str) -> str:
        return f"prefect_intelligent_pool_{slug_of(self._pool)}_{name}"

    def _value(self, variable: str) -> Any:
        held = self._api.call("GET", f"/variables/name/{variable}", absent_ok=True)
        return None if held is None else held["value"]

    def _pool_id(self) -> str:
        if (known := self._known_id()) is not None:
            return known
        held = self._api.call("GET", f"/work_pools/{quote(self._pool, safe='')}", absent_ok=True)
        if held is None:
            raise ConflictError(f"work pool {self._pool!r} does not exist (any more)")
        return str(held["id"])


def _parts(variable: str, head: Any) -> list[str]:
    """Names of the variables that hold the rest of a note."""
    if not isinstance(head, dict) or not isinstance(head.get("parts"), int):
        return []
    return [f"{variable}_{head.get('edition', 0)}_{number}" for number in range(head["parts"])]
