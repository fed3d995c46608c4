"""A work pool of a real Prefect server."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from prefect_intelligent.blocking.startable import blocked_runs
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
from prefect_intelligent.domain.instants import iso, optional_unix_s
from prefect_intelligent.domain.snapshot import RECENT_S
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.child_runs import read_children
from prefect_intelligent.prefect_client.claims.in_force import mend
from prefect_intelligent.prefect_client.json_values import bounded
from prefect_intelligent.steering.adapters.arrival_rate import ArrivalRateEstimator
from prefect_intelligent.steering.adapters.deployment_catalog import DeploymentCatalog
from prefect_intelligent.steering.adapters.followers import expected_followers
from prefect_intelligent.steering.adapters.live_runs import LiveRunCache, RunRecord, read_past
from prefect_intelligent.steering.recent_arrivals import RecentArrivals

if TYPE_CHECKING:
    from prefect_intelligent.forecasting.ports import OutlookSource

_LABELS: Final = ("severity", "rule")
"""Parts of a payload that automations may want to match: they cannot look into payloads."""


class PrefectOrchestrator:
    """Implements `Orchestrator` on Prefect's REST API.

    The constructor makes no call: the first call tells whether server and pool exist.

    Args:
        api: The server.
        pool: Name of the work pool.
        prices: Go into snapshots.
        resources: Goes into snapshots as it is.
        look_ahead_s: Scheduled runs further ahead than this are left out of snapshots.
        start_up_s: Seconds between taking a slot and starting to work, added to measured durations.
        terms_ttl_s: How long deployments, their terms and durations are kept before they are read again.
        now: Gives the present instant, Unix seconds.
        outlooks: Durations and failures expected from the history, per deployment; where the history has too few runs,
            the deployment's last runs in Prefect are used.
        recall: Whether the first snapshot also knows the unannounced runs that came before it, for one call more.
    """

    def __init__(
        self,
        api: PrefectApi,
        pool: str,
        *,
        prices: Prices | None = None,
        resources: Sequence[Resource] = (),
        look_ahead_s: float = 3600.0,
        start_up_s: float = 3.0,
        terms_ttl_s: float = 60.0,
        now: Callable[[], float] = time.time,
        outlooks: OutlookSource | None = None,
        recall: bool = False,
    ) -> None:
        self.api = api
        self._pool_name = pool
        self._prices = prices or Prices()
        self._resources = tuple(resources)
        self._now = now
        self._outlooks = outlooks
        self._live_runs = LiveRunCache(api, pool, look_ahead_s=look_ahead_s)
        self._catalog = DeploymentCatalog(api, pool, ttl_s=terms_ttl_s, start_up_s=start_up_s)
        self._arrivals = ArrivalRateEstimator()
        self._recent, self._recall = RecentArrivals(), recall
        self._runs: dict[str, tuple[RunRecord, tuple[int, int], Run]] = {}
        self._pool_id: str | None = None
        self._default_queue_id: str | None = None
        self._queue_ids: dict[str, str] = {}

    @property
    def pool(self) -> str:
        """Name of the work pool."""
        return self._pool_name

    @property
    def pool_id(self) -> str | None:
        """Id of the pool when it was last read."""
        return self._pool_id

    @property
    def problems(self) -> tuple[str, ...]:
        """Published terms that could not be read when last tried, one sentence each."""
        return self._catalog.problems

    def observe(self) -> Snapshot:
        """The pool as it is now: six calls, and four more once a minute for the deployments.

        One more where the pool is full and has runs that others have started.
        """
        pool, queues = self.settings()
        now_s = self._now()
        names = {self._queue_ids[queue.name]: queue.name for queue in queues}
        self._live_runs.refresh(names, now_s)
        live = [*self._live_runs.scheduled.values(), *self._live_runs.active.values()]
        busy = Counter(run.deployment_id for run in self._live_runs.active.values())
        past, since_s = list[RunRecord](), now_s
        first = self._recall and not self._recent.begun
        if first:
            past, since_s = read_past(self.api, self._pool_name, now_s - RECENT_S, now_s)
        self._catalog.refresh({run.deployment_id for run in (*live, *past) if run.deployment_id}, busy=busy)
        blocked = blocked_runs(
            self._live_runs.scheduled.values(), self._live_runs.active.values(), self._catalog.slots, now_s
        )
        blocked_in: Counter[str] = Counter()
        waiting: dict[str, list[tuple[float, str, Run]]] = {name: [] for name in names.values()}
        upcoming: dict[str, list[tuple[float, str, Run]]] = {name: [] for name in names.values()}
        active: dict[str, list[tuple[float, str, Run]]] = {name: [] for name in names.values()}
        if self._outlooks is not None:
            self._outlooks.refresh()
        kept: dict[str, tuple[RunRecord, tuple[int, int], Run]] = {}
        due: dict[str, str] = {}
        seen: list[Run] = []
        for record in live:
            queue = names.get(record.queue_id)
            if queue is None or (record.own_retry and record.state == "SCHEDULED"):
                continue
            if record.id in blocked:
                blocked_in[queue] += 1
                continue
            phase = _phase(record, now_s)
            run = self._run(record, queue, phase, kept)
            seen.append(run)
            run = self._with_current_risk(run, now_s)
            place = waiting if phase is RunPhase.WAITING else upcoming if phase is RunPhase.UPCOMING else active
            place[queue].append((record.next_s, record.id, run))
            if phase is not RunPhase.UPCOMING:
                due[record.id] = queue
        self._runs = kept
        self._arrivals.observe(due, now_s)
        if first:
            came = [record for record in past if record.queue_id in names and not self._is_announced(record)]
            self._recent.begin(
                [self._run(record, names[record.queue_id], RunPhase.UPCOMING, {}) for record in came], since_s
            )
        self._recent.observe(seen, {record.id for record in live if self._is_announced(record)}, now_s)
        if pool.limit is not None and 0 < pool.limit <= len(self._live_runs.active):
            active = self._with_waiting_parents(active, live)
        beyond = {names[key]: count for key, count in self._live_runs.beyond.items() if key in names}
        return Snapshot(
            at_s=now_s,
            pool=pool,
            queues=tuple(
                QueueState(
                    setting=queue,
                    waiting=_ordered(waiting[queue.name]),
                    active=_ordered(active[queue.name]),
                    upcoming=_ordered(upcoming[queue.name]),
                    arrivals_per_hour=self._arrivals.per_hour(queue.name),
                    recent=self._recent.of(queue.name),
                    beyond=beyond.get(queue.name, 0),
                    blocked=blocked_in[queue.name],
                )
                for queue in queues
            ),
            followers=expected_followers(
                self._catalog.infos(),
                [run for place in (waiting, active, upcoming) for row in place.values() for _, _, run in row],
            ),
            prices=self._prices,
            resources=self._resources,
            watched_s=self._recent.watched_s(now_s),
        )

    def _is_announced(self, record: RunRecord) -> bool:
        """Whether a schedule has made a run, or it follows another one."""
        info = self._catalog.of(record.deployment_id)
        return record.scheduled or (info.follows and bool(info.deployment.terms.inputs))

    def _with_waiting_parents(
        self, active: dict[str, list[tuple[float, str, Run]]], live: Sequence[RunRecord]
    ) -> dict[str, list[tuple[float, str, Run]]]:
        """The active runs, with those marked that wait for another run of the pool."""
        tasks = {record.parent_task_id: record.id for record in live if record.parent_task_id}
        parents = read_children(self.api, tasks)
        return {
            queue: [
                (next_s, key, replace(run, waits_for_pool=True) if key in parents else run) for next_s, key, run in runs
            ]
            for queue, runs in active.items()
        }

    def settings(self) -> tuple[PoolSetting, tuple[QueueSetting, ...]]:
        """The settings alone; queues by name."""
        return self._read_pool(), self._read_queues()

    def apply(self, changes: Sequence[Change], *, leads: Callable[[], bool] | None = None) -> tuple[Change, ...]:
        """Write the changes in order, read back, and return those that now hold."""
        if not changes:
            return ()
        before = self._values(changes)
        for change in changes:
            if leads is not None and not leads():
                break
            key = (change.queue, change.field)
            if key not in before or before[key] != change.before:
                continue
            try:
                self._write(change)
            except ConflictError:
                continue  # it has gone, or Prefect does not want it; reading back tells
            except OrchestratorUnavailableError:
                break
        after = self._values(changes)
        return tuple(
            change
            for change in changes
            if (key := (change.queue, change.field)) in after and after[key] == change.after and key in before
        )

    def mend_claims(self) -> tuple[str, ...]:
        """Put claims on the pool's deployments in force again; one call if there are none."""
        return mend(self.api, spared=lambda pool: pool != self._pool_name)

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event about the pool; a failure is ignored."""
        related = []
        if self._pool_id is not None:
            related.append(
                {
                    "prefect.resource.id": f"prefect.work-pool.{self._pool_id}",
                    "prefect.resource.role": "work-pool",
                    "prefect.resource.name": self._pool_name,
                }
            )
        labels = {f"prefect-intelligent.{name}": str(payload[name]) for name in _LABELS if name in payload}
        body = {
            "id": str(uuid.uuid4()),
            "occurred": iso(self._now()),
            "event": f"prefect-intelligent.{event}",
            "resource": {
                "prefect.resource.id": f"prefect-intelligent.pool.{self._pool_name}",
                "prefect.resource.name": self._pool_name,
                **labels,
            },
            "related": related,
            "payload": bounded(payload),
        }
        try:
            self.api.call("POST", "/events", [body], attempts=1)
        except Exception:  # a payload that is not JSON fails here too, and an event is never worth a failure
            return

    def deployments(self) -> tuple[Deployment, ...]:
        """The pool's deployments, by name."""
        self._catalog.refresh(force=True)
        return tuple(sorted(self._catalog.all().values(), key=lambda found: found.name))

    def create_queue(self, setting: QueueSetting) -> None:
        """Create a work queue.

        It is created without a priority and gets it by a second call: given one at creation, Prefect would renumber
        every queue of the pool that shares a priority with another.
        """
        if setting.name in {queue.name for queue in self._read_queues()}:
            raise ConflictError(f"work queue {setting.name!r} of pool {self._pool_name!r} already exists")
        body = {"name": setting.name, "concurrency_limit": setting.limit, "is_paused": setting.paused}
        made = self.api.call("POST", path("work_pools", self._pool_name, "queues"), body)
        self.api.call("PATCH", f"/work_queues/{made['id']}", {"priority": setting.priority})

    def delete_queue(self, name: str) -> None:
        """Delete a work queue.

        Prefect answers 500 when asked to delete the pool's default queue, which looks transient; so it is not asked.
        It is asked by id: its routes by name find no queue whose name has a line break.
        """
        self._read_pool()
        self._read_queues()
        if name not in self._queue_ids:
            return
        if self._queue_ids[name] == self._default_queue_id:
            raise ConflictError(f"the default work queue {name!r} of pool {self._pool_name!r} cannot be deleted")
        self.api.call("DELETE", f"/work_queues/{self._queue_ids[name]}", absent_ok=True)

    def assign(self, deployment: str, queue: str) -> None:
        """Send the deployment's new runs to `queue`.

        Prefect deletes the future runs that the deployment's schedules have made, and makes them again.
        """
        self._catalog.refresh(force=True)
        ids = {found.name: key for key, found in self._catalog.all().items()}
        if deployment not in ids:
            raise UnknownNameError("deployment", deployment, ids)
        names = [found.name for found in self._read_queues()]
        if queue not in names:  # Prefect would create it, at the top of the pool
            raise UnknownNameError("work queue", queue, names)
        if self._catalog.of(ids[deployment]).deployment.queue == queue:
            return
        # Without the pool's name Prefect would look for the queue in the legacy default pool.
        body = {"work_pool_name": self._pool_name, "work_queue_name": queue}
        self.api.call("PATCH", f"/deployments/{ids[deployment]}", body)

    def _read_pool(self) -> PoolSetting:
        held = self.api.call("GET", path("work_pools", self._pool_name), absent_ok=True)
        if held is None:
            known = [pool["name"] for page in self.api.pages("/work_pools/filter", {}) for pool in page]
            raise UnknownNameError("work pool", self._pool_name, known)
        self._pool_id, self._default_queue_id = held["id"], held["default_queue_id"]
        return PoolSetting(
            name=held["name"],
            limit=held["concurrency_limit"],
            paused=held["is_paused"],
            type=held.get("type"),
            id=str(held["id"]),
        )

    def _read_queues(self) -> tuple[QueueSetting, ...]:
        pages = self.api.pages(path("work_pools", self._pool_name, "queues", "filter"), {})
        found = {queue["name"]: queue for page in pages for queue in page}
        self._queue_ids = {name: queue["id"] for name, queue in found.items()}
        return tuple(
            QueueSetting(
                name=name,
                priority=queue["priority"] or 1,
                limit=queue["concurrency_limit"],
                paused=queue["is_paused"],
                polled_s=optional_unix_s(queue.get("last_polled")),
                id=str(queue["id"]),
            )
            for name, queue in sorted(found.items())
        )

    def _values(self, changes: Sequence[Change]) -> dict[tuple[str | None, str], int | None]:
        """What Prefect holds for everything the changes are about, and possibly more."""
        values: dict[tuple[str | None, str], int | None] = {}
        if any(change.queue is not None for change in changes):
            for queue in self._read_queues():
                values[queue.name, "priority"] = queue.priority
                values[queue.name, "limit"] = queue.limit
        if any(change.queue is None for change in changes):
            values[None, "limit"] = self._read_pool().limit
        return values

    def _write(self, change: Change) -> None:
        # Only the one field is sent: Prefect takes an explicit null as "unlimited" and an absent field as "leave it".
        if change.queue is None:
            self.api.call("PATCH", path("work_pools", self._pool_name), {"concurrency_limit": change.after})
            return
        name = "priority" if change.field == "priority" else "concurrency_limit"
        self.api.call("PATCH", f"/work_queues/{self._queue_ids[change.queue]}", {name: change.after})

    def _run(
        self,
        record: RunRecord,
        queue: str,
        phase: RunPhase,
        kept: dict[str, tuple[RunRecord, tuple[int, int], Run]],
    ) -> Run:
        """The run of a record; the one of the last snapshot if nothing about it has changed."""
        generation = (self._catalog.generation, 0 if self._outlooks is None else self._outlooks.generation)
        old = self._runs.get(record.id)
        if (
            old is not None
            and old[0] == record
            and old[1] == generation
            and old[2].phase is phase
            and old[2].queue == queue
        ):
            kept[record.id] = old
            return old[2]
        info = self._catalog.of(record.deployment_id)
        terms = info.deployment.terms
        outlook = None if self._outlooks is None else self._outlooks.of(info.deployment.name)
        outlook = None if outlook is None else outlook.of_run(record.parameters)
        run = Run(
            id=record.id,
            deployment=info.deployment.name,
            queue=queue,
            phase=phase,
            scheduled_s=record.expected_s,
            started_s=record.taken_s,
            due_s=terms.deadline.due_s(record.expected_s) if terms.deadline else None,
            late_usd_per_hour=terms.late_usd_per_hour,
            failure_usd=terms.failure_usd,
            failure_probability=info.failure_probability if outlook is None else outlook.failure_probability,
            estimate=info.estimate if outlook is None else outlook.estimate,
            resources=terms.resources,
            parameters=record.parameters,
        )
        kept[record.id] = (record, generation, run)
        return run

    def _with_current_risk(self, run: Run, now_s: float) -> Run:
        """The run with the probability that it fails, given that it has been running for so long.

        This is part of the snapshot, so that decisions, `eta` and the dashboard use the same probability.
        """
        outlook = None if self._outlooks is None else self._outlooks.of(run.deployment)
        if outlook is None or run.phase is not RunPhase.RUNNING or run.started_s is None:
            return run
        # Imported here: a hook has no outlooks and may not load the forecaster.
        from prefect_intelligent.forecasting.in_flight_risk import failure_probability_now

        now, _ = failure_probability_now(run.failure_probability, now_s - run.started_s, run.estimate, outlook.failed)
        return replace(run, failure_probability=now)


def _phase(record: RunRecord, now_s: float) -> RunPhase:
    if record.state == "SCHEDULED":
        return RunPhase.WAITING if record.next_s <= now_s else RunPhase.UPCOMING
    return RunPhase.PENDING if record.state == "PENDING" else RunPhase.RUNNING


def _ordered(found: list[tuple[float, str, Run]]) -> tuple[Run, ...]:
    """Runs in the order in which Prefect serves them."""
    found.sort(key=lambda item: item[:2])
    return tuple(run for _, _, run in found)
