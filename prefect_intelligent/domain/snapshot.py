"""What is known of one work pool at one instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prefect_intelligent.domain.followers import Follower
from prefect_intelligent.domain.objective import Prices
from prefect_intelligent.domain.queues import QueueSetting
from prefect_intelligent.domain.runs import Run, RunPhase
from prefect_intelligent.errors import UnknownNameError


RECENT_S: Final = 7200.0
"""How long ago the oldest of the runs in `QueueState.recent` came, seconds."""
MOST_RECENT: Final = 256
"""How many runs there are at most in `QueueState.recent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSetting:
    """The settings of a work pool.

    Attributes:
        name: Prefect's name of the pool.
        limit: Flow runs allowed at once over all queues; None is unlimited, 0 is a soft pause.
        paused: Whether it is paused in Prefect.
        id: Prefect's id, which a pool that is deleted and made again does not keep; None if not known.
        type: Prefect's type of it, e.g. "process" or "kubernetes"; None is unknown.
    """

    name: str
    limit: int | None = None
    paused: bool = False
    type: str | None = None
    id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A shared resource that runs load, and that slows down past its capacity.

    Attributes:
        name: As in `Terms.resources`.
        capacity: Runs it serves at once at full speed, above 0.
    """

    name: str
    capacity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One work queue with the runs in it.

    Attributes:
        setting: Its settings in Prefect.
        waiting: Runs that are due, in the order Prefect will serve them (scheduled time, then id).
        active: Runs that hold a slot.
        upcoming: Runs scheduled for later, soonest first.
        arrivals_per_hour: Recent arrival rate (exponentially weighted); None if not known.
        recent: Runs that have come in the last `RECENT_S` seconds without having been announced by a schedule or by what
            they follow, newest first, whatever has become of them; at most `MOST_RECENT`.
        blocked: Number of runs that are in none of the others, since no slot of the pool would start them now: their
            deployment is held or at its own limit.
        beyond: Number of waiting runs behind those in `waiting`, which are not listed because there are so many.
    """

    setting: QueueSetting
    waiting: tuple[Run, ...] = ()
    active: tuple[Run, ...] = ()
    upcoming: tuple[Run, ...] = ()
    arrivals_per_hour: float | None = None
    recent: tuple[Run, ...] = ()
    beyond: int = 0
    blocked: int = 0

    @property
    def name(self) -> str:
        """Name of the queue."""
        return self.setting.name

    @property
    def empty(self) -> bool:
        """Whether it has no run at all, so that none would be lost with it."""
        return not (self.waiting or self.active or self.upcoming or self.beyond or self.blocked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A work pool at one instant: everything a policy may look at.

    Attributes:
        at_s: The instant.
        pool: Settings of the pool.
        queues: Its queues, by name.
        prices: What capacity costs, and how much lateness weighs against it.
        resources: Shared resources with their capacities, by name.
        followers: Runs that will be made once runs of the pool have completed.
        watched_s: For how long arrivals have been seen, at most `RECENT_S`, seconds.
    """

    at_s: float
    pool: PoolSetting
    queues: tuple[QueueState, ...]
    prices: Prices = field(default_factory=Prices)
    resources: tuple[Resource, ...] = ()
    followers: tuple[Follower, ...] = ()
    watched_s: float = 0.0

    @property
    def active(self) -> int:
        """Slots held in the pool."""
        return sum(len(queue.active) for queue in self.queues)

    @property
    def held_by_parents(self) -> bool:
        """Whether every slot of the pool is held by a run that waits for another of the pool: then none comes free."""
        limit = self.pool.limit
        full = limit is not None and 0 < limit <= self.active
        return full and all(run.waits_for_pool for queue in self.queues for run in queue.active)

    @property
    def order(self) -> tuple[str, ...]:
        """Queue names as Prefect serves them now: by priority, ties by name."""
        return tuple(q.name for q in sorted(self.queues, key=lambda q: (q.setting.priority, q.name)))

    def queue(self, name: str) -> QueueState:
        """The queue of that name.

        Raises:
            UnknownNameError: The pool has no such queue.
        """
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise UnknownNameError("work queue", name, (queue.name for queue in self.queues))

    def runs(self, *phases: RunPhase) -> Iterator[Run]:
        """All runs, or those in the given phases, queue by queue."""
        for queue in self.queues:
            for run in (*queue.active, *queue.waiting, *queue.upcoming):
                if not phases or run.phase in phases:
                    yield run
