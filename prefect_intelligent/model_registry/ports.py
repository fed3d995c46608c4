"""What promotion needs of a store of policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class PolicyStore(Protocol):
    """Versions of exported policies, and their aliases."""

    def add(self, folder: Path) -> str:
        """Copy a bundle into the store and return its version; the same weights are the same version.

        Raises:
            InvalidInputError: The folder holds no bundle that can be read.
        """
        ...

    def folder(self, version: str) -> Path:
        """The folder with the bundle of a version.

        Raises:
            UnknownNameError: There is no such version.
        """
        ...

    def weights_sha256(self, version: str) -> str:
        """The fingerprint of a version's weights."""
        ...

    def alias(self, name: str) -> str | None:
        """The version that has the alias; None if none has."""
        ...

    def past(self, name: str) -> Sequence[str]:
        """Versions that have had the alias, oldest first, the present one last."""
        ...

    def set_alias(self, name: str, version: str, *, why: str, at_s: float) -> None:
        """Give the alias to a version and store the reason."""
        ...
