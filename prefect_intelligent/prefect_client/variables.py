"""Prefect variables of ours: what they are called, and writing one."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi

MAX_CHARACTERS: Final = 5000
"""Prefect's limit for the value of a variable, as JSON."""


def slug_of(subject: str) -> str:
    """A subject in characters that a variable's name may have, with a digest that keeps "a-b" and "a_b" apart."""
    slug = re.sub(r"[^a-z0-9]+", "_", subject.lower()).strip("_")[:80]
    return f"{slug}_{hashlib.sha256(subject.encode()).hexdigest()[:8]}"


def put_variable(api: PrefectApi, name: str, value: Any, tag: str) -> bool:
    """Write a variable unless it has that value; returns whether anything had to be written."""
    held = api.call("GET", f"/variables/name/{name}", absent_ok=True)
    if held is not None and held["value"] == value:
        return False
    if held is None:
        try:
            api.call("POST", "/variables/", {"name": name, "value": value, "tags": [tag]})
            return True
        except ConflictError:  # another process has just made it
            pass
    api.call("PATCH", f"/variables/name/{name}", {"value": value, "tags": [tag]})
    return True
