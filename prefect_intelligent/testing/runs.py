"""A fake `RunSource`: rows in memory, paged like Prefect's API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.history.rows import (
    ENDED_STATES,
    DeploymentFact,
    EventFact,
    QueueFact,
    RunFact,
    StateFact,
    TaskRunFact,
)

PAGE = 200
NOW_S = 1_750_000_000.0


class FakeRuns:
    """Implements `RunSource`.

    Attributes:
        runs: What it remembers; change it between calls as a server would.
        calls: Reading calls so far.
        fails_after: Reading call after which the server is gone; None for never.
        clock_s: Its clock.
    """

    def __init__(self, runs: Sequence[RunFact] = ()) -> None:
        self.runs = list(runs)
        self.tasks: list[TaskRunFact] = []
        self.event_rows: list[EventFact] = []
        self.state_rows: list[StateFact] = []
        self.deployment_rows: list[DeploymentFact] = []
        self.queue_rows: list[QueueFact] = []
        self.calls = 0
        self.fails_after: int | None = None
        self.clock_s = NOW_S

    def _called(self) -> None:
        self.calls += 1
        if self.fails_after is not None and self.calls > self.fails_after:
            raise OrchestratorUnavailableError("the server has gone")

    def _ended(self, since_s: float, until_s: float) -> list[RunFact]:
        return [
            run
            for run in self.runs
            if run.state in ENDED_STATES and run.ended_s is not None and since_s <= run.ended_s < until_s
        ]

    def now_s(self) -> float:
        """Its clock."""
        return self.clock_s

    def first_s(self) -> float | None:
        """The first end, or None."""
        self._called()
        return min((run.ended_s for run in self.runs if run.ended_s is not None), default=None)

    def ended_count(self, since_s: float, until_s: float) -> int:
        """How many ended in the span."""
        self._called()
        return len(self._ended(since_s, until_s))

    def ended_runs(self, since_s: float, until_s: float) -> Iterator[list[RunFact]]:
        """Those runs."""
        found = self._ended(since_s, until_s)
        for start in range(0, max(1, len(found)), PAGE):
            self._called()
            yield found[start : start + PAGE]

    def live_runs(self) -> Iterator[list[RunFact]]:
        """Runs that have not ended."""
        self._called()
        yield [run for run in self.runs if run.state not in ENDED_STATES]

    def task_runs(self, run_ids: Sequence[str]) -> Iterator[list[TaskRunFact]]:
        """Task runs of these flow runs."""
        self._called()
        yield [task for task in self.tasks if task.run_id in set(run_ids)]

    def events(self, since_s: float, until_s: float) -> Iterator[tuple[list[EventFact], list[StateFact]]]:
        """Events and states of the span."""
        self._called()
        yield (
            [event for event in self.event_rows if since_s <= event.at_s < until_s],
            [state for state in self.state_rows if since_s <= state.at_s < until_s],
        )

    def deployments(self) -> list[DeploymentFact]:
        """All deployments."""
        self._called()
        return list(self.deployment_rows)

    def queues(self) -> list[QueueFact]:
        """All settings."""
        self._called()
        return list(self.queue_rows)
