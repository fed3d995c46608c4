"""A flow run of a work pool, with its deadline, prices and predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class RunPhase(StrEnum):
    """Phase of a run with respect to the pool's slots."""

    UPCOMING = "upcoming"  # scheduled for later
    WAITING = "waiting"  # due, not yet claimed by a worker
    PENDING = "pending"  # claimed: holds a slot, starting up
    RUNNING = "running"  # holds a slot, working


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long a run will take, from submission to the freeing of its slot.

    Attributes:
        p50_s: Median, seconds, above 0.
        p90_s: 90 % quantile, seconds, at least the median.
    """

    p50_s: float
    p90_s: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the log duration, if durations are lognormal; from the two quantiles."""
        return max(0.0, math.log(self.p90_s / self.p50_s)) / 1.2815515655446004


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One flow run of a work pool.

    Attributes:
        id: Prefect's flow run id.
        deployment: Name, "flow/deployment".
        queue: Name of the work queue it is in.
        phase: Whether it waits or holds a slot.
        scheduled_s: From when it could start: Prefect's `expected_start_time`, or its creation if that was later.
        started_s: When it took its slot; None while it waits.
        due_s: When it should be finished; None if it cannot be late.
        late_usd_per_hour: Cost of an hour past `due_s`.
        failure_usd: Cost of its failure.
        failure_probability: Chance that it fails, 0 to 1.
        estimate: How long it will take.
        resources: Shared resources that it loads while it runs.
        waits_for_pool: Whether it waits for a run that it has started and that needs a slot of the same pool, or holds
            one and waits itself. Known only while the pool has no free slot.
        parameters: Name and value of what it was asked to do, as far as forecasts use it; by name.
    """

    id: str
    deployment: str
    queue: str
    phase: RunPhase
    scheduled_s: float
    estimate: Estimate
    started_s: float | None = None
    due_s: float | None = None
    late_usd_per_hour: float = 0.0
    failure_usd: float = 0.0
    failure_probability: float = 0.0
    resources: tuple[str, ...] = ()
    waits_for_pool: bool = False
    parameters: tuple[tuple[str, float | bool | str], ...] = ()

    @property
    def holds_slot(self) -> bool:
        """Whether it occupies a slot of its queue and pool (PENDING and RUNNING do)."""
        return self.phase in (RunPhase.PENDING, RunPhase.RUNNING)

    def slack_s(self, at_s: float) -> float:
        """Seconds it could still wait at `at_s` and finish in time by its median; infinite without a deadline."""
        return math.inf if self.due_s is None else self.due_s - at_s - self.estimate.p50_s

    def remaining_s(self, at_s: float) -> float:
        """Median seconds of work left at `at_s`.

        A run past its median is assumed to need half of the time that it has spent past it: the longer it overruns, the
        longer it is expected to run on (durations of pipelines have heavy tails).
        """
        if self.started_s is None:
            return self.estimate.p50_s
        used = max(0.0, at_s - self.started_s)
        left = self.estimate.p50_s - used
        return left if left > 0 else max(1.0, 0.5 * -left)
