"""Runs that depend on each other, in worlds small enough to do by hand. Times in seconds from 0."""

import math

import pytest

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.model.stop_run import stop_run
from prefect_intelligent.twin.model.world import COMPLETES, CRASHES, FAILS
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec
from tests.small_worlds import AT_ONCE, ONE_QUEUE, claims, ends, run, runs_of

POOL = PoolSpec(queues=ONE_QUEUE, **AT_ONCE)


def phases_of(twin: Twin) -> list[int]:
    return twin.state.runs["phase"][0].tolist()


def behind_two(after_when: str, first: int, second: int) -> Twin:
    """A run behind one of 10 s and one of 30 s that end as given."""
    deployments = [DeploymentSpec(name="x", queue="q"), DeploymentSpec(name="y", queue="q", after_when=after_when)]
    rows = [
        {"work": 10, "outcome_source": first},
        {"work": 30, "outcome_source": second},
        {"work": 5, "deployment": 1},
    ]
    return run(build_world([POOL], deployments, runs_of(rows, [(0, 2), (1, 2)])))


@pytest.mark.parametrize(
    ("after_when", "first", "second", "ends_s", "phase"),
    [
        ("all", COMPLETES, COMPLETES, 35, phases.COMPLETED),
        ("all", FAILS, COMPLETES, 10, phases.CANCELLED),
        ("any", COMPLETES, FAILS, 15, phases.COMPLETED),
        ("any", FAILS, COMPLETES, 35, phases.COMPLETED),
        ("any", FAILS, FAILS, 30, phases.CANCELLED),
        ("failed", COMPLETES, FAILS, 35, phases.COMPLETED),
        ("failed", CRASHES, FAILS, 15, phases.COMPLETED),
        ("failed", COMPLETES, COMPLETES, 30, phases.CANCELLED),
        ("ended", FAILS, COMPLETES, 35, phases.COMPLETED),
        ("ended", FAILS, CRASHES, 35, phases.COMPLETED),
    ],
)
def test_a_run_comes_when_its_upstreams_have_done_what_it_waits_for(after_when, first, second, ends_s, phase) -> None:
    twin = behind_two(after_when, first, second)
    assert ends(twin)[2] == ends_s
    assert phases_of(twin)[2] == phase
    assert (twin.log()["kind"] == kinds.DONE).sum() == 3


def test_what_a_run_waits_for_has_a_name() -> None:
    with pytest.raises(UnknownNameError, match="'failed'"):
        DeploymentSpec(name="x", queue="q", after_when="faild")


def family(parent: dict, *children: dict, limit: int = 9, **terms) -> Twin:
    """A parent (20 s of work, it calls after 10) with children in a queue of their own."""
    queues = (QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2))
    deployments = [
        DeploymentSpec(name="parent", queue="a", calls_at=0.5, **terms),
        DeploymentSpec(name="child", queue="b"),
    ]
    rows = [{"work": 20, **parent}, *({"deployment": 1, **child} for child in children)]
    pool = PoolSpec(queues=queues, limit=limit, **AT_ONCE)
    calls = [(0, child) for child in range(1, len(rows))]
    return Twin(build_world([pool], deployments, runs_of(rows, calls=calls)), log=True)


def test_a_parent_keeps_its_slot_while_its_children_run() -> None:
    twin = family({}, {"work": 30}, {"work": 50})
    twin.advance(15.0)
    assert twin.state.pools["active"][0, 0] == 3
    assert twin.state.runs["scheduled_s"][0, 1] == 10
    twin.finish()
    assert ends(twin) == [70, 40, 60]
    assert twin.state.runs["held_s"][0].tolist() == [70, 30, 50]


def test_children_wait_for_the_slot_that_is_left() -> None:
    twin = family({}, {"work": 30}, {"work": 50}, limit=2)
    twin.finish()
    assert ends(twin) == [100, 40, 90]


def test_parents_that_hold_every_slot_wait_for_ever() -> None:
    twin = family({}, {"work": 30}, limit=1)
    twin.advance(10_000.0)
    assert phases_of(twin) == [phases.RUNNING, phases.WAITING]
    assert twin.state.pools["active"][0, 0] == 1


def test_a_parent_fails_with_a_child_once_all_are_over() -> None:
    twin = family({}, {"work": 5, "outcome_source": FAILS}, {"work": 40})
    twin.finish()
    assert ends(twin) == [50, 15, 50]
    assert phases_of(twin) == [phases.FAILED, phases.FAILED, phases.COMPLETED]


def test_a_parent_that_ends_before_its_call_has_no_children() -> None:
    twin = family({}, {"work": 30}, timeout_s=5.0)
    twin.finish()
    assert ends(twin) == [5, 5]
    assert phases_of(twin) == [phases.FAILED, phases.CANCELLED]


