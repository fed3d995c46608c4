"""A fake work pool in memory that dispatches runs as Prefect does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect_intelligent.domain import (
    Change,
    Deployment,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    Resource,
    Run,
    RunPhase,
    Snapshot,
)
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.steering.recent_arrivals import RecentArrivals
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.faults import Faults


class InMemoryOrchestrator:
    """Implements `Orchestrator` and plays the worker too.

    Like Prefect: strict priority, then scheduled time, equal priorities merged; slots are held by PENDING and RUNNING
    runs; limits are looked at when a worker polls and nowhere else, so that lowering one stops nothing and two workers
    polling at once overshoot (`poll` twice, then `claim` both); the queue of a run never changes; a queue can be
    deleted at any time together with its waiting runs, all but "default".

    Args:
        queues: The pool's queues; one called "default" with priority 1 is added if missing.
        pool: Name of the pool, or its settings.
        clock: The time; made if not given.
        prices: Goes into snapshots as it is.
        resources: Goes into snapshots as it is.
        start_up_s: Seconds a run is PENDING before it is RUNNING.
    """

    def __init__(
        self,
        queues: Sequence[QueueSetting] = (),
        *,
        pool: str | PoolSetting = "pool",
        clock: ManualClock | None = None,
        prices: Prices | None = None,
        resources: Sequence[Resource] = (),
        start_up_s: float = 0.0,
    ) -> None:
        self.clock = clock or ManualClock()
        self.faults = Faults(self.clock)
        self.events: list[tuple[str, dict[str, Any]]] = []
        """Events sent, with their payloads."""
        self.finished: list[tuple[Run, float]] = []
        """Runs that ended, with the instant of their end."""
        self._pool = PoolSetting(name=pool) if isinstance(pool, str) else pool
        self._queues = {queue.name: queue for queue in queues}
        self._queues.setdefault("default", QueueSetting(name="default", priority=1))
        self._prices = prices or Prices()
        self._resources = tuple(resources)
        self._start_up_s = start_up_s
        self._runs: dict[str, Run] = {}
        self._works_s: dict[str, float] = {}
        self._deployments: dict[str, Deployment] = {}
        self._recent = RecentArrivals()

    @property
    def pool(self) -> str:
        """Name of the work pool."""
        return self._pool.name

    # The methods that a controller calls.

    def observe(self) -> Snapshot:
        """The pool at the clock's instant."""
        self.faults.strike("observe")
        now_s = self.clock.now_s()
        runs = [self._phased(run, now_s) for run in self._runs.values()]
        runs.sort(key=lambda run: (run.scheduled_s, run.id))
        self._recent.observe(runs, (), now_s)

        def of(name: str, *phases: RunPhase) -> tuple[Run, ...]:
            return tuple(run for run in runs if run.queue == name and run.phase in phases)

        return Snapshot(
            at_s=now_s,
            pool=self._pool,
            queues=tuple(
                QueueState(
                    setting=setting,
                    waiting=of(name, RunPhase.WAITING),
                    active=of(name, RunPhase.PENDING, RunPhase.RUNNING),
                    upcoming=of(name, RunPhase.UPCOMING),
                    recent=self._recent.of(name),
                )
                for name, setting in sorted(self._queues.items())
            ),
            prices=self._prices,
            resources=self._resources,
            watched_s=self._recent.watched_s(now_s),
        )

    def mend_claims(self) -> tuple[str, ...]:
        """Return nothing: there are no claims here."""
        return ()

    def settings(self) -> tuple[PoolSetting, tuple[QueueSetting, ...]]:
        """The settings alone; queues by name."""
        self.faults.strike("settings")
        return self._pool, tuple(setting for _, setting in sorted(self._queues.items()))

    def apply(self, changes: Sequence[Change], *, leads: Callable[[], bool] | None = None) -> tuple[Change, ...]:
        """Write the changes in order and return those that now hold."""
        self.faults.strike("apply")
        held: list[Change] = []
        for change in changes:
            if leads is not None and not leads():
                break
            try:
                self.faults.strike("write")
            except ConflictError:
                continue
            except OrchestratorUnavailableError:
                break
            if self._write(change):
                held.append(change)
        return tuple(change for change in held if self._value(change) == change.after)

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Keep the event in `events`."""
        try:
            self.faults.strike("emit")
        except Exception:
            return
        self.events.append((event, dict(payload)))

    def deployments(self) -> tuple[Deployment, ...]:
        """The pool's deployments, by name."""
        self.faults.strike("deployments")
        return tuple(found for _, found in sorted(self._deployments.items()))

    def create_queue(self, setting: QueueSetting) -> None:
        """Make a work queue."""
        self.faults.strike("create_queue")
        if setting.name in self._queues:
            raise ConflictError(f"work queue {setting.name!r} of pool {self.pool!r} already exists")
        self._queues[setting.name] = setting

    def delete_queue(self, name: str) -> None:
        """Remove a work queue."""
        self.faults.strike("delete_queue")
        if name == "default":
            raise ConflictError(f"the default work queue of pool {self.pool!r} cannot be deleted")
        self.remove_queue(name)

    def assign(self, deployment: str, queue: str) -> None:
        """Send the deployment's new runs to `queue`."""
        self.faults.strike("assign")
        if deployment not in self._deployments:
            raise UnknownNameError("deployment", deployment, self._deployments)
        if queue not in self._queues:
            raise UnknownNameError("work queue", queue, self._queues)
        self._deployments[deployment] = replace(self._deployments[deployment], queue=queue)

    # What people and other clients do.

    def edit(self, queue: str, change: Callable[[QueueSetting], QueueSetting]) -> None:
        """A person edits a queue by hand, e.g. `lambda q: replace(q, limit=3)`."""
        self._queues[queue] = change(self._queues[queue])

    def edit_pool(self, change: Callable[[PoolSetting], PoolSetting]) -> None:
        """A person edits the pool by hand."""
        self._pool = change(self._pool)

    def remove_queue(self, name: str) -> None:
        """Somebody deletes a queue; its runs that wait vanish from the pool, those that hold a slot go on."""
        self._queues.pop(name, None)
        self._runs = {key: run for key, run in self._runs.items() if run.queue != name or run.holds_slot}

    def deploy(self, deployment: Deployment) -> None:
        """Somebody deploys a flow."""
        self._deployments[deployment.name] = deployment

    def submit(self, *runs: Run, works_s: float | None = None) -> None:
        """Add scheduled runs.

        Args:
            runs: Their phase and `started_s` are ignored; a queue that does not exist is created, as Prefect
                does, with the first free priority.
            works_s: How long they really run, past their start-up; their median estimate if None.
        """
        for run in runs:
            if run.queue not in self._queues:
                taken = {queue.priority for queue in self._queues.values()}
                free = next(n for n in range(1, len(taken) + 2) if n not in taken)
                self._queues[run.queue] = QueueSetting(name=run.queue, priority=free)
            self._runs[run.id] = replace(run, phase=RunPhase.UPCOMING, started_s=None)
            self._works_s[run.id] = run.estimate.p50_s if works_s is None else works_s

    # The worker.

    def poll(self, limit: int = 200) -> tuple[str, ...]:
        """Ids of the runs that Prefect would hand to a worker that asks now; claims nothing."""
        if self._pool.paused:
            return ()
        now_s = self.clock.now_s()
        active: dict[str, int] = {}
        for run in self._runs.values():
            active[run.queue] = active.get(run.queue, 0) + run.holds_slot
        picked: list[Run] = []
        for name, queue in self._queues.items():
            due = [run for run in self._runs.values() if run.queue == name and self._is_due(run, now_s)]
            due.sort(key=lambda run: (run.scheduled_s, run.id))
            slots = len(due) if queue.limit is None else max(0, queue.limit - active.get(name, 0))
            picked.extend([] if queue.paused else due[:slots])
        picked.sort(key=lambda run: (self._queues[run.queue].priority, run.scheduled_s, run.id))
        room = limit if self._pool.limit is None else min(limit, max(0, self._pool.limit - sum(active.values())))
        return tuple(run.id for run in picked[:room])

    def claim(self, ids: Sequence[str]) -> None:
        """A worker takes these runs: they are PENDING from now on."""
        for key in ids:
            if not self._runs[key].holds_slot:
                self._runs[key] = replace(self._runs[key], phase=RunPhase.PENDING, started_s=self.clock.now_s())

    def end(self, key: str) -> None:
        """A run that holds a slot ends now."""
        self.finished.append((self._runs.pop(key), self.clock.now_s()))

    def advance(self, seconds: float, *, poll_every_s: float = 1.0) -> None:
        """Let time pass: a worker polls every `poll_every_s`, runs start and finish."""
        end_s = self.clock.now_s() + seconds
        while True:
            self._settle()
            self.claim(self.poll())
            if self.clock.now_s() >= end_s:
                return
            self.clock.sleep(min(poll_every_s, end_s - self.clock.now_s()))

    def _settle(self) -> None:
        """End the runs whose time is over and move the others from PENDING to RUNNING."""
        now_s = self.clock.now_s()
        for run in list(self._runs.values()):
            if run.started_s is None:
                continue
            end_s = run.started_s + self._start_up_s + self._works_s[run.id]
            if end_s <= now_s:
                self.finished.append((self._runs.pop(run.id), end_s))
            elif now_s >= run.started_s + self._start_up_s:
                self._runs[run.id] = replace(run, phase=RunPhase.RUNNING)

    def _is_due(self, run: Run, now_s: float) -> bool:
        return not run.holds_slot and run.scheduled_s <= now_s

    def _phased(self, run: Run, now_s: float) -> Run:
        return replace(run, phase=RunPhase.WAITING) if self._is_due(run, now_s) else run

    def _value(self, change: Change) -> int | None:
        """The number now in force for what `change` is about."""
        if change.queue is None:
            return self._pool.limit
        setting = self._queues[change.queue]
        return setting.priority if change.field == "priority" else setting.limit

    def _write(self, change: Change) -> bool:
        """Write one value; False if its queue has gone or somebody else has changed it."""
        if change.queue is not None and change.queue not in self._queues:
            return False
        if self._value(change) != change.before:
            return False
        if change.queue is None:
            self._pool = replace(self._pool, limit=change.after)
        elif change.field == "limit":
            self._queues[change.queue] = replace(self._queues[change.queue], limit=change.after)
        elif change.after is not None:
            self._queues[change.queue] = replace(self._queues[change.queue], priority=change.after)
        return True
