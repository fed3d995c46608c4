"""Leadership: at most one process steers a pool, the one that holds the lease."""

from __future__ import annotations

from prefect_intelligent.steering.ports import Lease


class Leadership:
    """Takes the lease of a pool, prolongs it, and notices when it is lost.

    Args:
        lease: The lease of one pool.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._holds = False

    def lead(self) -> bool:
        """Take or prolong the lease; True if we may write until it lapses.

        Raises:
            OrchestratorError: Prefect does not answer. This process may not write then; the lease lapses if it lasts.
        """
        self._holds = (self._holds and self._lease.renew()) or self._lease.acquire()
        return self._holds

    def resign(self) -> None:
        """Give the lease up, so that another process can take over at once."""
        if self._holds:
            self._lease.release()
        self._holds = False
