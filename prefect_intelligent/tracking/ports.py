"""What shipping needs of a tracking server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefect_intelligent.tracking.outbox import OutboxEvent


class Tracker(Protocol):
    """A tracking server for what happened. Sending the same parcels again must change nothing."""

    def log(self, parcels: Sequence[OutboxEvent]) -> None:
        """Send parcels of one stream.

        Raises:
            TrackerUnavailableError: Try again later; some may have arrived.
            TrackerError: The server will not take (one of) them.
        """
        ...

    def archive(self, parcels: Sequence[OutboxEvent]) -> None:
        """Keep parcels of one stream as a file, whole.

        Raises:
            TrackerUnavailableError: Try again later.
        """
        ...
