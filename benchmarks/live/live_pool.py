"""The pool of one day on a Prefect server: its queues and deployments, the submission of runs, and their records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from benchmarks.live.day import Day, PlayedRun, played
from benchmarks.live.fast_time import FastTime
from benchmarks.live.holding_worker import SECONDS, HoldingWorker
from prefect_intelligent.domain import Terms
from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from tests.real_prefect import RealServer

_ENDED: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_CREATE_S: Final = 0.05
_AT_ONCE: Final = 4
"""Calls at once; more make a server slower."""


class LiveDayError(PrefectIntelligentError, RuntimeError):
    """A day could not be played; the message says what happened."""


class LivePool:
    """A pool with the queues and deployments of a day.

    Args:
        server: The server.
        day: The day.
        name: Name of the pool, and of each of its deployments.
    """

    def __init__(self, server: RealServer, day: Day, name: str) -> None:
        self.name = name
        self.late = 0
        """Runs that were submitted after they should have started."""
        self.known = [index for index, run in enumerate(day.runs) if run.submitted_s <= day.scenario.start_s]
        """Numbers of the runs that are known when the day begins."""
        self._api, self._day = server.api(), day
        self._executor = ThreadPoolExecutor(_AT_ONCE)
        self._ids: dict[int, Future[str]] = {}
        began_s = time.monotonic()
        self._build()
        self._deployments = self._deploy(PrefectApi(server.api_url))
        made = len(day.pool.queues) + len(self._deployments)
        self.create_s = max(_CREATE_S, 2.0 * (time.monotonic() - began_s) / made)
        """Seconds to allow for the creation of one thing, from how long it has taken so far."""

    def close(self) -> None:
        """Close the connections; what is still to be submitted is not."""
        self._executor.shutdown(cancel_futures=True)
        self._api.http.close()

    def has_worker(self) -> bool:
        """Whether a worker has reported."""
        return bool(self._api.call("POST", f"/work_pools/{self.name}/workers/filter", {}))

    def submit_known(self, fast: FastTime) -> None:
        """Submit the runs that are known when the day begins, and wait until they are there."""
        for index in self.known:
            self._submit(index, fast)
        for index in self.known:
            self._ids[index].result()

    def submit_in_time(self, fast: FastTime) -> Iterator[None]:
        """Submit each other run when it comes; yields in between, several times a second."""
        left = [index for index in range(len(self._day.runs)) if index not in self._ids]
        for index in sorted(left, key=lambda index: self._day.runs[index].submitted_s):
            while (wait_s := fast.on_clock(self._day.runs[index].submitted_s) - time.time()) > 0:
                time.sleep(min(wait_s, 0.2))
                yield
            self._submit(index, fast)
        for submission in self._ids.values():
            submission.result()

    def ended(self) -> int:
        """How many runs have ended."""
        body = {
            "work_pools": {"name": {"any_": [self.name]}},
            "flow_runs": {"state": {"type": {"any_": list(_ENDED)}}},
        }
        return int(self._api.call("POST", "/flow_runs/count", body))

    def records(self, fast: FastTime) -> list[PlayedRun]:
        """What happened to each run of the day, from the server's record of its states, in the time of the day.

        Raises:
            LiveDayError: A run did not complete.
        """
        return list(self._executor.map(lambda index: self._record(index, fast), range(len(self._day.runs))))

    def _build(self) -> None:
        """Make pool and queues. Priorities are set by id: given one at creation, Prefect may renumber others."""
        pool = self._day.pool
        self._api.pool(self.name, limit=pool.limit, type=HoldingWorker.type)
        for queue in pool.queues:
            body = {"name": queue.name, "concurrency_limit": queue.limit, "is_paused": queue.paused}
            made = self._api.call("POST", f"/work_pools/{self.name}/queues", body)
            self._api.call("PATCH", f"/work_queues/{made['id']}", {"priority": queue.priority})
        held = self._api.numbers(self.name)
        for queue in pool.queues:
            if held[queue.name] != (queue.priority, queue.limit, queue.paused):
                raise LiveDayError(f"queue {queue.name} of pool {self.name} is {held[queue.name]}, not {queue}")

    def _deploy(self, api: PrefectApi) -> dict[str, str]:
        """Make the deployments, with terms; returns their ids by their names in the scenario."""
        ids = {}
        for source in self._day.scenario.sources:
            flow = source.terms.name.replace("/", "-")
            limit: Mapping[str, Any] = {} if source.terms.limit is None else {"concurrency_limit": source.terms.limit}
            made = self._api.deployment(self.name, source.terms.queue, flow=flow, name=self.name, **limit)
            ids[source.terms.name] = made
            terms = Terms(
                deadline=source.deadline,
                late_usd_per_hour=source.terms.late_usd_per_hour,
                failure_usd=source.terms.failure_usd,
                expected_s=source.duration.typical_s + self._day.pool.startup_s,
            )
            publish_terms(api, flow, terms)
        api.close()
        return ids

    def _submit(self, index: int, fast: FastTime) -> None:
        run = self._day.runs[index]
        at_s = fast.on_clock(run.scheduled_s)

        def create() -> str:
            made = self._api.run(self._deployments[run.deployment], at_s=at_s, parameters={SECONDS: run.work_s})
            self.late += time.time() > at_s
            return made

        self._ids[index] = self._executor.submit(create)

    def _record(self, index: int, fast: FastTime) -> PlayedRun:
        states = self._api.call("GET", f"/flow_run_states/?flow_run_id={self._ids[index].result()}")
        at_s = sorted((unix_s(state["timestamp"]), state["type"]) for state in states)
        if at_s[-1][1] != "COMPLETED":
            run = self._day.runs[index]
            raise LiveDayError(f"a run of {run.deployment} in pool {self.name} ended {at_s[-1][1]}, not COMPLETED")
        taken_s = max(at for at, kind in at_s if kind == "SCHEDULED")
        taken_s = min(at for at, kind in at_s if kind == "PENDING" and at >= taken_s)
        return played(self._day.runs[index], fast.in_day(taken_s), fast.in_day(at_s[-1][0]))


def mean_gap_s(instants: Sequence[float]) -> float | None:
    """Mean time between neighbours; None below two."""
    return None if len(instants) < 2 else (instants[-1] - instants[0]) / (len(instants) - 1)
