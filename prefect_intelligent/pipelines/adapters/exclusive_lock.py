"""A lock that lets one process at a time change pipelines: a file lock on this machine, a lease between machines."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prefect_intelligent.domain.backoff import jittered
from prefect_intelligent.errors import InvalidInputError, OrchestratorError, OrchestratorUnavailableError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.lease import PrefectLease

_LEASE_S: Final = 12.0
_POLL_S: Final = 0.5


@contextmanager
def exclusive_lock(path: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock.

    Args:
        path: The lock file; its folder is created if it does not exist.
        patience_s: How long to wait for another machine. The lease of a process that died lapses after 12 seconds.

    Raises:
        InvalidInputError: Another process on this machine holds the lock, or one on another machine still does after
            `patience_s`.
        OrchestratorUnavailableError: Prefect did not answer for `patience_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel releases it when the process dies
        except BlockingIOError as error:
            raise InvalidInputError(
                str(path), "locked", "another command is changing pipelines; wait for it"
            ) from error
        with _lease(patience_s):
            yield


@contextmanager
def _lease(patience_s: float) -> Iterator[None]:
    """Hold the lease; a thread renews it."""
    api = PrefectApi(timeout_s=5.0)
    lease = PrefectLease(api, "pipelines", _LEASE_S, role="changes")
    give_up_s = time.monotonic() + patience_s
    try:
        while not _acquire(lease, give_up_s):
            if time.monotonic() >= give_up_s:
                raise InvalidInputError(
                    "pipelines", "leased", "a command on another machine is changing pipelines; wait for it"
                )
            time.sleep(jittered(_POLL_S))
        done = threading.Event()
        renewal = threading.Thread(target=_renew, args=(lease, done), daemon=True)
        renewal.start()
        try:
            yield
        finally:
            done.set()
            renewal.join()
            lease.release()
    finally:
        api.close()


def _acquire(lease: PrefectLease, give_up_s: float) -> bool:
    """Return whether the lease was acquired; a server that does not answer is asked again until `give_up_s`."""
    try:
        return lease.acquire()
    except OrchestratorUnavailableError:
        if time.monotonic() >= give_up_s:
            raise
        return False


def _renew(lease: PrefectLease, done: threading.Event) -> None:
    while not done.wait(_LEASE_S / 4):
        with suppress(OrchestratorError):
            lease.acquire()  # renews it, or takes it again if it has lapsed
