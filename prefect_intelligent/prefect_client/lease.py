"""A lease on the leadership of a pool, or on another role: a Prefect concurrency limit whose slot decays.

Prefect's own slot leases are in the server's memory by default: after a restart of the server the slot stays taken and
no process can lead any more. A limit of 1 whose slot decays within the time to live is in the database, survives
restarts, and lapses without any service running. Until it has lapsed no other process can take it, so the holder may
prolong it without asking who holds it; a process that is late by its own monotonic clock has lost it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from prefect_intelligent.errors import ConflictError, OrchestratorError, OrchestratorUnavailableError
from prefect_intelligent.prefect_client.api import PrefectApi, path

_LEAST_TTL_S: Final = 5.0
_MARGIN_S: Final = 1.0  # given up this long before it lapses on the server


_RENEWALS: Final = 9
"""In the background, one each third of the time to live; the last one lasts for three thirds more."""


class PrefectLease:
    """Implements `Lease`.

    Args:
        api: The Prefect server. Its time-out should be well below `ttl_s`.
        pool: The work pool to lead.
        ttl_s: Seconds after which it lapses unless renewed; at least 5. Competing processes may have different values.
        role: What the holder may do; part of the limit's name.
    """

    def __init__(self, api: PrefectApi, pool: str, ttl_s: float = 60.0, *, role: str = "leader") -> None:
        self._api = api
        self._name = f"prefect-intelligent-{role}-{pool}"
        self._ttl_s = max(_LEAST_TTL_S, ttl_s)
        self._until = -math.inf  # on this machine's monotonic clock

    @property
    def held(self) -> bool:
        """Whether this object holds it, by its own clock."""
        return time.monotonic() < self._until

    def taken(self) -> bool:
        """Whether any process holds it, this one included; one reading call."""
        found = self._api.call("GET", path("v2", "concurrency_limits", self._name), absent_ok=True)
        return found is not None and found["active_slots"] > 0

    def acquire(self) -> bool:
        """Take it if it is free, or renew it if it is ours; returns whether we hold it."""
        if self.held:
            return self.renew()
        found = self._api.call("GET", path("v2", "concurrency_limits", self._name), absent_ok=True)
        if found is None:
            self._create()
        # A refused increment would restart the decay of the holder's slot, so it is only tried if a slot is free.
        elif found["active_slots"] > 0:
            return False
        started = time.monotonic()
        try:
            body = {"names": [self._name], "slots": 1, "mode": "concurrency"}
            taken = self._api.call("POST", "/v2/concurrency_limits/increment", body, attempts=1)
        except OrchestratorUnavailableError:
            if self.taken():  # 423: another process was faster; or the answer was lost, and then it lapses by itself
                return False
            raise
        if not taken:
            raise ConflictError(f"the concurrency limit {self._name} has vanished; trying again creates it")
        # The last holder may have left another time to live. Only the holder may change it, and no time to live is
        # shorter than the least one, so within that we are certainly still the holder.
        self._until = started + _LEAST_TTL_S - _MARGIN_S
        return self._prolong(started)

    def renew(self) -> bool:
        """Prolong it; False if it has lapsed or the limit was deleted."""
        return self.held and self._prolong(time.monotonic())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew it in the background, for four times its length: a pass on a slow server may take longer than it.

        What takes longer still is taken for a pass that hangs, and another process may lead.
        """
        over = threading.Event()

        def keep() -> None:
            for _ in range(_RENEWALS):
                if over.wait(self._ttl_s / 3.0):
                    return
                with suppress(OrchestratorError):
                    self.renew()

        keeper = threading.Thread(target=keep, name=self._name, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def release(self) -> None:
        """Give it up if it is certainly ours."""
        if not self.held:
            return
        self._until = -math.inf
        try:
            self._patch(active_slots=0)
        except OrchestratorError:
            return  # it lapses by itself

    def _prolong(self, started: float) -> bool:
        """Restart the decay of our slot; False if we may have lost it meanwhile."""
        try:
            self._patch(active_slots=1, slot_decay_per_second=1 / self._ttl_s)
        except ConflictError:
            self._until = -math.inf
            return False
        if time.monotonic() >= self._until:  # so slow that another process may have taken it before
            return False
        self._until = started + self._ttl_s - _MARGIN_S
        return True

    def _create(self) -> None:
        body = {"name": self._name, "limit": 1, "active_slots": 0, "slot_decay_per_second": 1 / self._ttl_s}
        try:
            self._api.call("POST", "/v2/concurrency_limits/", body)
        except ConflictError:
            return  # another controller has just made it

    def _patch(self, **values: float) -> None:
        self._api.call("PATCH", path("v2", "concurrency_limits", self._name), values)
