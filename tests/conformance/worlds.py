"""The same pool three times: in memory, on Prefect with SQLite, on Prefect with PostgreSQL."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any, Protocol

from prefect_intelligent.domain import Deployment, Estimate, PoolSetting, QueueSetting, Run, RunPhase, Terms
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.ports import Orchestrator
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from tests.real_prefect import RealServer


class World(Protocol):
    """What a conformance test may do to a pool besides steering it."""

    orchestrator: Orchestrator

    def now_s(self) -> float: ...
    def deploy(self, queue: str, terms: Terms | None = None) -> str: ...
    def submit(self, deployment: str, in_s: float) -> str: ...
    def take(self, run: str) -> None: ...
    def finish(self, run: str) -> None: ...
    def edit(self, queue: str, **values: Any) -> None: ...
    def remove(self, queue: str) -> None: ...
    def polled(self) -> list[str]: ...
    def break_for(self, calls: int) -> None: ...


class FakeWorld:
    def __init__(self, limit: int | None = None) -> None:
        # At the present, because a real server refuses nothing but knows what time it is.
        self.pool = InMemoryOrchestrator(pool=PoolSetting(name="p", limit=limit), clock=ManualClock(time.time()))
        self.orchestrator: Orchestrator = self.pool
        self._terms: dict[str, tuple[str, Terms]] = {}

    def now_s(self) -> float:
        return self.pool.clock.now_s()

    def deploy(self, queue: str, terms: Terms | None = None) -> str:
        name = f"flow-{uuid.uuid4().hex[:6]}/d"
        self._terms[name] = (queue, terms or Terms())
        self.pool.deploy(Deployment(name=name, queue=queue, terms=terms or Terms(), declared=terms is not None))
        return name

    def submit(self, deployment: str, in_s: float) -> str:
        terms = self._terms[deployment][1]
        queue = next(found.queue for found in self.pool.deployments() if found.name == deployment)
        at_s = self.now_s() + in_s
        p50_s = terms.expected_s or 60.0
        run = Run(
            id=str(uuid.uuid4()),
            deployment=deployment,
            queue=queue,
            phase=RunPhase.UPCOMING,
            scheduled_s=at_s,
            estimate=Estimate(p50_s=p50_s, p90_s=2 * p50_s),
            due_s=terms.deadline.due_s(at_s) if terms.deadline else None,
            late_usd_per_hour=terms.late_usd_per_hour,
            failure_usd=terms.failure_usd,
            resources=terms.resources,
        )
        self.pool.submit(run)
        return run.id

    def take(self, run: str) -> None:
        self.pool.claim([run])

    def finish(self, run: str) -> None:
        self.pool.end(run)

    def edit(self, queue: str, **values: Any) -> None:
        self.pool.edit(queue, lambda held: replace(held, **values))

    def remove(self, queue: str) -> None:
        self.pool.remove_queue(queue)

    def polled(self) -> list[str]:
        return list(self.pool.poll())

    def break_for(self, calls: int) -> None:
        from prefect_intelligent.errors import OrchestratorUnavailableError

        self.pool.faults.fail(OrchestratorUnavailableError("told to"), times=calls)


class RealWorld:
    def __init__(self, server: RealServer, limit: int | None = None) -> None:
        self._api = server.api()
        self._pool = self._api.pool(limit=limit)
        self._client = PrefectApi(server.api_url, timeout_s=30)
        self._begin_s = time.time()
        self.orchestrator: Orchestrator = PrefectOrchestrator(self._client, self._pool, terms_ttl_s=0.0)
        self._deployments: dict[str, str] = {}

    def now_s(self) -> float:
        return time.time()

    def deploy(self, queue: str, terms: Terms | None = None) -> str:
        flow = f"flow-{uuid.uuid4().hex[:6]}"
        key = self._api.deployment(self._pool, queue, flow=flow)
        if terms is not None:
            publish_terms(self._client, flow, terms)
        self._deployments[f"{flow}/d"] = key
        return f"{flow}/d"

    def submit(self, deployment: str, in_s: float) -> str:
        # What was due is due at the same distance from the others, however long the calls between them take.
        at_s = (self._begin_s if in_s < 0 else self.now_s()) + in_s
        return self._api.run(self._deployments[deployment], at_s=at_s)

    def take(self, run: str) -> None:
        self._api.set_state(run, "PENDING")

    def finish(self, run: str) -> None:
        self._api.set_state(run, "RUNNING")
        self._api.set_state(run, "COMPLETED")

    def edit(self, queue: str, **values: Any) -> None:
        names = {"limit": "concurrency_limit", "paused": "is_paused"}
        key = self._api.queues(self._pool)[queue]["id"]
        self._api.call("PATCH", f"/work_queues/{key}", {names.get(name, name): v for name, v in values.items()})

    def remove(self, queue: str) -> None:
        self._api.call("DELETE", f"/work_pools/{self._pool}/queues/{queue}")

    def polled(self) -> list[str]:
        return self._api.polled(self._pool)

    def break_for(self, calls: int) -> None:
        """The next calls get no time, which is what an unavailable server amounts to."""
        once, left = self._client._once, [calls]

        def refuse(*args: Any) -> Any:
            from prefect_intelligent.errors import OrchestratorUnavailableError

            if left[0] > 0:
                left[0] -= 1
                raise OrchestratorUnavailableError("told to")
            return once(*args)

        self._client._once = refuse  # type: ignore[method-assign]
        self._client._attempts = 1


def queue(name: str, priority: int, limit: int | None = None, paused: bool = False) -> QueueSetting:
    return QueueSetting(name=name, priority=priority, limit=limit, paused=paused)
