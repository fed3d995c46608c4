"""Sends the records that hooks, gates and controllers have spooled to the tracking server, each once and in order."""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect_intelligent.domain.backoff import SYSTEM_RANDOM, backoff_s
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import StoreError, TrackerAccessDeniedError, TrackerError, TrackerUnavailableError
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.tracking.metrics import stream_name
from prefect_intelligent.tracking.outbox import Outbox, OutboxEvent, OutboxStatus
from prefect_intelligent.tracking.ports import Tracker

QUALITY_REQUEST = "quality_request"
"""Kind of a record that requests a quality check; the shipper's process does it and never sends it."""
_ARCHIVE_EVENTS = 2000
_ARCHIVE_AGE_S = 3600.0
_MAX_BACK_OFF_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """Result of one pass.

    Attributes:
        collected: Events moved from the spool to the outbox.
        sent: Events that the server has accepted.
        refused: Events that the server refuses.
        archived: Events written to archive files.
        checks: Requested quality checks that were done.
        problem: Why the pass ended early; "" if everything was sent.
        denied: Whether the server does not accept the credentials: what is left is kept until somebody changes them.
        status: The outbox after the pass.
        dropped: Records that the spool has dropped since it exists because it was full.
    """

    collected: int
    sent: int
    refused: int
    archived: int
    checks: int
    problem: str
    status: OutboxStatus
    dropped: int
    denied: bool = False

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
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
    """Whether this process may ship: one process per spool folder, held by a file lock."""
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
    stream_of: Callable[[Entry], str] = stream_name,
) -> Shipment:
    """One pass: collect, check, send, archive. It may be killed at any moment and repeated.

    Args:
        spool: Has the new records.
        outbox: Keeps them until they are sent and archived.
        tracker: The server.
        clock: The time.
        batch: Events sent at once.
        check: Does a quality check that a hook has requested.
        archive_all: Archive all sent events now, however few they are.
        stream_of: Gives the stream of an event.
    """
    collected = collect(spool, outbox, stream_of)
    checks = _check(outbox, check)
    if checks:
        collected += collect(spool, outbox, stream_of)
    sent = refused = archived = 0
    problem, denied = "", False
    try:
        while events := outbox.waiting(batch):
            if events[0].stream.startswith(QUALITY_REQUEST):
                problem = "checks were asked for that this shipper does not do"
                break
            bad = _send(outbox, tracker, events)
            refused += bad
            sent += len(events) - bad
        archived = _archive(outbox, tracker, clock, archive_all)
    except (TrackerUnavailableError, TrackerAccessDeniedError) as exc:
        problem, denied = str(exc), isinstance(exc, TrackerAccessDeniedError)
    return Shipment(
        collected=collected,
        sent=sent,
        refused=refused,
        archived=archived,
        checks=checks,
        problem=problem,
        denied=denied,
        status=outbox.status(),
        dropped=spool.losses().records,
    )


def ship_forever(
    once: Callable[[], Shipment],
    clock: Clock,
    *,
    interval_s: float,
    stopped: Callable[[], bool],
    rng: random.Random = SYSTEM_RANDOM,
) -> None:
    """Passes at an interval until stopped; with every failed pass in a row the pause doubles, up to a minute.

    A random part of up to a half is taken off such a pause. Where the server does not accept the credentials it is the
    longest at once.
    """
    longest_s = max(interval_s, _MAX_BACK_OFF_S)
    failures = 0
    while not stopped():
        done = once()
        failures = failures + 1 if done.problem else 0
        pause_s = interval_s
        if done.problem:
            first_s = longest_s if done.denied else 2.0 * interval_s
            pause_s = backoff_s(failures, first_s=first_s, longest_s=longest_s, rng=rng)
        waited_s = 0.0
        while waited_s < pause_s and not stopped():
            clock.sleep(min(0.5, pause_s - waited_s))
            waited_s += 0.5


def collect(spool: Spool, outbox: Outbox, stream_of: Callable[[Entry], str] = stream_name) -> int:
    """Move all records of the spool into the outbox; returns how many events are new."""
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
        new += outbox.add(entries, lambda e: e.kind if e.kind == QUALITY_REQUEST else stream_of(e), torn)
        # If the process is killed before this line the segment is imported again; known ids are skipped.
        spool.remove(taken)
    return new


def _check(outbox: Outbox, check: Callable[[Entry], None] | None) -> int:
    if check is None:
        return 0
    done = 0
    for event in outbox.of_stream(QUALITY_REQUEST):
        try:
            check(event.entry)
            outbox.sent([event])
            outbox.archived([event])
            done += 1
        except Exception as exc:
            outbox.refused(event, f"{type(exc).__name__}: {exc}")
    return done


def _send(outbox: Outbox, tracker: Tracker, events: tuple[OutboxEvent, ...]) -> int:
    """Send a batch, bisecting it where it is refused; returns how many events were refused."""
    try:
        tracker.log(events)
    except (TrackerUnavailableError, TrackerAccessDeniedError):
        raise
    except TrackerError as exc:
        if len(events) == 1:
            outbox.refused(events[0], str(exc))
            return 1
        middle = len(events) // 2
        return _send(outbox, tracker, events[:middle]) + _send(outbox, tracker, events[middle:])
    outbox.sent(events)
    return 0


def _archive(outbox: Outbox, tracker: Tracker, clock: Clock, everything: bool) -> int:
    """Write the records of sent events to archive files on the server; returns how many."""
    done = 0
    at_least = 1 if everything else _ARCHIVE_EVENTS
    while True:
        before = done
        for events in outbox.unarchived(at_least=at_least, older_than_s=clock.now_s() - _ARCHIVE_AGE_S):
            tracker.archive(events)
            outbox.archived(events)
            done += len(events)
        if done == before:
            return done
