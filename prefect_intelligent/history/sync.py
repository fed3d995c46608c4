"""Copies what a Prefect server remembers into the history: incremental, resumable, in constant memory.

Ended runs are copied in windows of time whose rows and cursor are written in one transaction: an interrupted copy
resumes after the last complete window, and a run that is copied twice is stored once. The width of the windows adapts,
so that each has at most some thousand runs. Runs that have not ended are read again each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.domain.instants import FIRST_S, LAST_S
from prefect_intelligent.history.ports import RunSource, RunStore
from prefect_intelligent.history.rows import RunFact, TaskRunFact

MOST_IN_WINDOW: Final = 2000
OVERLAP_S: Final = 60.0
"""Runs that ended this long before the cursor are read again, because servers set end times a little late."""
EVENT_MEMORY_S: Final = 7 * 86400.0
"""How long Prefect keeps events by default."""

_FIRST_WINDOW_S: Final = 6 * 3600.0
_SHORTEST_WINDOW_S: Final = 1.0
_LONGEST_WINDOW_S: Final = 30 * 86400.0
_EVENT_WINDOW_S: Final = 1800.0
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """Numbers of rows that one pass has copied."""

    runs: int = 0
    live_runs: int = 0
    task_runs: int = 0
    events: int = 0
    states: int = 0
    deployments: int = 0
    queue_changes: int = 0
    windows: int = 0
    seconds: float = 0.0

    @property
    def runs_per_s(self) -> float:
        """Ended runs copied per second."""
        return self.runs / self.seconds if self.seconds > 0 else 0.0


def sync(
    source: RunSource,
    store: RunStore,
    clock: Clock,
    *,
    task_runs: bool = False,
    events: bool = True,
    progress: Callable[[int, float], None] | None = None,
) -> SyncReport:
    """Copy everything that is new.

    Args:
        source: The server.
        store: The history.
        clock: The time.
        task_runs: Whether to copy task runs too (many more rows).
        events: Whether to copy events and the state changes among them.
        progress: Called after each window with the number of runs copied and the instant reached.

    Raises:
        OrchestratorUnavailableError: The server does not answer; what has been copied stays copied.
        StoreError: The history cannot be written.
    """
    began, until_s = clock.now_s(), source.now_s()
    found_deployments = source.deployments()
    store.put_deployments(found_deployments)
    queue_changes = store.put_queues(source.queues())
    runs, tasks, windows = _sync_ended(source, store, until_s, task_runs, progress)
    live = 0
    for page in source.live_runs():
        store.put(runs=page)
        live += len(page)
    seen_events, seen_states = _sync_events(source, store, until_s) if events else (0, 0)
    store.pack(until_s)
    return SyncReport(
        runs=runs,
        live_runs=live,
        task_runs=tasks,
        events=seen_events,
        states=seen_states,
        deployments=len(found_deployments),
        queue_changes=queue_changes,
        windows=windows,
        seconds=clock.now_s() - began,
    )


def _sync_ended(
    source: RunSource, store: RunStore, until_s: float, with_tasks: bool, progress: Callable[[int, float], None] | None
) -> tuple[int, int, int]:
    """(runs, task runs, windows) copied."""
    start = _resumed(store.cursor("runs"), until_s)
    start = _first(source, until_s) if start is None else start
    if start is None:
        return 0, 0, 0
    runs = tasks = windows = 0
    width = _FIRST_WINDOW_S
    while start < until_s:
        end = min(start + width, until_s)
        count = source.ended_count(start, end)
        while count > MOST_IN_WINDOW and end - start > _SHORTEST_WINDOW_S:
            width = max(_SHORTEST_WINDOW_S, (end - start) * 0.8 * MOST_IN_WINDOW / count)
            end = start + width
            count = source.ended_count(start, end)
        found: list[RunFact] = [] if count == 0 else [run for page in source.ended_runs(start, end) for run in page]
        found_tasks: list[TaskRunFact] = []
        if with_tasks and found:
            found_tasks = [task for page in source.task_runs([run.run_id for run in found]) for task in page]
        store.put(runs=found, task_runs=found_tasks, cursor=("runs", end))
        runs, tasks, windows = runs + len(found), tasks + len(found_tasks), windows + 1
        start = end
        if count < MOST_IN_WINDOW / 4:
            width = width * 2 if count == 0 else min(width * 2, _LONGEST_WINDOW_S)
        if progress is not None:
            progress(runs, end)
    if source.ended_count(until_s, LAST_S):  # dated by another clock; they stay ahead of every cursor
        for page in source.ended_runs(until_s, LAST_S):
            store.put(runs=page)
            runs += len(page)
    return runs, tasks, windows


def _first(source: RunSource, until_s: float) -> float | None:
    """Where to begin; None if there is no run at all."""
    first_s = source.first_s()
    if first_s is None:
        return None
    start = min(first_s, until_s - _DAY_S)
    return FIRST_S if source.ended_count(FIRST_S, start) else start


def _resumed(cursor: float | None, until_s: float) -> float | None:
    """Where to go on; a cursor in the future was set by a clock that was wrong, and what it passed over is unknown."""
    if cursor is None:
        return None
    return cursor - OVERLAP_S if cursor <= until_s + OVERLAP_S else until_s - _DAY_S


def _sync_events(source: RunSource, store: RunStore, until_s: float) -> tuple[int, int]:
    """(events, state changes) copied."""
    cursor = store.cursor("events")
    start = max(_resumed(cursor, until_s) or until_s - EVENT_MEMORY_S, until_s - EVENT_MEMORY_S)
    events = states = 0
    while start < until_s:
        end = min(start + _EVENT_WINDOW_S * (16 if cursor is None else 1), until_s)
        for page, changes in source.events(start, end):
            store.put(events=page, states=changes)
            events, states = events + len(page), states + len(changes)
        store.put(cursor=("events", end))
        start = end
    return events, states
