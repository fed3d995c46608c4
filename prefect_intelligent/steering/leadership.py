"""Who may steer: at most one process per pool, whichever holds the lease."""

from __future__ import annotations

from prefect_intelligent.steering.ports import Lease


class Leadership:
    """Takes the lease, keeps it, and knows when it is gone.

    Args:
        lease: The lease of one pool.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._holds = False

    def lead(self) -> bool:
        """Take or prolong the lease; True if we may write until it lapses.

        Raises:
            OrchestratorError: Nobody can be asked. We do not lead then; the lease lapses by itself if that lasts.
        """
        self._holds = (self._holds and self._lease.renew()) or self._lease.acquire()
        return self._holds

    def resign(self) -> None:
        """Let another take over at once."""
        if self._holds:
            self._lease.release()
        self._holds = False
