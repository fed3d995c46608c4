"""Ports of the shipper: the tracking server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefect_intelligent.tracking.outbox import OutboxEvent


class Tracker(Protocol):
    """A tracking server. Both methods are idempotent: sending the same events again changes nothing."""

    def log(self, events: Sequence[OutboxEvent]) -> None:
        """Send the metrics of events of one stream.

        Raises:
            TrackerUnavailableError: Try again later; some may have arrived.
            TrackerAccessDeniedError: The server does not accept the credentials.
            TrackerError: The server refuses the events, or one of them.
        """
        ...

    def archive(self, events: Sequence[OutboxEvent]) -> None:
        """Store the whole records of events of one stream as a file.

        Raises:
            TrackerUnavailableError: Try again later.
            TrackerAccessDeniedError: The server does not accept the credentials.
        """
        ...
