"""Leadership over a pool, or another role that one process may have, held as a Prefect concurrency limit that decays.

Prefect's own slot leases live in the server's memory by default: after a restart of the server the slot stays taken and
nobody can lead any more. A limit of 1 whose slot decays within the time to live is kept in the database, survives
restarts, and lapses without any service running. While its time has not run out nobody else can take it, so the holder
may prolong it without asking who holds it; whoever is late by its own monotonic clock has lost it.
"""

from __future__ import annotations

import math
import time
from typing import Final

from prefect_intelligent.errors import ConflictError, OrchestratorError, OrchestratorUnavailableError
from prefect_intelligent.prefect_client.api import PrefectApi

_LEAST_TTL_S: Final = 5.0
_MARGIN_S: Final = 1.0  # given up this long before it lapses on the server


class PrefectLease:
    """Implements `Lease`.

    Args:
        api: Where to. Its time-out should be well below `ttl_s`.
        pool: The work pool to lead.
        ttl_s: Seconds after which it lapses unless renewed; at least 5. Those who compete may differ in it.
        role: What the holder may do.
    """

    def __init__(self, api: PrefectApi, pool: str, ttl_s: float = 60.0, *, role: str = "leader") -> None:
        self._api = api
        self._name = f"prefect-intelligent-{role}-{pool}"
        self._ttl_s = max(_LEAST_TTL_S, ttl_s)
        self._until = -math.inf  # on this machine's monotonic clock

    @property
    def held(self) -> bool:
        """Whether we hold it, by our own clock."""
        return time.monotonic() < self._until

    def taken(self) -> bool:
        """Whether anybody holds it, ourselves included; one reading call."""
        found = self._api.call("GET", f"/v2/concurrency_limits/{self._name}", absent_ok=True)
        return found is not None and found["active_slots"] > 0

    def acquire(self) -> bool:
        """Take it if nobody holds it; True at once if we do."""
        if self.held:
            return self.renew()
        found = self._api.call("GET", f"/v2/concurrency_limits/{self._name}", absent_ok=True)
        if found is None:
            self._create()
        # A refused increment would restart the decay of the holder's slot, so it is only tried when there is room.
        elif found["active_slots"] > 0:
            return False
        started = time.monotonic()
        try:
            body = {"names": [self._name], "slots": 1, "mode": "concurrency"}
            taken = self._api.call("POST", "/v2/concurrency_limits/increment", body, attempts=1)
        except OrchestratorUnavailableError:
            if self.taken():  # 423: somebody was faster; or the answer got lost, and then it lapses by itself
                return False
            raise
        if not taken:
            raise ConflictError(f"the concurrency limit {self._name} has vanished; trying again makes it anew")
        # Another holder may have left its own time to live. Only a holder may change it, and no time to live is
        # shorter than the least one, so within that we are surely still the holder.
        self._until = started + _LEAST_TTL_S - _MARGIN_S
        return self._prolong(started)

    def renew(self) -> bool:
        """Prolong it; False if it has lapsed or the limit was deleted."""
        return self.held and self._prolong(time.monotonic())

    def release(self) -> None:
        """Give it up if it is surely ours."""
        if not self.held:
            return
        self._until = -math.inf
        try:
            self._patch(active_slots=0)
        except OrchestratorError:
            return  # it lapses by itself

    def _prolong(self, started: float) -> bool:
        """Set the slot's decay back to its start, as the holder; False if it turns out that we may not be it."""
        try:
            self._patch(active_slots=1, slot_decay_per_second=1 / self._ttl_s)
        except ConflictError:
            self._until = -math.inf
            return False
        if time.monotonic() >= self._until:  # so slow that somebody may have taken it before the server saw us
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
        self._api.call("PATCH", f"/v2/concurrency_limits/{self._name}", values)
