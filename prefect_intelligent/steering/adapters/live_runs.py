"""The live runs of a pool, cached between decisions so that only what has changed is read.

Scheduled runs are cached. A refresh reads the runs that hold a slot and the scheduled runs that are not cached yet
(Prefect's filter can exclude ids), and counts how many of the cached ones are still scheduled; only if some are not,
it asks which. A few cached runs are read again each time, in turn, so that a run that somebody has rescheduled is
noticed too. That is four calls, whether ten runs wait or a thousand.

Of a backlog beyond `budget` runs only the first `per_queue` of each long queue (in the order in which Prefect serves
them) are cached; the rest is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.history.run_parameters import Value, bounded
from prefect_intelligent.prefect_client.api import PAGE, PrefectApi
from prefect_intelligent.prefect_client.run_times import submitted_s

_HOLDS_SLOT: Final = ("PENDING", "RUNNING")
_REREAD: Final = 25
_KIND: Final = "flow run of Prefect"
_RECOUNT: Final = 4


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What steering needs of one flow run.

    Attributes:
        id: Flow run id.
        deployment_id: None for a run without deployment (it cannot be in a pool, but may lose its deployment).
        queue_id: Its work queue.
        state: SCHEDULED, PENDING or RUNNING.
        expected_s: When it was expected to start, or when it was made if that was later; lateness counts from here.
        next_s: When Prefect will serve it at the earliest; the order within its queue.
        taken_s: When its present attempt took its slot, None if it holds none.
        own_retry: Whether it is to be tried again by its own process: Prefect gives it to no worker.
        parent_task_id: Task run of another run that has started it; None for others.
        scheduled: Whether a schedule has made it.
        parameters: Name and value of what forecasts use of its parameters, by name.
    """

    id: str
    deployment_id: str | None
    queue_id: str
    state: str
    expected_s: float
    next_s: float
    taken_s: float | None
    own_retry: bool = False
    parent_task_id: str | None = None
    scheduled: bool = False
    parameters: tuple[tuple[str, Value], ...] = ()


def read_record(run: Mapping[str, Any]) -> RunRecord:
    """The record of a flow run as the API gives it."""
    expected_s = submitted_s(run)
    state = run["state"] or {}
    taken_s = None
    if run["state_type"] in _HOLDS_SLOT:
        taken_s = max(unix_s(run["created"]), unix_s(state["timestamp"])) if state.get("timestamp") else expected_s
    return RunRecord(
        id=run["id"],
        deployment_id=run["deployment_id"],
        queue_id=run["work_queue_id"],
        state=run["state_type"],
        expected_s=expected_s,
        next_s=unix_s(run["next_scheduled_start_time"] or run["expected_start_time"] or run["created"]),
        taken_s=taken_s,
        own_retry=(run.get("empirical_policy") or {}).get("retry_type") == "in_process",
        parent_task_id=run.get("parent_task_run_id"),
        scheduled=bool(run.get("auto_scheduled")),
        parameters=tuple(sorted(bounded(run.get("parameters") or {}, expected_s).items())),
    )


def read_past(api: PrefectApi, pool: str, since_s: float, until_s: float) -> tuple[list[RunRecord], float]:
    """The latest runs of a pool that were to start in a span, one page of them, and from when on these are all."""
    span = {"after_": iso(since_s), "before_": iso(until_s)}
    body = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": {"expected_start_time": span}}
    page, complete = api.page("/flow_runs/filter", body | {"sort": "EXPECTED_START_TIME_DESC"})
    found = read_each(_KIND, page, read_record)
    oldest_s = min((record.expected_s for record in found), default=since_s)
    return list(found), since_s if complete else max(since_s, oldest_s)


