"""Workers that are told apart, in worlds small enough to do by hand. Times in seconds from 0."""

import numpy as np
import pytest

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import FAILS
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, WorkerSpec
from tests.small_worlds import AT_ONCE, claims, ends, run, runs_of

QUEUES = (QueueSetting(name="a", priority=1), QueueSetting(name="b", priority=2))
DEPLOYMENTS = [DeploymentSpec(name="x", queue="a"), DeploymentSpec(name="y", queue="b")]


def pool_of(*workers: WorkerSpec, **more) -> PoolSpec:
    return PoolSpec(queues=QUEUES, workers=workers, owned=False, **{**AT_ONCE, **more})


def test_runs_wait_although_the_pool_has_room_when_no_worker_has() -> None:
    pool = pool_of(WorkerSpec(name="one", limit=1), WorkerSpec(name="two", limit=2), limit=9)
    twin = run(build_world([pool], DEPLOYMENTS, runs_of([{} for _ in range(5)])))
    assert claims(twin) == [0, 0, 0, 10, 10]


def test_a_worker_takes_runs_of_its_queues_only() -> None:
    pool = pool_of(WorkerSpec(name="one", limit=1, queues=("a",)), WorkerSpec(name="two", limit=1, queues=("b",)))
    rows = [{}, {}, {"deployment": 1, "work": 4}, {"deployment": 1}]
    twin = run(build_world([pool], DEPLOYMENTS, runs_of(rows)))
    assert claims(twin) == [0, 10, 0, 4]
    assert twin.state.runs["worker"][0].tolist() == [0, 0, 1, 1]


def test_a_queue_that_nobody_polls_waits_for_ever() -> None:
    twin = Twin(build_world([pool_of(WorkerSpec(name="one", queues=("b",)))], DEPLOYMENTS, runs_of([{}])))
    twin.advance(10_000.0)
    assert twin.state.runs["phase"][0, 0] == phases.WAITING


def test_the_pool_limit_still_holds_for_all_workers_together() -> None:
    pool = pool_of(WorkerSpec(name="one", limit=3), WorkerSpec(name="two", limit=3), limit=4)
    twin = run(build_world([pool], DEPLOYMENTS, runs_of([{} for _ in range(6)])))
    assert claims(twin) == [0, 0, 0, 0, 10, 10]


def test_a_worker_dies_with_its_runs_and_the_other_goes_on() -> None:
    pool = pool_of(WorkerSpec(name="one", limit=1, outages=((5.0, 40.0),)), WorkerSpec(name="two", limit=1))
    rows = [{"work": 20}, {"work": 20}, {"at": 1, "work": 20}, {"at": 1, "work": 20}]
    again = [DeploymentSpec(name="x", queue="a", crash_retries=1)]
    twin = run(build_world([pool], again, runs_of(rows)))
    crashed = twin.log()[(twin.log()["kind"] == kinds.ENDED) & (twin.log()["where"] == phases.CRASHED)]
    assert crashed[["at_s", "run"]].tolist() == [(5, 0)]
    assert ends(twin) == [60, 20, 40, 60]  # the first one is back in line at 5, behind what came at 1
    assert twin.state.runs["worker"][0].tolist()[1:3] == [1, 1]
    assert twin.state.workers["active"][0].tolist() == [0, 0]


def test_a_worker_that_dies_takes_a_process_that_waits_for_its_retry() -> None:
    retried = [DeploymentSpec(name="x", queue="a", retries=1, retry_delay_s=100.0, failure_usd=1.0)]
    pool = pool_of(WorkerSpec(name="one", outages=((50.0, 60.0),)))
    twin = run(build_world([pool], retried, runs_of([{"outcome_source": FAILS}])))
    assert twin.state.runs["phase"][0, 0] == phases.CRASHED
    assert ends(twin) == [50]
    assert twin.cost().failure_usd == 1
    assert twin.state.totals["away"][0] == 0


def test_a_process_that_waits_for_its_retry_counts_in_its_worker_but_not_in_the_pool() -> None:
    retried = [DeploymentSpec(name="x", queue="a", retries=1, retry_delay_s=30.0)]
    rows = [{"outcome_source": FAILS}, {"work": 5}]
    one = run(build_world([pool_of(WorkerSpec(name="one", limit=1))], retried, runs_of(rows)))
    assert claims(one) == [0, 50]
    none = run(build_world([pool_of(limit=1)], retried, runs_of(rows)))
    assert claims(none) == [0, 10]


def test_each_worker_polls_in_its_own_time() -> None:
    workers = [WorkerSpec(name=name) for name in ("one", "two", "three")]
    polled = {"poll_s": 30.0, "poll_jitter": 0.0}
    rows = [{"at": 31.0 + number, "work": 1} for number in range(60)]
    waits = []
    for count in (1, 3):
        pool = pool_of(*workers[:count], **polled)
        twin = run(build_world([pool], DEPLOYMENTS, runs_of(rows), seed=2))
        waits.append(np.array(claims(twin)) - [row["at"] for row in rows])
        assert len(np.unique(np.array(claims(twin)) % 30.0)) == count
    assert waits[1].mean() < waits[0].mean()
    assert waits[0].max() <= 30


def test_workers_survive_stacking_with_worlds_of_other_shapes() -> None:
    first = pool_of(WorkerSpec(name="one", limit=1, queues=("b",), outages=((5.0, 40.0),)))
    rows = [{"deployment": 1, "work": 3}, {"deployment": 1, "at": 6}]
    one = build_world([first], DEPLOYMENTS, runs_of(rows))
    wide = PoolSpec(queues=tuple(QueueSetting(name=str(n), priority=n) for n in range(1, 6)), **AT_ONCE)
    other = build_world([wide], [DeploymentSpec(name="z", queue="3")], runs_of([{}, {}, {}]))
    two = build_world([pool_of(*(WorkerSpec(name=name, limit=1) for name in "mno"))], DEPLOYMENTS, runs_of([{}] * 4))
    twin = Twin(stack([other, one, two]))
    twin.finish()
    assert twin.state.runs["first_claimed_s"][0, :3].tolist() == [0, 0, 0]
    assert twin.state.runs["first_claimed_s"][1, :2].tolist() == [0, 40]
    assert twin.state.runs["first_claimed_s"][2, :4].tolist() == [0, 0, 0, 10]


def test_a_worker_that_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'b'"):
        pool_of(WorkerSpec(name="one", queues=("bb",)))
    with pytest.raises(InvalidInputError, match="a later end"):
        WorkerSpec(name="one", outages=((5.0, 5.0),))
