"""The cache of live runs agrees with the server after any history of the pool.

A server of three routes in memory stands in for Prefect; what the routes mean is held to the real ones by the
integration tests of the same cache.
"""

import contextlib
import itertools
from datetime import UTC, datetime
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefect_intelligent.domain.instants import iso, unix_s
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.steering.adapters import live_runs
from prefect_intelligent.steering.adapters.live_runs import LiveRunCache

NOW_S = 1_750_000_000.0
QUEUES = ("a", "b", "c")


class Server:
    """Flow runs by id, and the routes that the cache uses."""

    def __init__(self):
        self.runs = {}
        self.broken = 0
        self.fits = 10_000

    def call(self, method, route, body):
        if self.broken:
            self.broken -= 1
            raise OrchestratorUnavailableError("told to")
        found = [run for run in self.runs.values() if self._wanted(run, body)]
        if route.endswith("/count"):
            return len(found)
        if body.get("sort") == "NEXT_SCHEDULED_START_TIME_ASC":
            found.sort(key=lambda run: run["next_scheduled_start_time"] or "")
        start = body.get("offset", 0)
        return found[start : start + body.get("limit", 200)]

    def pages(self, route, body):
        yield self.call("POST", route, {**body, "limit": 200})

    def page(self, route, body):
        found = self.call("POST", route, {**body, "limit": 4})
        return found, len(found) < 4

    def fitting(self, route, most):
        return min(most, self.fits)

    def _wanted(self, run, body):
        wanted = body["flow_runs"]
        ids, state = wanted.get("id", {}), wanted.get("state", {}).get("type", {})
        before = wanted.get("next_scheduled_start_time", {}).get("before_")
        queues = body.get("work_pool_queues", {}).get("id", {}).get("any_")
        return (
            run["id"] in ids.get("any_", [run["id"]])
            and run["id"] not in ids.get("not_any_", [])
            and run["state_type"] in state.get("any_", [run["state_type"]])
            and run["state_type"] not in state.get("not_any_", [])
            and (before is None or (run["next_scheduled_start_time"] or "~") <= before)
            and (queues is None or run["work_queue_id"] in queues)
            and ("work_pools" not in body or run["work_queue_id"] is not None)
        )


