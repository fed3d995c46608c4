"""What steering needs of Prefect: the pool, a lease, and events that wake it up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prefect_intelligent.domain import Change, Deployment, PoolSetting, QueueSetting, Snapshot


class Orchestrator(Protocol):
    """One work pool of a Prefect server.

    Every method may raise `OrchestratorUnavailableError` (try again or skip), `OrchestratorAccessDeniedError` (somebody
    has to change the credentials), `ConflictError` (the thing has changed or gone) and, where a name does not exist,
    `UnknownNameError`; nothing else escapes.
    """

    @property
    def pool(self) -> str:
        """Name of the work pool."""
        ...

    def observe(self) -> Snapshot:
        """The pool as it is now, with at most a handful of calls."""
        ...

    def settings(self) -> tuple[PoolSetting, tuple[QueueSetting, ...]]:
        """The settings alone; queues by name."""
        ...

    def apply(self, changes: Sequence[Change], *, leads: Callable[[], bool] | None = None) -> tuple[Change, ...]:
        """Write the changes in order, read back, and return those that now hold.

        A change whose queue has gone is skipped, and so is one whose setting is no longer what `Change.before` says
        (a person has edited it: human-set values win). A transient refusal ends the pass and the rest is left for the
        next one, and so does `leads()`, which is asked before each of them, when it says no.

        Raises:
            OrchestratorAccessDeniedError: We may not write; changes before the one that was denied may hold.
        """
        ...

    def mend_claims(self) -> tuple[str, ...]:
        """Put claims (holds, shares) on the pool's deployments in force again that a deploy has ended.

        Returns:
            What was found to differ, in sentences.
        """
        ...

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event about the pool (name after `prefect-intelligent.`); never raises."""
        ...

    def deployments(self) -> tuple[Deployment, ...]:
        """The pool's deployments, by name."""
        ...

    def create_queue(self, setting: QueueSetting) -> None:
        """Create a work queue with exactly these settings.

        Raises:
            ConflictError: The pool already has a queue of that name.
        """
        ...

    def delete_queue(self, name: str) -> None:
        """Delete a work queue; does nothing if there is none of that name.

        Raises:
            ConflictError: Prefect does not allow it (the queue "default").
        """
        ...

    def assign(self, deployment: str, queue: str) -> None:
        """Send the deployment's new runs ("flow/deployment") to `queue`; runs that exist keep theirs.

        Raises:
            UnknownNameError: There is no such deployment or queue.
        """
        ...


class Notes(Protocol):
    """Small records kept with one work pool on the server, by name; they go with the pool.

    Every method may raise `OrchestratorError`.
    """

    def read(self, name: str) -> Mapping[str, Any] | None:
        """The note of that name; None if there is none, empty if it cannot be read."""
        ...

    def write(self, name: str, note: Mapping[str, Any]) -> None:
        """Write the note."""
        ...


class Lease(Protocol):
    """Leadership over one pool: at most one holder, and it lapses by itself when the holder dies."""

    def acquire(self) -> bool:
        """Try to become the holder, without waiting; True if we now hold it."""
        ...

    def renew(self) -> bool:
        """Prolong it; False if it was lost, and then nothing may be written any more.

        Raises:
            OrchestratorUnavailableError: Not known; it still lapses by itself if this goes on.
        """
        ...

    def release(self) -> None:
        """Give it up so that another may take over at once; never raises."""
        ...


class WakeUps(Protocol):
    """Reports that something happened in the pool, so that the next decision need not wait for the interval."""

    def wait(self, timeout_s: float) -> bool:
        """Block until something happened since the last call (True) or the time is over (False); never raises."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...
