"""Sends what hooks, gates and controllers have spooled to the tracking server: each event once, in order."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import StoreError, TrackerError, TrackerUnavailableError
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.tracking.metrics import stream_of
from prefect_intelligent.tracking.outbox import Outbox, OutboxEvent, OutboxStatus
from prefect_intelligent.tracking.ports import Tracker

REQUESTS = "quality_request"
"""Kind of a record that asks for a check; it is done by the shipper's process, never sent."""
_ARCHIVE_EVENTS = 2000
_ARCHIVE_AGE_S = 3600.0
_LONGEST_BACK_OFF_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What one pass did.

    Attributes:
        collected: Events taken out of the spool.
        sent: Events the server has taken.
        refused: Events it will never take.
        archived: Events written to archive files.
        checks: Quality checks done on request.
        problem: Why the pass ended early; "" if everything was sent.
        status: The ledger afterwards.
        dropped: Records that the spool has ever dropped for want of space.
    """

    collected: int
    sent: int
    refused: int
    archived: int
    checks: int
    problem: str
    status: OutboxStatus
    dropped: int

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        s = self.status
        return {
            "collected": self.collected,
            "sent": self.sent,
            "refused": self.refused,
            "archived": self.archived,
            "checks": self.checks,
            "problem": self.problem,
            "waiting": s.waiting,
            "refused_ever": s.refused,
            "lost": s.lost + self.dropped,
            "torn": s.torn,
        }


@contextmanager
def only_shipper(spool: Spool) -> Iterator[bool]:
    """Whether this process may ship: one per spool folder."""
    spool.folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(spool.folder / "ship.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def ship(
    spool: Spool,
    outbox: Outbox,
    tracker: Tracker,
    clock: Clock,
    *,
    batch: int = 1000,
    check: Callable[[Entry], None] | None = None,
    archive_all: bool = False,
    stream_of: Callable[[Entry], str] = stream_of,
) -> Shipment:
    """One pass: collect, check, send, archive. Safe to kill at any moment and to repeat.

    Args:
        spool: Where records are left.
        outbox: The ledger.
        tracker: Where they go.
        clock: The time.
        batch: Events sent at once.
        check: Does a quality check that a hook has asked for.
        archive_all: Write what has been sent to archive files now, and not only when there is enough of it.
        stream_of: The stream of an event.
    """
    collected = collect(spool, outbox, stream_of)
    checks = _check(outbox, check)
    if checks:
        collected += collect(spool, outbox, stream_of)
    sent = refused = archived = 0
    problem = ""
    try:
        while parcels := outbox.waiting(batch):
            if parcels[0].stream.startswith(REQUESTS):
                problem = "checks were asked for that this shipper does not do"
                break
            bad = _send(outbox, tracker, parcels)
            refused += bad
            sent += len(parcels) - bad
        archived = _archive(outbox, tracker, clock, archive_all)
    except TrackerUnavailableError as exc:
        problem = str(exc)
    return Shipment(
        collected=collected,
        sent=sent,
        refused=refused,
        archived=archived,
        checks=checks,
        problem=problem,
        status=outbox.status(),
        dropped=spool.losses().records,
    )


def ship_forever(once: Callable[[], Shipment], clock: Clock, *, interval_s: float, stopped: Callable[[], bool]) -> None:
    """Pass after pass; after a failed one the pause doubles, up to a minute."""
    failures = 0
    while not stopped():
        failures = failures + 1 if once().problem else 0
        pause_s = min(interval_s * 2.0**failures, max(interval_s, _LONGEST_BACK_OFF_S))
        waited_s = 0.0
        while waited_s < pause_s and not stopped():
            clock.sleep(min(0.5, pause_s - waited_s))
            waited_s += 0.5


def collect(spool: Spool, outbox: Outbox, stream_of: Callable[[Entry], str] = stream_of) -> int:
    """Move what is in the spool into the ledger; returns how many events are new."""
    spool.seal()
    new = 0
    for segment in spool.segments():
        taken = spool.take(segment)
        if taken is None:
            continue
        try:
            entries, torn = spool.read(taken)
        except OSError as exc:
            raise StoreError(f"spool {taken}: {exc}") from exc
        new += outbox.add(entries, lambda e: e.kind if e.kind == REQUESTS else stream_of(e), torn)
        # Killed before this line: the segment is imported again, and every event in it is recognised by its id.
        spool.remove(taken)
    return new


def _check(outbox: Outbox, check: Callable[[Entry], None] | None) -> int:
    if check is None:
        return 0
    done = 0
    for parcel in outbox.of_stream(REQUESTS):
        try:
            check(parcel.entry)
            outbox.sent([parcel])
            outbox.archived([parcel])
            done += 1
        except Exception as exc:
            outbox.refused(parcel, f"{type(exc).__name__}: {exc}")
    return done


def _send(outbox: Outbox, tracker: Tracker, parcels: tuple[OutboxEvent, ...]) -> int:
    """Send a batch; one that is refused is halved until the culprits are alone. Returns how many were refused."""
    try:
        tracker.log(parcels)
    except TrackerUnavailableError:
        raise
    except TrackerError as exc:
        if len(parcels) == 1:
            outbox.refused(parcels[0], str(exc))
            return 1
        middle = len(parcels) // 2
        return _send(outbox, tracker, parcels[:middle]) + _send(outbox, tracker, parcels[middle:])
    outbox.sent(parcels)
    return 0


def _archive(outbox: Outbox, tracker: Tracker, clock: Clock, everything: bool) -> int:
    """Write events that were sent to files of the server, as they were recorded."""
    done = 0
    at_least = 1 if everything else _ARCHIVE_EVENTS
    while True:
        before = done
        for parcels in outbox.unarchived(at_least=at_least, older_than_s=clock.now_s() - _ARCHIVE_AGE_S):
            tracker.archive(parcels)
            outbox.archived(parcels)
            done += len(parcels)
        if done == before:
            return done