def test_a_parent_may_time_out_while_it_waits_and_its_children_go_on() -> None:
    twin = family({}, {"work": 30}, timeout_s=15.0)
    twin.finish()
    assert ends(twin) == [15, 40]
    assert phases_of(twin) == [phases.FAILED, phases.COMPLETED]


def test_a_second_attempt_of_a_parent_finds_the_children_of_the_first() -> None:
    twin = family({}, {"work": 100}, crash_retries=1)
    twin.advance(30.0)
    assert stop_run(twin.world, twin.state, 0, 0, phases.CRASHED)
    twin.finish()
    assert claims(twin)[1] == 10
    assert ends(twin) == [120, 110]  # started over at 30, at its call at 40; goes on when the child is over
    late = family({}, {"work": 5}, crash_retries=1)
    late.advance(18.0)
    assert stop_run(late.world, late.state, 0, 0, phases.CRASHED)
    late.finish()
    assert ends(late) == [38, 15]


def test_a_parent_that_waits_does_not_use_its_resources() -> None:
    queues = (QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2))
    deployments = [
        DeploymentSpec(name="parent", queue="a", calls_at=0.5, resources=("db",)),
        DeploymentSpec(name="child", queue="b", resources=("db",)),
    ]
    rows = [{"work": 20}, {"work": 30, "deployment": 1}]
    resources = [ResourceSpec(name="db", capacity=1.0)]
    pool = PoolSpec(queues=queues, **AT_ONCE)
    assert ends(run(build_world([pool], deployments, runs_of(rows, calls=[(0, 1)]), resources=resources))) == [50, 40]


def test_a_child_has_one_parent_and_no_upstreams() -> None:
    for edges, calls in ([[(0, 2)], [(1, 2)]], [None, [(0, 2), (1, 2)]]):
        with pytest.raises(InvalidInputError, match="one parent"):
            build_world([POOL], [DeploymentSpec(name="x", queue="q")], runs_of([{}, {}, {}], edges, calls))
    many = [(0, child) for child in range(1, 32_770)]
    with pytest.raises(InvalidInputError, match="at most 32767"):
        build_world([POOL], [DeploymentSpec(name="x", queue="q")], runs_of([{}] * 32_770, calls=many))


def test_deployments_may_share_one_limit() -> None:
    deployments = [
        DeploymentSpec(name=name, queue="q", limit=2, limit_group="warehouse", cancels_new=name == "z")
        for name in ("x", "y", "z")
    ]
    rows = [{"work": 100}, {"work": 40, "deployment": 1}, {"at": 1, "deployment": 1}, {"at": 2, "deployment": 2}]
    twin = run(build_world([POOL], deployments, runs_of(rows)))
    assert claims(twin)[:3] == [0, 0, 61]  # back from 1 after 30 s and again
    assert phases_of(twin)[3] == phases.CANCELLED
    assert ends(twin)[3] == 2


def test_deployments_that_share_a_limit_have_the_same() -> None:
    different = [
        DeploymentSpec(name="x", queue="q", limit=2, limit_group="g"),
        DeploymentSpec(name="y", queue="q", limit=3, limit_group="g"),
    ]
    with pytest.raises(InvalidInputError, match="'g'"):
        build_world([POOL], different, runs_of([{}]))
    with pytest.raises(InvalidInputError, match="limit of deployment"):
        DeploymentSpec(name="x", queue="q", limit_group="g")


def test_a_run_may_hold_several_slots_of_a_resource() -> None:
    deployments = [
        DeploymentSpec(name="wide", queue="q", resources=("db", "db", "db")),
        DeploymentSpec(name="thin", queue="q", resources=("db",)),
    ]
    rows = [{"work": 100}, {"work": 100, "deployment": 1}]
    resources = [ResourceSpec(name="db", capacity=2.0, slowdown=1.0)]
    # Together 4 of 2: half the speed for both, since both wait for what is full; alone the wide one has 2 of 3.
    assert ends(run(build_world([POOL], deployments, runs_of(rows), resources=resources))) == [200, 200]
    assert ends(run(build_world([POOL], deployments, runs_of(rows[:1]), resources=resources))) == [150]
    assert ends(run(build_world([POOL], deployments, runs_of(rows[1:]), resources=resources))) == [100]


def test_slots_of_a_resource_make_failures_likelier() -> None:
    wide = [DeploymentSpec(name="x", queue="q", resources=("db", "db"))]
    rows = [{"at": 1000.0 * number, "work": 10} for number in range(600)]
    resources = [ResourceSpec(name="db", capacity=1.0, slowdown=0.0, failure=0.3)]
    twin = run(build_world([POOL], wide, runs_of(rows), resources=resources, seed=3))
    failed = phases_of(twin).count(phases.FAILED) / 600
    assert math.isclose(failed, 0.3, abs_tol=0.06)  # one capacity in excess
