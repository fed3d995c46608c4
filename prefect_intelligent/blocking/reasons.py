"""The reasons for which a run does not start, and how each is said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

BlockerKind = Literal["state", "fault", "choice", "capacity", "time", "none"]
"""What a reason is: the run's own state; a fault that needs a person; a choice that a person has made; capacity, which
comes free by itself; time, which passes; none, where nothing keeps the run."""


class Reason(StrEnum):
    """Why a run does not start; in the order in which they are to be dealt with."""

    ENDED = "it has ended"
    CANCELLED_BY_LIMIT = "cancelled at the deployment's limit"
    RUNNING = "it runs"
    CANCELLING = "it is being cancelled"
    STARTING = "it is being started"
    PENDING_TOO_LONG = "pending for too long"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    OWN_RETRY = "its own process is to try it again"

    DEPLOYMENT_GONE = "its deployment has gone"
    NO_QUEUE = "it is in no work queue"
    NOT_SERVED = "nobody serves the deployment"
    AGENT_POOL = "a pool for agents"
    SCHEDULER_OFF = "the scheduler is off"
    NO_SCHEDULE = "nothing schedules it"
    SCHEDULES_PAUSED = "its schedules are paused"

    PARENTS = "slots are held by parents that wait for children"
    LEAKED_SLOTS = "slots are taken that nobody holds"
    HELD = "held on purpose"
    LIMIT_DISABLED = "the deployment's limit is disabled"
    LIMIT_ZERO = "the deployment's limit is 0"
    POOL_PAUSED = "the pool is paused"
    POOL_ZERO = "the pool's limit is 0"
    QUEUE_PAUSED = "the queue is paused"
    QUEUE_ZERO = "the queue's limit is 0"
    NO_WORKER = "no worker polls the pool"
    QUEUE_NOT_POLLED = "no worker polls the queue"
    REFUSED_BEFORE = "runs that are refused fill each poll"

    DEPLOYMENT_LIMIT = "the deployment's limit is reached"
    QUEUE_LIMIT = "the queue's limit is reached"
    POOL_LIMIT = "the pool's limit is reached"
    WORKERS_FULL = "the workers are full"
    BEHIND = "others are served first"

    NOT_DUE = "it is not due"
    AWAITS_SLOT = "it asks for a slot again"
    AWAITS_RETRY = "it is tried again later"
    NEXT_POLL = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """One reason, as it is in one case.

    Attributes:
        reason: The reason.
        kind: What it is.
        subject: The run, deployment, queue, pool or server that it is about.
        what: The sentence.
        advice: The one thing to do about it; empty if there is nothing to do.
        until_s: When it ends by itself, Unix seconds; None if it does not, or nobody knows when.
    """

    reason: Reason
    kind: BlockerKind
    subject: str
    what: str
    advice: str = ""
    until_s: float | None = None

    @property
    def lasts(self) -> bool:
        """Whether it stays until somebody does something."""
        return self.kind in ("fault", "choice") or self.reason in (
            Reason.ENDED,
            Reason.CANCELLED_BY_LIMIT,
            Reason.SUSPENDED,
        )
