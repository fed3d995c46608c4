"""The in-memory pool dispatches as `knowledge/prefect.md` sections 2 and 3 say that Prefect does."""

from dataclasses import replace

import pytest

from prefect_intelligent.domain import Change, Deployment, Estimate, PoolSetting, QueueSetting, Run, RunPhase, diff
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.ports import Lease, Orchestrator
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.lease import InMemoryLease, LeaseBoard
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator


def queue(name, priority, limit=None, paused=False):
    return QueueSetting(name=name, priority=priority, limit=limit, paused=paused)


def run(pool, key, queue, in_s=0.0, works_s=10.0):
    return Run(
        id=key,
        deployment=f"flow/{queue}",
        queue=queue,
        phase=RunPhase.UPCOMING,
        scheduled_s=pool.clock.now_s() + in_s,
        estimate=Estimate(p50_s=works_s, p90_s=works_s * 2),
    )


def pool_with(*queues, limit=None):
    return InMemoryOrchestrator(queues, pool=PoolSetting(name="p", limit=limit))


def test_fakes_satisfy_the_ports():
    clock: Clock = ManualClock()
    orchestrator: Orchestrator = InMemoryOrchestrator(clock=clock)
    store: HistoryStore = InMemoryHistory()
    lease: Lease = InMemoryLease(LeaseBoard(), "a")
    assert (orchestrator.pool, store.latest("decision", "pool"), lease.acquire()) == ("pool", None, True)


def test_priority_is_strict_and_time_decides_within():
    pool = pool_with(queue("low", 20), queue("high", 10), limit=2)
    pool.submit(run(pool, "l1", "low", -50), run(pool, "h2", "high", -1), run(pool, "h1", "high", -2))
    assert pool.poll() == ("h1", "h2")


def test_equal_priorities_merge_by_scheduled_time():
    pool = pool_with(queue("a", 10), queue("b", 10))
    pool.submit(run(pool, "a1", "a", -1), run(pool, "b1", "b", -3), run(pool, "a2", "a", -2))
    assert pool.poll() == ("b1", "a2", "a1")


def test_limits_bind_and_lowering_one_stops_nothing():
    pool = pool_with(queue("a", 10, limit=2))
    pool.submit(*(run(pool, f"a{i}", "a", i - 9) for i in range(4)))
    pool.advance(0)
    assert pool.apply([Change(queue="a", field="limit", before=2, after=0)])
    pool.advance(5)
    assert len(pool.observe().queue("a").active) == 2


def test_two_workers_polling_at_once_overshoot():
    pool = pool_with(queue("a", 20), queue("b", 10), limit=1)
    pool.submit(run(pool, "a1", "a"), run(pool, "b1", "b"))
    first = pool.poll()
    pool.apply([Change(queue="a", field="priority", before=20, after=5)])
    second = pool.poll()
    pool.claim(first)
    pool.claim(second)
    assert pool.observe().active == 2


def test_a_paused_queue_or_pool_hands_out_nothing():
    pool = pool_with(queue("a", 10, paused=True))
    pool.submit(run(pool, "a1", "a"))
    assert pool.poll() == ()
    pool.edit("a", lambda q: replace(q, paused=False))
    assert pool.poll() == ("a1",)
    pool.edit_pool(lambda p: replace(p, paused=True))
    assert pool.poll() == ()


def test_runs_wait_start_and_finish():
    pool = InMemoryOrchestrator([queue("a", 10)], start_up_s=3)
    pool.submit(run(pool, "a1", "a", in_s=5), works_s=4)
    assert [r.phase for r in pool.observe().runs()] == [RunPhase.UPCOMING]
    pool.advance(5)
    assert [r.phase for r in pool.observe().runs()] == [RunPhase.PENDING]
    pool.advance(3)
    assert [r.phase for r in pool.observe().runs()] == [RunPhase.RUNNING]
    pool.advance(5)
    assert [(r.id, end - r.scheduled_s) for r, end in pool.finished] == [("a1", 7.0)]


def test_a_missing_queue_is_created_on_top():
    pool = pool_with(queue("default", 7))
    pool.submit(run(pool, "x", "surprise"))
    assert pool.observe().queue("surprise").setting.priority == 1


def test_apply_skips_what_a_person_has_edited_or_deleted():
    pool = pool_with(queue("a", 10), queue("b", 20), queue("c", 30))
    changes = [
        Change(queue=name, field="limit", before=None, after=number)
        for number, name in enumerate(("a", "b", "c"), start=1)
    ]
    pool.faults.meanwhile(lambda: pool.edit("a", lambda q: replace(q, limit=9)), on="write")
    pool.remove_queue("b")
    assert [change.queue for change in pool.apply(changes)] == ["c"]
    assert pool.observe().queue("a").setting.limit == 9


def test_a_transient_refusal_ends_the_pass_and_a_conflict_only_skips():
    pool = pool_with(queue("a", 10), queue("b", 20))
    changes = [Change(queue=name, field="limit", before=None, after=1) for name in ("a", "b")]
    pool.faults.fail(OrchestratorUnavailableError("503"), on="write")
    assert pool.apply(changes) == ()
    pool.faults.fail(ConflictError("409"), on="write")
    assert [change.queue for change in pool.apply(changes)] == ["b"]


def test_faults_strike_the_named_call_as_often_as_told():
    pool = pool_with(queue("a", 10))
    pool.faults.fail(OrchestratorUnavailableError("down"), on="observe", times=2)
    pool.settings()
    for _ in range(2):
        with pytest.raises(OrchestratorUnavailableError, match="down"):
            pool.observe()
    pool.faults.slow_s = 4.0
    before = pool.clock.now_s()
    assert pool.observe().at_s == before + 4.0
    pool.faults.fail(RuntimeError("boom"), on="emit")
    pool.emit("decision", {})
    assert pool.events == []


def test_queues_are_created_deleted_and_assigned():
    pool = pool_with(queue("a", 10))
    pool.deploy(Deployment(name="f/d", queue="a"))
    pool.create_queue(queue("lane", 40, limit=2))
    with pytest.raises(ConflictError, match="already exists"):
        pool.create_queue(queue("lane", 40))
    pool.assign("f/d", "lane")
    assert pool.deployments()[0].queue == "lane"
    with pytest.raises(UnknownNameError, match="'lane'"):
        pool.assign("f/d", "lan")
    pool.delete_queue("lane")
    pool.delete_queue("lane")
    with pytest.raises(ConflictError):
        pool.delete_queue("default")


def test_a_diff_that_was_applied_leaves_nothing_to_do():
    from prefect_intelligent.domain import Plan

    pool = pool_with(queue("a", 10), queue("b", 20), queue("c", 30), limit=4)
    plan = Plan(order=("c", "a", "b"), limits={"b": 1}, pool_limit=8, sets_pool_limit=True)
    changes = diff(*pool.settings(), plan)
    assert pool.apply(changes) == changes
    assert diff(*pool.settings(), plan) == ()


def test_a_lease_has_one_holder_and_lapses():
    board = LeaseBoard()
    one, two = InMemoryLease(board, "one", ttl_s=30), InMemoryLease(board, "two", ttl_s=30)
    assert one.acquire()
    assert not two.acquire()
    board.clock.sleep(20)
    assert one.renew()
    board.clock.sleep(31)
    assert two.acquire()
    assert not one.renew()
    one.release()
    assert two.renew()
    two.release()
    assert one.acquire()
