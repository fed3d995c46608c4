"""The fake and the real adapter behave alike: every test runs against both."""

import pytest

from prefect_intelligent.domain import Change, Plan, RunPhase, Terms, diff, parse_deadline
from prefect_intelligent.domain.snapshot import RECENT_S
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from tests.conformance.worlds import FakeWorld, RealWorld, World, queue

KINDS = [
    pytest.param("fake"),
    pytest.param("sqlite", marks=pytest.mark.server),
    pytest.param("postgres", marks=[pytest.mark.server, pytest.mark.postgres]),
]


@pytest.fixture(params=KINDS)
def world(request) -> World:
    if request.param == "fake":
        return FakeWorld(limit=5)
    return RealWorld(request.getfixturevalue(f"{'prefect' if request.param == 'sqlite' else 'postgres'}_server"), 5)


def limits(world):
    return {setting.name: setting.limit for setting in world.orchestrator.settings()[1]}


def priorities(world):
    return {setting.name: setting.priority for setting in world.orchestrator.settings()[1]}


def test_settings_are_what_was_created(world):
    world.orchestrator.create_queue(queue("b", 20, limit=0))
    world.orchestrator.create_queue(queue("a", 7, paused=True))
    pool, queues = world.orchestrator.settings()
    assert (pool.name, pool.limit, pool.paused) == (world.orchestrator.pool, 5, False)
    assert queues == (queue("a", 7, paused=True), queue("b", 20, limit=0), queue("default", 1))
    with pytest.raises(ConflictError):
        world.orchestrator.create_queue(queue("a", 99))


def test_creating_a_queue_renumbers_no_other(world):
    world.orchestrator.create_queue(queue("a", 10))
    world.edit("default", priority=10)  # by hand, two of the same number are allowed
    world.orchestrator.create_queue(queue("b", 10))
    assert priorities(world) == {"a": 10, "b": 10, "default": 10}


def test_a_snapshot_has_each_run_in_its_phase_and_order(world):
    world.orchestrator.create_queue(queue("a", 10))
    deployment = world.deploy("a")
    late, later = world.submit(deployment, -50), world.submit(deployment, -40)
    soon = world.submit(deployment, 600)
    taken = world.submit(deployment, -30)
    world.take(taken)
    found = world.orchestrator.observe().queue("a")
    assert [run.id for run in found.waiting] == [late, later]
    assert [run.id for run in found.upcoming] == [soon]
    assert [(run.id, run.phase) for run in found.active] == [(taken, RunPhase.PENDING)]
    assert found.waiting[0].started_s is None
    assert found.active[0].started_s == pytest.approx(world.now_s(), abs=20)
    # between what it was scheduled for and its creation, from which it waits
    assert world.now_s() - 70 <= found.waiting[0].scheduled_s <= world.now_s() + 20
    assert {run.deployment for run in found.waiting} == {deployment}
    assert world.polled() == [late, later]


def test_a_snapshot_remembers_the_runs_that_came_unannounced_since_the_first_one(world):
    world.orchestrator.create_queue(queue("a", 10))
    deployment = world.deploy("a")
    world.submit(deployment, -50)
    world.submit(deployment, 600)
    before = world.orchestrator.observe()
    assert (before.queue("a").recent, before.watched_s) == ((), 0.0)
    came = world.submit(deployment, -40)
    world.orchestrator.observe()
    world.take(came)
    world.finish(came)
    found = world.orchestrator.observe()
    assert [run.id for run in found.queue("a").recent] == [came]
    assert found.queue("default").recent == ()


def test_snapshots_follow_arrivals_and_departures(world):
    world.orchestrator.create_queue(queue("a", 10))
    deployment = world.deploy("a")
    first, second = world.submit(deployment, -50), world.submit(deployment, -40)
    world.orchestrator.observe()
    world.take(first)
    assert [run.id for run in world.orchestrator.observe().runs(RunPhase.WAITING)] == [second]
    third = world.submit(deployment, -60)
    assert [run.id for run in world.orchestrator.observe().runs(RunPhase.WAITING)] == [third, second]
    world.finish(first)
    world.take(second)
    world.finish(second)
    assert [(run.id, run.phase) for run in world.orchestrator.observe().runs()] == [(third, RunPhase.WAITING)]


def test_terms_reach_the_runs(world):
    world.orchestrator.create_queue(queue("a", 10))
    terms = Terms(
        deadline=parse_deadline("20m"),
        late_usd_per_hour=40.0,
        failure_usd=7.0,
        expected_s=90.0,
        inputs=("raw",),
        outputs=("clean",),
        resources=("warehouse",),
        contract="contracts/clean.yml",
    )
    deployment = world.deploy("a", terms)
    world.submit(deployment, -50)
    (run,) = world.orchestrator.observe().runs()
    assert run.due_s == pytest.approx(run.scheduled_s + 1200)
    assert (run.late_usd_per_hour, run.failure_usd, run.resources) == (40.0, 7.0, ("warehouse",))
    assert run.estimate.p50_s == 90.0
    (found,) = world.orchestrator.deployments()
    assert (found.name, found.queue, found.terms, found.declared) == (deployment, "a", terms, True)


