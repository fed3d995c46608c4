"""An arena that looks at what the guard lets pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.guard_audit import guard_violations
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin


class WatchedArena(ClosedLoop):
    """An arena that counts what the guard let pass against its promise; it should count nothing."""

    def __init__(self, twin: Twin, guard: GuardSettings, interval_s: float) -> None:
        super().__init__(twin, guard, interval_s)
        self.violations: Array = np.zeros(twin.n_worlds)

    def step(self, wanted: Proposal, *args: Any, **kwargs: Any) -> Permitted:
        """Decide as ever, and look at the permitted settings."""
        census = Census(self.census.queues.copy(), self.census.pool.copy())
        permitted = super().step(wanted, *args, **kwargs)
        self.violations += guard_violations(permitted.proposal, census)
        return permitted
