"""A look ahead before a decision: the twin estimates what plans would cost, within a time budget.

The estimates tell whether a learned plan is clearly worse than the rule's (then it is not applied), they are the
figures that `explain` shows beside a plan, and with more candidates they make a planner (`policy.planner`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.planner import PlanCosts, PlannerConfig, estimate_costs

if TYPE_CHECKING:
    from prefect_intelligent.twin.spec import PoolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """Estimates the cost of plans in the twin.

    Attributes:
        model: Gives the twin's model of the pool of a snapshot.
        config: How it looks where the policy does not say; its budget holds for every look.
        stopwatch: Seconds on a clock that only moves forward.
        ready: Whether the twin can be asked now; on its first use it has to be compiled, which takes a while.
    """

    model: Callable[[Snapshot], PoolSpec]
    config: PlannerConfig = field(default_factory=PlannerConfig)
    stopwatch: Callable[[], float] = time.perf_counter
    ready: Callable[[], bool] = lambda: True

    def estimate(
        self, snapshot: Snapshot, candidates: Sequence[Policy], guard: GuardSettings, config: PlannerConfig
    ) -> PlanCosts | None:
        """The cost of what each candidate would do; None if there was no time for two futures.

        Args:
            snapshot: The pool as it is.
            candidates: Policies; the first one is in charge, the second is the base rule.
            guard: What is permitted.
            config: How far, in how many futures and for how long.
        """
        # Imported here: rules need no twin, and the twin needs an extra that may not be installed.
        from prefect_intelligent.twin.futures import SnapshotFutures

        source = SnapshotFutures(
            snapshot=snapshot,
            model=self.model(snapshot),
            guard=guard,
            rng=np.random.default_rng(int(snapshot.at_s)),
            step_s=config.step_s,
            horizon_s=config.horizon_s,
        )
        return estimate_costs(source, candidates, config, self.stopwatch)
