"""What is known of a work pool and of whatever decides whether its runs start: facts without a judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

AHEAD_S: Final = 5.0
"""Half of what workers ask ahead by default."""
HOLDS_SLOT: Final = ("PENDING", "RUNNING")
"""Types of states in which a run holds a slot of its queue and its pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One flow run.

    Attributes:
        id, name: Of the run.
        state: Type of its state, e.g. "SCHEDULED".
        state_name: Name of its state, e.g. "AwaitingConcurrencySlot".
        message: Message of its state, "" if there is none.
        state_s: Since when it is in its state, Unix seconds.
        deployment_id: None for a run whose deployment has gone.
        queue_id: None for a run in no work queue.
        expected_s: When it was expected to start, or when it was made if that was later.
        next_s: When Prefect serves it at the earliest; the order within its queue.
        own_retry: Whether it is to be tried again by its own process: Prefect gives it to no worker.
        pause_ends_s: When a pause ends, whereupon it fails; None without one.
        begun: Whether it has begun before.
        awaited: Whether another run has started it, and may wait for it.
        parameters: Tells runs of a deployment with the same parameters.
        children: Ids of runs of the same pool that it has started and that have not ended.
    """

    id: str
    name: str = "?"
    state: str
    state_name: str = ""
    message: str = ""
    state_s: float = 0.0
    deployment_id: str | None
    queue_id: str | None
    expected_s: float
    next_s: float
    own_retry: bool = False
    pause_ends_s: float | None = None
    begun: bool = False
    awaited: bool = False
    parameters: str = ""
    children: tuple[str, ...] = ()

    @property
    def holds_slot(self) -> bool:
        """Whether it occupies a slot of its queue and its pool."""
        return self.state in HOLDS_SLOT


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentLimit:
    """The concurrency limit of a deployment, a global concurrency limit of Prefect.

    Attributes:
        limit: Runs at once.
        taken: Slots that the server counts as taken.
        enabled: Whether the limit is enabled; a disabled one gives no slots.
        cancels: Whether a run that finds no slot is cancelled (CANCEL_NEW) instead of waiting.
    """

    limit: int
    taken: int = 0
    enabled: bool = True
    cancels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFacts:
    """One deployment.

    Attributes:
        id: Of the deployment.
        name: "flow/deployment".
        pool: Its work pool; None where the process that serves it starts its runs.
        paused: Whether its schedules are paused.
        schedules: Number of its active schedules.
        limit: Its concurrency limit; None without one.
        in_flight: Its runs on the server that hold a slot of the limit (pending, running or being cancelled).
        held_by: Keys of the holds of ours, e.g. datasets.
        polled_s: When a process that serves it last asked for its runs, Unix seconds; None if never.
    """

    id: str
    name: str
    pool: str | None = None
    paused: bool = False
    schedules: int = 0
    limit: DeploymentLimit | None = None
    in_flight: int = 0
    held_by: tuple[str, ...] = ()
    polled_s: float | None = None

    @property
    def leaked(self) -> int:
        """Slots of its limit that the server counts as taken though no run holds them."""
        return 0 if self.limit is None or self.held_by else max(0, self.limit.taken - self.in_flight)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """One work queue of the pool.

    Attributes:
        id, name: Of the queue.
        priority: 1 is served first.
        limit: Runs at once; None is unlimited.
        paused: Whether it is paused.
        polled_s: When a worker last asked for its runs, Unix seconds; None if never.
        created_s: When it was made, Unix seconds.
    """

    id: str
    name: str
    priority: int = 1
    limit: int | None = None
    paused: bool = False
    polled_s: float | None = None
    created_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingFacts:
    """A work pool at one instant.

    Attributes:
        at_s: The instant on the server's clock, Unix seconds.
        name: Of the pool.
        type: Prefect's type of it, e.g. "process", "ecs:push".
        limit: Runs at once; None is unlimited.
        paused: Whether it is paused.
        queues: Its queues by id.
        deployments: Deployments that its runs are of, by id.
        scheduled: Runs that hold no slot and are due or will be soon.
        active: Runs that hold a slot.
        beyond: Due runs behind those in `scheduled`, which are not listed because there are so many.
        heartbeats_s: Last heartbeat of each of its workers, Unix seconds.
        worker_slots: Runs that its workers carry at once; None is not known.
        poll_s: Time between two polls of a worker, seconds.
        services_off: Names of the server's services that its settings switch off.
    """

    at_s: float
    name: str
    type: str = "process"
    limit: int | None = None
    paused: bool = False
    queues: Mapping[str, QueueFacts] = field(default_factory=dict)
    deployments: Mapping[str, DeploymentFacts] = field(default_factory=dict)
    scheduled: tuple[RunFacts, ...] = ()
    active: tuple[RunFacts, ...] = ()
    beyond: int = 0
    heartbeats_s: tuple[float, ...] = ()
    worker_slots: int | None = None
    poll_s: float = 10.0
    services_off: frozenset[str] = frozenset()

    @property
    def due_s(self) -> float:
        """A run scheduled up to then counts as due: workers ask some seconds ahead, and clocks agree to a second."""
        return self.at_s + AHEAD_S
