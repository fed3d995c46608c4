"""What worlds are built from: pools, deployments and resources by name, runs as columns; `build` builds them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.census import Array

AFTER_WHEN: Final = ("all", "any", "failed", "ended")
"""When a run behind upstreams is created, in the order of their numbers `AFTER_ALL` to `AFTER_END` in `model.world`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    """How the runs of a deployment behave.

    Attributes:
        name: Its name.
        queue: Name of its work queue.
        late_usd_per_hour: Price of lateness, US dollars per hour.
        failure_usd: Price of a failed or crashed run, US dollars.
        failure_probability: What is predicted, per run; None takes the true chance that all attempts fail.
        fails: True chance that an attempt fails, 0 to 1.
        crashes: True chance that an attempt is lost with its infrastructure.
        retries: Retries after a failure.
        crash_retries: Times a crashed run is scheduled again.
        retry_delay_s: Seconds before the first retry.
        retry_backoff: Each further delay is so many times longer.
        retry_in_process: Whether a retry resumes in its process without asking for a slot, as Prefect's engine does.
        timeout_s: Seconds after which a running attempt fails; None for no timeout.
        limit: Concurrency limit of the deployment; None is unlimited.
        limit_group: Name of a limit that several deployments share, all of which have that `limit`; None for one alone.
        cancels_new: Whether a run beyond that limit is cancelled, when it is claimed or would be marked late, instead
            of waiting.
        resources: Names of the shared resources its runs use while they run; one that stands here several times is
            one of which a run holds so many slots.
        after_when: When a run behind upstreams is created: "all" have completed, "any" does, one has "failed" (or
            crashed), all have "ended".
        calls_at: Share of its work after which a run that calls others does so and waits for them, with its slot.
    """

    name: str
    queue: str
    late_usd_per_hour: float = 1.0
    failure_usd: float = 0.0
    failure_probability: float | None = None
    fails: float = 0.0
    crashes: float = 0.0
    retries: int = 0
    crash_retries: int = 0
    retry_delay_s: float = 0.0
    retry_backoff: float = 1.0
    retry_in_process: bool = True
    timeout_s: float | None = None
    limit: int | None = None
    limit_group: str | None = None
    cancels_new: bool = False
    resources: tuple[str, ...] = ()
    after_when: str = "all"
    calls_at: float = 0.5

    def __post_init__(self) -> None:
        _not_negative(
            self, "late_usd_per_hour", "failure_usd", "retries", "crash_retries", "retry_delay_s", "retry_backoff",
            "timeout_s", "limit",
        )  # fmt: skip
        if self.after_when not in AFTER_WHEN:
            raise UnknownNameError(f"after_when of deployment {self.name!r}", self.after_when, AFTER_WHEN)
        if self.limit_group is not None and self.limit is None:
            raise InvalidInputError(f"limit of deployment {self.name!r}", None, "a limit that is shared needs a number")
        for name in ("fails", "crashes", "failure_probability", "calls_at"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidInputError(f"{name} of deployment {self.name!r}", value, "must be between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """Something that runs share.

    Attributes:
        name: Its name.
        capacity: Runs, or slots of runs, that it serves at full speed, above 0.
        slowdown: Beyond that, speed is (capacity / slots) ** slowdown; 1 keeps the total throughput.
        failure: Added chance of failure per capacity in excess, e.g. .2 at twice the capacity.
    """

    name: str
    capacity: float
    slowdown: float = 1.0
    failure: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(self, "slowdown", "failure")
        if not (math.isfinite(self.capacity) and self.capacity > 0):
            raise InvalidInputError(f"capacity of resource {self.name!r}", self.capacity, "must be a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """A worker of a pool.

    Attributes:
        name: Its name.
        limit: Most runs that it has at once (`--limit`), those included whose process waits for a retry; None for no
            limit.
        queues: Names of the queues that it polls (`--work-queue`); all of the pool if there are none.
        outages: When it dies, with its runs, and from when on it polls again, (Unix seconds, Unix seconds).
    """

    name: str
    limit: int | None = None
    queues: tuple[str, ...] = ()
    outages: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        _not_negative(self, "limit")
        for pair in self.outages:
            if not (len(pair) == 2 and pair[0] < pair[1]):
                raise InvalidInputError(f"outages of worker {self.name!r}", pair, "each has a start and a later end")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A work pool with its workers and what its slots cost.

    Attributes:
        queues: Its queues as they are set at the beginning.
        limit: Pool limit at the beginning; None is unlimited.
        most: Largest limit that its owner permits; None for no bound.
        prices: What a slot costs.
        owned: Whether slots are bought ahead (slots of machines); else every attempt is paid by itself (serverless).
        node_slots: Slots of one node.
        max_slots: Most slots that can be bought.
        min_slots: Slots that are kept whatever the limit.
        boot_s: Seconds from ordering a node to its slots being there.
        cooldown_s: Seconds for which a surplus node is kept at least.
        node_min_billing_s: Seconds for which a node is billed at least.
        follows_demand: Whether an autoscaler buys for claimed runs; else the pool limit is what is bought.
        claims_ahead: Whether runs are claimed up to the limit and wait in PENDING for a node.
        workers: Its workers, if they are told apart; without any they are as one that polls every queue.
        poll_s: Mean seconds between two polls, of each worker or of all as one; 0 hands out runs at once.
        poll_jitter: Each period is stretched by a factor within 1 +- this.
        poll_batch: Most runs claimed by one poll.
        prefetch_s: Seconds before its time at which a scheduled run can be claimed.
        overshoot: Chance that a poll after a change does not yet see the claims of the poll before.
        startup_s: Median seconds from having a slot to running.
        startup_spread: Standard deviation of its logarithm.
        room: Runs in the pool beyond which new ones are cancelled; None for no bound.
        slot_wait_s: Seconds after which a run whose deployment was full asks again (Prefect's
            `PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS`).
        late_after_s: Seconds after its scheduled time from which the server marks a waiting run late (Prefect's
            `PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS`).
        late_loop_s: Seconds between two times at which it looks for them (`..._LATE_RUNS_LOOP_SECONDS`).
        spot_prices: Slot price from each instant on, (Unix seconds, US dollars per hour).
        reclaims: When the spot market takes which share of the slots, (Unix seconds, 0 to 1).
    """

    queues: tuple[QueueSetting, ...]
    limit: int | None = None
    most: int | None = None
    prices: Prices = field(default_factory=Prices)
    owned: bool = True
    node_slots: int = 1
    max_slots: int = 64
    min_slots: int = 0
    boot_s: float = 0.0
    cooldown_s: float = 0.0
    node_min_billing_s: float = 0.0
    follows_demand: bool = False
    claims_ahead: bool = False
    workers: tuple[WorkerSpec, ...] = ()
    poll_s: float = 10.0
    poll_jitter: float = 0.3
    poll_batch: int = 200
    prefetch_s: float = 10.0
    overshoot: float = 0.0
    startup_s: float = 3.0
    startup_spread: float = 0.2
    room: int | None = None
    slot_wait_s: float = 30.0
    late_after_s: float = 15.0
    late_loop_s: float = 5.0
    spot_prices: tuple[tuple[float, float], ...] = ()
    reclaims: tuple[tuple[float, float], ...] = ()

    @property
    def queues_by_name(self) -> list[QueueSetting]:
        """The queues by name, the order of a snapshot and of the queues of a world."""
        return sorted(self.queues, key=lambda queue: queue.name)

    def __post_init__(self) -> None:
        _not_negative(
            self, "min_slots", "boot_s", "cooldown_s", "node_min_billing_s", "poll_s", "poll_jitter", "prefetch_s",
            "overshoot", "startup_s", "startup_spread", "limit", "late_after_s", "late_loop_s",
        )  # fmt: skip
        for name in ("node_slots", "max_slots", "poll_batch", "most"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidInputError(name, getattr(self, name), "must be 1 or more")
        if not (math.isfinite(self.slot_wait_s) and self.slot_wait_s > 0):
            raise InvalidInputError("slot_wait_s", self.slot_wait_s, "must be a number above 0")
        for name in ("poll_jitter", "overshoot"):
            if getattr(self, name) > 1:
                raise InvalidInputError(name, getattr(self, name), "must be between 0 and 1")
        if not self.queues:
            raise InvalidInputError("queues", self.queues, "a pool needs at least one queue")
        known = [queue.name for queue in self.queues]
        for worker in self.workers:
            for queue in worker.queues:
                if queue not in known:
                    raise UnknownNameError(f"queue of worker {worker.name!r}", queue, known)
        for name, most, value in (("spot_prices", math.inf, "a price"), ("reclaims", 1.0, "a share, 0 to 1")):
            for pair in getattr(self, name):
                if not (len(pair) == 2 and math.isfinite(pair[0]) and 0 <= pair[1] <= most):
                    raise InvalidInputError(name, pair, f"each is an instant in Unix seconds and {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of a world as columns of equal length.

    Attributes:
        deployment: Number of its deployment.
        scheduled_s: When it is expected to start; the batch's time for a run with upstreams.
        known_s: From when it shows among the upcoming runs; -inf for always, `scheduled_s` for an ad-hoc run.
        work_s: True seconds of work at full speed, 0 or more.
        p50_s: Predicted median seconds from claim to end.
        spread: Predicted standard deviation of the log duration.
        due_s: When it should be finished; inf if it cannot be late.
        due_within_s: For a run with upstreams, due so many seconds after its release; inf to use `due_s`.
        outcome_source: `DRAWN`, or the recorded outcome, see `model.world`.
        edges: Shape (n, 2): upstream run, downstream run.
        calls: Shape (n, 2): parent, child. A child is created by its parent, and has no upstreams.
    """

    deployment: npt.NDArray[np.int64]
    scheduled_s: Array
    known_s: Array
    work_s: Array
    p50_s: Array
    spread: Array
    due_s: Array
    due_within_s: Array
    outcome_source: npt.NDArray[np.int8]
    edges: npt.NDArray[np.int64]
    calls: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))


def _not_negative(spec: object, *names: str) -> None:
    """Refuse numbers that are negative or not finite; None is permitted."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise InvalidInputError(
                f"{name} of {getattr(spec, 'name', 'pool')!r}", value, "must be a number, 0 or more"
            )
