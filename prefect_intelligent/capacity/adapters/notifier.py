"""Tells a command or a webhook how many slots a pool wants: the newest number, until it has been taken."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx

from prefect_intelligent.domain.backoff import backoff_s
from prefect_intelligent.domain.secrets import mask_secrets

_TIMEOUT_S: Final = 30.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_LOG = logging.getLogger(__name__)

Teller = Callable[[str, int, str], None]
"""Tells a pool's number, with a key that is the same for every attempt; raises `OSError`, `httpx.HTTPError` or
`SubprocessError` if it was not taken."""


class CapacityNotifier:
    """Implements `Capacity` for one pool by telling somebody else, in a thread.

    A number that was taken is not told again, except after `repeat_s`, since whoever was told may have lost it. A
    number that was not taken is told again after a pause that doubles up to a minute, unless there is a newer one.

    Args:
        pool: The work pool.
        teller: Tells the number.
        repeat_s: Seconds after which a number that was taken is told once more.
        longest_pause_s: Longest pause between two attempts.
    """

    def __init__(
        self, pool: str, teller: Teller, *, repeat_s: float = 300.0, longest_pause_s: float = _LONGEST_PAUSE_S
    ) -> None:
        self._pool, self._teller = pool, teller
        self._repeat_s, self._longest_pause_s = repeat_s, longest_pause_s
        self._wanted: int | None = None
        self._taken: int | None = None
        self._key, self._failures, self._not_before = "", 0, 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def want(self, pool: str, slots: int) -> None:
        """Ask for so many slots; another pool is nobody's business."""
        if pool != self._pool:
            return
        with self._changed:
            if self._wanted != slots:
                self._wanted = slots
                self._begin(0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"capacity of {pool}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def present(self, pool: str) -> int | None:
        """Not known here."""
        return None

    @property
    def told(self) -> int | None:
        """The number that was taken last; None if none was."""
        return self._taken

    def close(self) -> None:
        """End the thread; what has not been taken by then is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)

    def _begin(self, pause_s: float) -> None:
        """A number is to be told that no attempt has been made at."""
        self._key, self._failures, self._not_before = uuid.uuid4().hex, 0, time.monotonic() + pause_s

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (left_s := self._not_before - time.monotonic()) > 0:
                    self._changed.wait(left_s)
                if self._closed or self._wanted is None:
                    return
                slots, key = self._wanted, self._key
            self._tell(slots, key)

    def _tell(self, slots: int, key: str) -> None:
        try:
            self._teller(self._pool, slots, key)
        except (OSError, httpx.HTTPError, subprocess.SubprocessError) as error:
            with self._changed:
                if self._key != key:
                    return  # there is a newer number
                self._failures += 1
                pause_s = backoff_s(self._failures, first_s=_FIRST_PAUSE_S, longest_s=self._longest_pause_s)
                self._not_before = time.monotonic() + pause_s
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            _LOG.log(level, "%d slots for work pool %s were not taken: %s", slots, self._pool, mask_secrets(str(error)))
            return
        with self._changed:
            self._taken = slots
            if self._key == key:
                self._begin(self._repeat_s)


def command_teller(command: Sequence[str]) -> Teller:
    """Runs a command, without a shell; `{slots}` and `{pool}` in its words are filled in.

    The same values are in its environment as DESIRED_SLOTS and DESIRED_POOL.
    """

    def tell(pool: str, slots: int, _: str) -> None:
        words = [word.replace("{slots}", str(slots)).replace("{pool}", pool) for word in command]
        own = {"DESIRED_SLOTS": str(slots), "DESIRED_POOL": pool}
        done = subprocess.run(
            words, env=os.environ | own, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
            raise OSError(f"{words[0]} ended with {done.returncode}: {' '.join(said)}")

    return tell


def webhook_teller(url: str, *, token: str | None = None) -> Teller:
    """Sends a POST with `{"pool": ..., "desired_slots": ...}`; any answer but 2xx is a failure.

    The header `Idempotency-Key` is the same for every attempt at one number, so that who has taken it can drop another.

    Args:
        url: Where to.
        token: Sent as `Authorization: Bearer`.
    """

    def tell(pool: str, slots: int, key: str) -> None:
        body: Mapping[str, Any] = {"pool": pool, "desired_slots": slots}
        headers = {"Idempotency-Key": key, **({"Authorization": f"Bearer {token}"} if token else {})}
        with contextlib.closing(httpx.Client(timeout=_TIMEOUT_S)) as client:
            client.post(url, json=body, headers=headers).raise_for_status()

    return tell
