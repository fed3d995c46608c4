"""Several pools in one process: a control loop for each, in a thread of its own."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from prefect_intelligent.domain.backoff import backoff_s

_FIRST_PAUSE_S: Final = 1.0
_SOUND_S: Final = 300.0
"""A loop that ran so long was sound: what ends it then is a first failure again."""


@dataclass(slots=True)
class _Member:
    """A loop of the group."""

    pool: str
    delay_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class PoolGroup:
    """Keeps one loop running for every pool of a set that changes.

    A pool that fails or hangs delays no other. A loop that ends by an error that nobody has foreseen is started again
    after a pause that doubles up to `longest_pause_s`.

    Args:
        run: Runs the loop of a pool until the function that it is given returns True; called in the pool's thread.
        failed: Told the pool and the error that has ended its loop; called in the pool's thread.
        spread_s: Loops that are started together start evenly over so many seconds, so that their passes, which keep
            that distance, do not reach the server together.
        longest_pause_s: Between two starts of a loop that fails.
    """

    def __init__(
        self,
        run: Callable[[str, Callable[[], bool]], None],
        failed: Callable[[str, Exception], None],
        *,
        spread_s: float = 0.0,
        longest_pause_s: float = 30.0,
    ) -> None:
        self._run, self._failed = run, failed
        self._spread_s, self._longest_pause_s = spread_s, longest_pause_s
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, _Member] = {}

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that have a loop, by name."""
        return tuple(sorted(self._members))

    def follow(self, pools: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Start the loops of new pools and end those of pools that are not in the set any more.

        Returns:
            The pools that have joined and those that have left, by name. A pool whose old loop has not ended yet joins
            at a later call.
        """
        self._leaving = {name: old for name, old in self._leaving.items() if old.thread and old.thread.is_alive()}
        left = sorted(self._members.keys() - set(pools))
        for name in left:
            member = self._leaving[name] = self._members.pop(name)
            member.stop.set()
        joined = sorted(set(pools) - self._members.keys() - self._leaving.keys())
        for number, name in enumerate(joined):
            member = self._members[name] = _Member(pool=name, delay_s=self._spread_s * number / len(joined))
            # A thread sees the caller's Prefect settings only in a copy of its context.
            work = contextvars.copy_context().run
            member.thread = threading.Thread(target=work, args=(self._work, member), name=f"pool {name}", daemon=True)
            member.thread.start()
        return tuple(joined), tuple(left)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every loop has ended by itself; False if the time is over before."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for member in (*self._members.values(), *self._leaving.values()):
            if member.thread is not None:
                member.thread.join(None if until is None else max(0.0, until - time.monotonic()))
                if member.thread.is_alive():
                    return False
        return True

    def stop(self, timeout_s: float) -> bool:
        """End every loop; False if one is still running after so many seconds (it ends with the process)."""
        for member in self._members.values():
            member.stop.set()
        return self.wait(timeout_s)

    def _work(self, member: _Member) -> None:
        failures = 0
        member.stop.wait(member.delay_s)
        while not member.stop.is_set():
            begun = time.monotonic()
            try:
                self._run(member.pool, member.stop.is_set)
                return
            except Exception as error:  # the failure of one pool is not to end the others
                failures = 1 if time.monotonic() - begun > _SOUND_S else failures + 1
                self._failed(member.pool, error)
            member.stop.wait(backoff_s(failures, first_s=_FIRST_PAUSE_S, longest_s=self._longest_pause_s))
