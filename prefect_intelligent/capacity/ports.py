"""What brings capacity to a pool."""

from __future__ import annotations

from typing import Protocol


class Capacity(Protocol):
    """Brings slots to work pools.

    No method raises or takes long: what goes wrong is tried again, and the newest number is the only one that counts.
    """

    def want(self, pool: str, slots: int) -> None:
        """Ask for so many slots, 0 or more; asking twice is asking once."""
        ...

    def present(self, pool: str) -> int | None:
        """Slots that are there now, taken ones included; None if it is not known."""
        ...

    def close(self) -> None:
        """Ask for nothing any more; what is there stays."""
        ...
