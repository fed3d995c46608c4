"""Ports of the history: the server it is copied from and the stores it is kept in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from prefect_intelligent.history.rows import DeploymentFact, EventFact, QueueFact, RunFact, StateFact, TaskRunFact


class HistoryStore(Protocol):
    """Stores our own records (decisions, original settings, quality results), each with the version of its kind.

    Records come back in the present form of their kind (`local.record_versions`); those that cannot be brought into it
    are left out.
    """

    def append(self, kind: str, pool: str, at_s: float, record: Mapping[str, Any]) -> int:
        """Store one record and return its number."""
        ...

    def latest(self, kind: str, pool: str) -> Mapping[str, Any] | None:
        """The record of that kind for the pool that was written last (clocks jump, the order of writing does not)."""
        ...

    def records(
        self, kind: str, pool: str | None = None, since_s: float | None = None, *, last: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Records of that kind in the order in which they were written; with `last`, only so many of the newest."""
        ...

    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind that are older than `before_s`; returns how many."""
        ...


class RunSource(Protocol):
    """What a Prefect server remembers, read in pages. Every method may raise `OrchestratorUnavailableError`."""

    def now_s(self) -> float:
        """The present on the server's clock, Unix seconds: what it remembers is dated by that, not by ours."""
        ...

    def first_s(self) -> float | None:
        """An instant before which no run has ended; None if there is no run at all."""
        ...

    def ended_count(self, since_s: float, until_s: float) -> int:
        """How many flow runs ended from `since_s` (included) to `until_s` (excluded)."""
        ...

    def ended_runs(self, since_s: float, until_s: float) -> Iterator[list[RunFact]]:
        """Those flow runs, page by page."""
        ...

    def live_runs(self) -> Iterator[list[RunFact]]:
        """Flow runs that have not ended and hold a slot or are due, page by page."""
        ...

    def task_runs(self, run_ids: Sequence[str]) -> Iterator[list[TaskRunFact]]:
        """Task runs of these flow runs, page by page."""
        ...

    def events(self, since_s: float, until_s: float) -> Iterator[tuple[list[EventFact], list[StateFact]]]:
        """Events of the span and the state changes among them, page by page; servers keep events for days only."""
        ...

    def deployments(self) -> list[DeploymentFact]:
        """All deployments."""
        ...

    def queues(self) -> list[QueueFact]:
        """Settings of all pools and queues as they are now."""
        ...


class RunStore(Protocol):
    """Stores what was copied from a server. All writes are idempotent."""

    def cursor(self, name: str) -> float | None:
        """Instant up to which `name` has been copied, Unix seconds; None if it has not been."""
        ...

    def put(
        self,
        *,
        runs: Sequence[RunFact] = (),
        task_runs: Sequence[TaskRunFact] = (),
        events: Sequence[EventFact] = (),
        states: Sequence[StateFact] = (),
        cursor: tuple[str, float] | None = None,
    ) -> None:
        """Store rows and move a cursor in one transaction; a row with a known key replaces the old one."""
        ...

    def put_deployments(self, deployments: Sequence[DeploymentFact]) -> None:
        """Store the deployments as they are now; deployments that no longer exist stay as they were."""
        ...

    def put_queues(self, queues: Sequence[QueueFact]) -> int:
        """Store the settings that differ from those stored last; returns how many."""
        ...

    def pack(self, before_s: float) -> int:
        """Convert days before an instant into a form that is faster to read, if there is one; returns how many."""
        ...
