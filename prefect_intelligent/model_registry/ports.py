"""Where exported policies and their aliases are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class PolicyStore(Protocol):
    """Versions of exported policies, and which of them bears which alias."""

    def add(self, folder: Path) -> str:
        """Take over a bundle and return its version; the same weights are the same version.

        Raises:
            InvalidInputError: The folder holds no bundle that can be read.
        """
        ...

    def folder(self, version: str) -> Path:
        """Where the bundle of a version lies.

        Raises:
            UnknownNameError: There is no such version.
        """
        ...

    def weights_sha256(self, version: str) -> str:
        """The fingerprint of a version's weights."""
        ...

    def alias(self, name: str) -> str | None:
        """The version that bears the alias, if any."""
        ...

    def past(self, name: str) -> Sequence[str]:
        """Versions that have borne the alias, oldest first, the present one last."""
        ...

    def set_alias(self, name: str, version: str, *, why: str, at_s: float) -> None:
        """Give the alias to a version and record why."""
        ...
