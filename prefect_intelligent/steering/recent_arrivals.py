"""The runs that have come of late without having been announced: what further ones will be like."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from prefect_intelligent.domain import Run, RunPhase
from prefect_intelligent.domain.snapshot import MOST_RECENT, RECENT_S


class RecentArrivals:
    """Collects them from one observation to the next; runs that come and go between two are missed."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._announced: set[str] = set()
        self._since_s = math.nan

    @property
    def begun(self) -> bool:
        """Whether anything has been observed."""
        return not math.isnan(self._since_s)

    def begin(self, past: Iterable[Run], since_s: float) -> None:
        """Take in the unannounced runs that have come since an instant."""
        self._runs = {run.id: run for run in past}
        self._since_s = since_s

    def observe(self, runs: Iterable[Run], announced: Collection[str], now_s: float) -> None:
        """Take in the live runs.

        Args:
            runs: Of the pool.
            announced: Ids of those that a schedule has made, or that follow another run.
            now_s: The instant.
        """
        if not self._since_s <= now_s:  # the first time, or a clock that went backwards: what is there is a backlog
            self._runs, self._announced, self._since_s = {}, {run.id for run in runs}, now_s
            return
        live = list(runs)
        ids = {run.id for run in live}
        self._announced = (self._announced & ids) | {run.id for run in live if run.phase is RunPhase.UPCOMING}
        for run in live:
            if run.id not in self._announced and run.id not in announced:
                self._runs[run.id] = run
        self._runs = {key: run for key, run in self._runs.items() if run.scheduled_s > now_s - RECENT_S}

    def of(self, queue: str) -> tuple[Run, ...]:
        """Those of a queue, newest first, at most `MOST_RECENT`."""
        found = sorted((run for run in self._runs.values() if run.queue == queue), key=lambda run: -run.scheduled_s)
        return tuple(found[:MOST_RECENT])

    def watched_s(self, now_s: float) -> float:
        """For how long has been observed, at most `RECENT_S`, seconds."""
        return min(RECENT_S, max(0.0, now_s - self._since_s)) if self.begun else 0.0