class LiveRunCache:
    """The live runs of one pool.

    Args:
        api: Where they are read.
        pool: Name of the work pool.
        look_ahead_s: Runs scheduled further ahead than this are left out.
        budget: Number of scheduled runs up to which all are cached.
        per_queue: Number of scheduled runs cached of each queue beyond that.
    """

    def __init__(
        self,
        api: PrefectApi,
        pool: str,
        *,
        look_ahead_s: float = 3600.0,
        budget: int = 1500,
        per_queue: int = 50,
    ) -> None:
        self._api = api
        self._pools = {"name": {"any_": [pool]}}
        self._look_ahead_s, self._budget, self._per_queue = look_ahead_s, budget, per_queue
        self.scheduled: dict[str, RunRecord] = {}
        """Cached scheduled runs, by id."""
        self.active: dict[str, RunRecord] = {}
        """Runs that hold a slot, by id."""
        self.beyond: dict[str, int] = {}
        """Queue id to the number of scheduled runs that are not cached."""
        self._pending_s: dict[str, float] = {}

    def refresh(self, queue_ids: Collection[str], now_s: float | None = None) -> None:
        """Bring the cache up to date.

        Args:
            queue_ids: The pool's queues; runs of others are dropped.
            now_s: Present instant on the server's clock; the system clock if not given.

        Raises:
            OrchestratorUnavailableError: The cache stays usable and the next refresh carries on.
        """
        horizon = iso((time.time() if now_s is None else now_s) + self._look_ahead_s)
        active = self._read_active()
        known = {key: run for key, run in self.scheduled.items() if run.queue_id in queue_ids and key not in active}
        self.scheduled, self.active = known, active
        self._drop_departed()
        cut = self._read_arrivals(queue_ids, horizon)
        self._reread_some(horizon)
        self._recount(cut, horizon)

    def _filter(self, flow_runs: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"work_pools": self._pools, "flow_runs": flow_runs, **more}

    def _read_active(self) -> dict[str, RunRecord]:
        """The runs that hold a slot. A run keeps the instant at which we saw it take the slot as PENDING.

        Where records are fat, those that are known to be running are not read again as long as all of them are.
        """
        flow_runs: dict[str, Any] = {"state": {"type": {"any_": list(_HOLDS_SLOT)}}}
        found: dict[str, RunRecord] = {}
        running = {key: run for key, run in self.active.items() if run.state == "RUNNING"}
        if self._api.fitting("/flow_runs/filter", len(running)) < len(running):
            still = self._filter({"state": {"type": {"any_": ["RUNNING"]}}, "id": {"any_": list(running)}})
            if self._api.call("POST", "/flow_runs/count", still) == len(running):
                found = running
                flow_runs["id"] = {"not_any_": list(running)}
        body = self._filter(flow_runs, sort="EXPECTED_START_TIME_ASC")
        pending_s = {key: self._pending_s[key] for key in found if key in self._pending_s}
        for page in self._api.pages("/flow_runs/filter", body):
            for run in read_each(_KIND, page, read_record):
                seen_s = self._pending_s.get(run.id)
                if seen_s is None or (run.state == "PENDING" and run.taken_s is not None):
                    seen_s = run.taken_s
                if seen_s is not None:
                    pending_s[run.id] = seen_s
                found[run.id] = _taken(run, seen_s)
        self._pending_s = pending_s
        return found

    def _read_arrivals(self, queue_ids: Collection[str], horizon: str) -> set[str]:
        """Read scheduled runs that are not cached, soonest first, until there are no more or every queue has enough.

        Returns:
            The queues of which some runs were left unread.
        """
        while True:
            flow_runs = _scheduled(horizon)
            if self.scheduled:
                flow_runs["id"] = {"not_any_": list(self.scheduled)}
            body = self._filter(flow_runs, sort="NEXT_SCHEDULED_START_TIME_ASC")
            full = self._full()
            if full:
                open_ = [key for key in queue_ids if key not in full]
                if not open_:
                    return full
                body["work_pool_queues"] = {"id": {"any_": open_}}
            page, complete = self._api.page("/flow_runs/filter", body)
            before = len(self.scheduled)
            self._cache(read_each(_KIND, page, read_record))
            if complete or len(self.scheduled) == before:
                return full

    def _full(self) -> set[str]:
        """Queues of which enough runs are cached; none while the total is within the budget."""
        if len(self.scheduled) < self._budget:
            return set()
        counts = Counter(run.queue_id for run in self.scheduled.values())
        return {key for key, count in counts.items() if count >= self._per_queue}

    def _cache(self, runs: Iterable[RunRecord]) -> None:
        self.scheduled.update((run.id, run) for run in runs if run.state == "SCHEDULED")

    def _drop_departed(self) -> None:
        """Drop cached runs that are no longer scheduled; those that hold a slot by now become active ones."""
        if not self.scheduled:
            return
        still = self._filter({"state": {"type": {"any_": ["SCHEDULED"]}}, "id": {"any_": list(self.scheduled)}})
        count: int = self._api.call("POST", "/flow_runs/count", still)
        if count >= len(self.scheduled):
            return
        gone = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}, "id": {"any_": list(self.scheduled)}}}
        for page in self._api.pages("/flow_runs/filter", gone):
            for raw in page:
                self.scheduled.pop(raw["id"], None)
                if raw["state_type"] in _HOLDS_SLOT and raw["work_queue_id"]:
                    self.active[raw["id"]] = read_record(raw)
        if len(self.scheduled) > count:  # some were deleted, or lost their queue: ask for all of them
            self._verify(list(self.scheduled))

    def _reread_some(self, horizon: str) -> None:
        """Read the runs again that were read longest ago; a dictionary keeps the order of insertion."""
        oldest = list(self.scheduled)[: self._api.fitting("/flow_runs/filter", _REREAD)]
        self._verify(oldest)
        limit_s = unix_s(horizon)
        for key in oldest:
            if key in self.scheduled and self.scheduled[key].next_s > limit_s:
                del self.scheduled[key]  # rescheduled beyond the look-ahead; it is read again when its time is near

    def _verify(self, ids: list[str]) -> None:
        """Read these cached runs again; those that Prefect no longer lists as scheduled in the pool are dropped."""
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            flow_runs = {"id": {"any_": some}, "state": {"type": {"any_": ["SCHEDULED"]}}}
            pages = list(self._api.pages("/flow_runs/filter", self._filter(flow_runs)))
            for key in some:
                self.scheduled.pop(key, None)
            for page in pages:
                self._cache(read_each(_KIND, page, read_record))

    def _recount(self, cut: Collection[str], horizon: str) -> None:
        """Count the runs that are not cached: of a queue when it becomes long, then of a few long ones in turn."""
        # Dictionaries keep insertion order, so the first are the ones counted longest ago.
        old = [key for key in self.beyond if key in cut]
        new = [key for key in cut if key not in self.beyond]
        self.beyond = {key: self.beyond[key] for key in old}
        counts = Counter(run.queue_id for run in self.scheduled.values())
        for key in (*new, *old[:_RECOUNT]):
            body = self._filter(_scheduled(horizon), work_pool_queues={"id": {"any_": [key]}})
            total: int = self._api.call("POST", "/flow_runs/count", body)
            self.beyond.pop(key, None)
            self.beyond[key] = max(0, total - counts[key])


def _scheduled(horizon: str) -> dict[str, Any]:
    """Filter for scheduled runs up to the horizon."""
    return {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": horizon}}


def _taken(run: RunRecord, at_s: float | None) -> RunRecord:
    """The same record with the instant at which it took its slot."""
    if at_s == run.taken_s:
        return run
    return replace(run, taken_s=at_s)