def test_a_plan_is_applied_and_then_there_is_nothing_left_to_do(world):
    for number, name in enumerate("abc", start=1):
        world.orchestrator.create_queue(queue(name, 10 * number))
    plan = Plan(order=("c", "a", "b"), limits={"a": 2, "b": 0}, pool_limit=8, sets_pool_limit=True)
    changes = diff(*world.orchestrator.settings(), plan)
    assert world.orchestrator.apply(changes) == changes
    assert diff(*world.orchestrator.settings(), plan) == ()
    assert world.orchestrator.observe().order == ("default", "c", "a", "b")


def test_unlimited_is_written_as_such_and_nothing_else_is_touched(world):
    world.orchestrator.create_queue(queue("a", 10, limit=3, paused=True))
    change = Change(queue="a", field="limit", before=3, after=None)
    assert world.orchestrator.apply([change]) == (change,)
    assert world.orchestrator.settings()[1][0] == queue("a", 10, limit=None, paused=True)
    change = Change(queue=None, field="limit", before=5, after=None)
    assert world.orchestrator.apply([change]) == (change,)
    assert world.orchestrator.settings()[0].limit is None


def test_what_a_person_has_edited_or_deleted_is_left_alone(world):
    for number, name in enumerate("abc", start=1):
        world.orchestrator.create_queue(queue(name, 10 * number))
    changes = [Change(queue=name, field="limit", before=None, after=1) for name in "abc"]
    world.edit("a", limit=9)
    world.remove("b")
    assert [change.queue for change in world.orchestrator.apply(changes)] == ["c"]
    assert limits(world) == {"a": 9, "c": 1, "default": None}


def test_runs_of_a_deleted_queue_leave_the_snapshot(world):
    world.orchestrator.create_queue(queue("a", 10))
    world.orchestrator.create_queue(queue("b", 20))
    world.submit(world.deploy("a"), -50)
    kept = world.submit(world.deploy("b"), -40)
    world.orchestrator.observe()
    world.remove("a")
    assert [run.id for run in world.orchestrator.observe().runs()] == [kept]
    assert [found.name for found in world.orchestrator.observe().queues] == ["b", "default"]


def test_deployments_are_assigned_to_queues(world):
    world.orchestrator.create_queue(queue("a", 10))
    world.orchestrator.create_queue(queue("lane", 40))
    deployment = world.deploy("a")
    old = world.submit(deployment, -50)
    world.orchestrator.assign(deployment, "lane")
    new = world.submit(deployment, -40)
    assert [found.queue for found in world.orchestrator.deployments()] == ["lane"]
    assert {run.id: run.queue for run in world.orchestrator.observe().runs()} == {old: "a", new: "lane"}
    with pytest.raises(UnknownNameError, match="lane"):
        world.orchestrator.assign(deployment, "lan")
    with pytest.raises(UnknownNameError, match="deployment"):
        world.orchestrator.assign("no/such", "lane")
    assert set(priorities(world)) == {"a", "lane", "default"}


def test_queues_are_deleted_once_and_the_default_one_never(world):
    world.orchestrator.create_queue(queue("a", 10))
    world.orchestrator.delete_queue("a")
    world.orchestrator.delete_queue("a")
    with pytest.raises(ConflictError):
        world.orchestrator.delete_queue("default")
    assert set(priorities(world)) == {"default"}


def test_an_unavailable_server_is_an_error_and_then_forgotten(world):
    world.orchestrator.create_queue(queue("a", 10))
    run = world.submit(world.deploy("a"), -50)
    world.orchestrator.observe()
    world.break_for(1)
    with pytest.raises(OrchestratorUnavailableError):
        world.orchestrator.observe()
    assert [found.id for found in world.orchestrator.observe().runs()] == [run]
    world.break_for(1)
    world.orchestrator.emit("test", {"n": 1})
    world.orchestrator.emit("test", {"n": object()})
    assert [found.id for found in world.orchestrator.observe().runs()] == [run]


@pytest.mark.server
def test_the_first_snapshot_may_recall_what_came_unannounced_before_it(prefect_server):
    world = RealWorld(prefect_server, 5)
    world.orchestrator.create_queue(queue("a", 10))
    deployment = world.deploy("a")
    over, waits = world.submit(deployment, -50), world.submit(deployment, -40)
    world.take(over)
    world.finish(over)
    world.submit(deployment, 600)
    recalling = PrefectOrchestrator(world.orchestrator.api, world.orchestrator.pool, terms_ttl_s=0.0, recall=True)
    found = recalling.observe()
    assert {run.id for run in found.queue("a").recent} == {over, waits}
    assert found.watched_s == RECENT_S
    assert {run.deployment for run in found.queue("a").recent} == {deployment}