class Pool(RuleBasedStateMachine):
    budget, per_queue, fits = 10_000, 10_000, 10_000

    def __init__(self):
        super().__init__()
        # Small, so that a few runs make several pages and turns.
        self.small = mock.patch.multiple(live_runs, PAGE=4, _REREAD=2)
        self.small.start()
        self.server = Server()
        self.server.fits = self.fits
        self.cache = LiveRunCache(self.server, "pool", budget=self.budget, per_queue=self.per_queue)
        self.queues = set(QUEUES)
        self.numbers = itertools.count()
        self.fresh = self.settled = False

    def teardown(self):
        self.small.stop()

    def pick(self, index, *states):
        found = [run for run in self.server.runs.values() if run["state_type"] in states]
        return found[index % len(found)] if found else None

    @rule(queue=st.sampled_from(QUEUES), in_s=st.integers(-5000, 5000), count=st.integers(1, 9))
    def submit(self, queue, in_s, count):
        self.fresh = self.settled = False
        for step in range(count):
            if queue in self.queues:
                key = f"run-{next(self.numbers):05}"
                at = iso(NOW_S + in_s + step)
                self.server.runs[key] = {
                    "id": key,
                    "deployment_id": "d",
                    "work_queue_id": queue,
                    "state_type": "SCHEDULED",
                    "state": {"timestamp": iso(NOW_S)},
                    "expected_start_time": at,
                    "next_scheduled_start_time": at,
                    "created": at,
                }

    @rule(index=st.integers(0, 99), to=st.sampled_from(("PENDING", "RUNNING", "COMPLETED", "CANCELLED", "SCHEDULED")))
    def move(self, index, to):
        run = self.pick(index, "SCHEDULED", "PENDING", "RUNNING")
        if run is not None:
            self.fresh = self.settled = False
            run["state_type"] = to
            if to == "SCHEDULED":  # a retry, or somebody has rescheduled it
                run["next_scheduled_start_time"] = iso(NOW_S + 60 + index)
            elif to != "SCHEDULED":
                run["next_scheduled_start_time"] = None

    @rule(index=st.integers(0, 99))
    def delete(self, index):
        run = self.pick(index, "SCHEDULED", "PENDING")
        if run is not None:
            self.fresh = self.settled = False
            del self.server.runs[run["id"]]

    @rule(queue=st.sampled_from(QUEUES[1:]))
    def delete_queue(self, queue):
        self.fresh = self.settled = False
        self.queues.discard(queue)
        for run in self.server.runs.values():
            if run["work_queue_id"] == queue:
                run["work_queue_id"] = None

    @precondition(lambda self: self.server.runs)
    @rule(after=st.integers(1, 5))
    def fail_in_the_middle(self, after):
        calls = itertools.count()
        right = self.server.call

        def wrong(*args):
            if next(calls) == after:
                raise OrchestratorUnavailableError("told to")
            return right(*args)

        self.server.call = wrong
        with contextlib.suppress(OrchestratorUnavailableError):
            self.cache.refresh(self.queues, NOW_S)
        del self.server.call
        self.fresh = self.settled = False

    @rule()
    def refresh(self):
        self.cache.refresh(self.queues, NOW_S)
        self.fresh = True

    @rule()
    def settle(self):
        # As often as it takes to re-read every remembered run in turn.
        for _ in range(2 + len(self.server.runs)):
            self.cache.refresh(self.queues, NOW_S)
        self.fresh = self.settled = True

    def truth(self, *states):
        horizon = iso(NOW_S + 3600.0)
        return {
            key: run
            for key, run in self.server.runs.items()
            if run["state_type"] in states
            and run["work_queue_id"] in self.queues
            and (run["state_type"] != "SCHEDULED" or run["next_scheduled_start_time"] <= horizon)
        }

    @invariant()
    def active_runs_are_right(self):
        if self.fresh:
            assert self.cache.active.keys() == self.truth("PENDING", "RUNNING").keys()

    @invariant()
    def scheduled_runs_are_right_or_counted(self):
        if not self.fresh:
            return
        truth = self.truth("SCHEDULED")
        scheduled = {key for key, run in self.server.runs.items() if run["state_type"] == "SCHEDULED"}
        # Only a run that was rescheduled beyond the horizon may stay until its turn.
        assert self.cache.scheduled.keys() <= (truth.keys() if self.settled else scheduled)
        for queue in self.queues:
            mine = {key for key, run in truth.items() if run["work_queue_id"] == queue}
            kept = {key for key in mine if key in self.cache.scheduled}
            if queue not in self.cache.beyond:
                assert kept == mine
            else:
                assert len(kept) >= self.per_queue

    @invariant()
    def records_say_what_the_server_says(self):
        if self.settled:
            for key, record in self.cache.scheduled.items():
                run = self.server.runs[key]
                assert record.next_s == unix_s(run["next_scheduled_start_time"])
                assert record.expected_s == unix_s(run["expected_start_time"])


class CrowdedPool(Pool):
    """The same with room for a few runs only."""

    budget, per_queue = 12, 4


class FatPool(Pool):
    """The same with records of which one is enough at a time."""

    fits = 1


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCrowdedPool = CrowdedPool.TestCase
TestCrowdedPool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

TestFatPool = FatPool.TestCase
TestFatPool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_instants_survive_the_way_to_the_server_and_back():
    assert unix_s(iso(NOW_S + 0.25)) == NOW_S + 0.25
    assert iso(0.0) == datetime(1970, 1, 1, tzinfo=UTC).isoformat()
