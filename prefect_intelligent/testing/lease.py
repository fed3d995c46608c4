"""A lease for tests, shared by objects of one process."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.testing.clock import ManualClock


@dataclass(slots=True)
class LeaseBoard:
    """State shared by the leases of one pool: the holder, and until when it holds the lease."""

    clock: ManualClock = field(default_factory=ManualClock)
    holder: str | None = None
    until_s: float = 0.0
    down: bool = False
    """While True it cannot be reached."""


class InMemoryLease:
    """Implements `Lease`.

    Args:
        board: Shared by all competing leases.
        name: Name of this holder.
        ttl_s: Seconds after which it lapses unless renewed.
    """

    def __init__(self, board: LeaseBoard, name: str, ttl_s: float = 60.0) -> None:
        self._board, self._name, self._ttl_s = board, name, ttl_s

    def acquire(self) -> bool:
        """Take it if nobody holds it."""
        self._reach()
        board = self._board
        if board.holder not in (None, self._name) and board.until_s > board.clock.now_s():
            return False
        board.holder, board.until_s = self._name, board.clock.now_s() + self._ttl_s
        return True

    def renew(self) -> bool:
        """Prolong it if it is still ours and has not lapsed."""
        self._reach()
        board = self._board
        if board.holder != self._name or board.until_s <= board.clock.now_s():
            return False
        board.until_s = board.clock.now_s() + self._ttl_s
        return True

    def release(self) -> None:
        """Give it up if it is ours."""
        if not self._board.down and self._board.holder == self._name:
            self._board.holder = None

    def _reach(self) -> None:
        if self._board.down:
            raise OrchestratorUnavailableError("the lease cannot be reached: the fake was told to be down")
