"""Writes the dashboard's page with its state inside: one file that needs no server, for mail and archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_intelligent.dashboard import assets
from prefect_intelligent.errors import InvalidInputError


def write_page(path: Path, state: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: The file.
        state: As from `StateBuilder`.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    try:
        path.write_text(assets.static_page(state), "utf-8")
    except OSError as error:
        raise InvalidInputError("file", str(path), f"cannot be written: {error.strerror}") from error
