"""Futures of a snapshot with followers: they are made once their upstreams have completed."""

from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.domain import Estimate, PoolSetting, Prices, QueueSetting, QueueState, Run, RunPhase, Snapshot
from prefect_intelligent.domain.followers import Follower
from prefect_intelligent.policy.census import P, Q, take_census
from prefect_intelligent.twin.from_snapshot import sample_futures
from prefect_intelligent.twin.model.state import COMPLETED
from prefect_intelligent.twin.spec import PoolSpec, WorkerSpec

ESTIMATE = Estimate(p50_s=100.0, p90_s=100.0)


def run(name, phase, queue="q", **more):
    return Run(id=name, deployment=name, queue=queue, phase=phase, scheduled_s=1000.0, estimate=ESTIMATE, **more)


def snapshot(*followers):
    active = run("active", RunPhase.RUNNING, started_s=1000.0)
    queue = QueueState(
        setting=QueueSetting(name="q", priority=1), active=(active,), waiting=(run("waits", RunPhase.WAITING),)
    )
    return Snapshot(
        at_s=1000.0,
        pool=PoolSetting(name="p", limit=1),
        queues=(queue,),
        prices=Prices(slot_usd_per_hour=3.6),
        followers=followers,
    )


def test_followers_run_behind_their_upstreams_and_weigh_on_them_before():
    due = run("report", RunPhase.UPCOMING, due_s=1400.0, late_usd_per_hour=36.0)
    now = snapshot(
        Follower(run=run("clean", RunPhase.UPCOMING), after=("active", "waits")),
        Follower(run=due, after=("clean",)),
        Follower(run=run("elsewhere", RunPhase.UPCOMING, queue="other pool"), after=("waits",)),
        Follower(run=run("orphan", RunPhase.UPCOMING), after=("gone",)),
    )
    pool = PoolSpec(queues=(now.queues[0].setting,), limit=1, prices=now.prices, poll_s=0.0, startup_s=0.0)
    twin = sample_futures(now, pool, np.random.default_rng(0), futures=2, horizon_s=600.0).twin
    twin.advance(1000.0)
    slow, census = take_census(now), twin.census()
    assert census.queues[0, 0, Q.URGENT_SLACK_S] == slow.queues[0, Q.URGENT_SLACK_S] == 1400.0 - 200.0 - 1000.0 - 100.0
    assert census.queues[0, 0, Q.VALUE_USD_PER_HOUR] == slow.queues[0, Q.VALUE_USD_PER_HOUR] == 18.0
    assert slow.pool[P.FOLLOWING_WORK_S] == 300.0  # with the orphan, which no future can bring
    assert census.pool[0, P.FOLLOWING_WORK_S] == 200.0
    twin.advance(1250.0)
    later = twin.census()
    assert (later.queues[:, 0, Q.WAITING] + later.queues[:, 0, Q.ACTIVE] == 1).all()  # clean
    assert (later.pool[:, P.FOLLOWING_WORK_S] == 100.0).all()
    twin.advance(2000.0)
    assert (twin.state.runs["phase"][:, :4] == COMPLETED).all()
    np.testing.assert_allclose(twin.state.totals["lateness_usd"], 0.0, atol=0.01)  # durations are drawn within 0.1 %


def test_active_runs_are_on_workers_that_poll_their_queue_and_take_their_room():
    setting = QueueSetting(name="q", priority=1)
    waiting = tuple(run(f"waits-{number}", RunPhase.WAITING) for number in range(3))
    active = tuple(run(f"active-{number}", RunPhase.RUNNING, started_s=1000.0) for number in range(2))
    now = Snapshot(
        at_s=1000.0,
        pool=PoolSetting(name="p", limit=9),
        queues=(
            QueueState(setting=setting, active=active, waiting=waiting),
            QueueState(setting=QueueSetting(name="r", priority=2)),
        ),
        prices=Prices(slot_usd_per_hour=3.6),
    )
    pool = PoolSpec(
        queues=(setting, QueueSetting(name="r", priority=2)),
        workers=(
            WorkerSpec(name="other", queues=("r",)),
            WorkerSpec(name="one", limit=2),
            WorkerSpec(name="two", limit=1),
        ),
        poll_s=0.0,
        startup_s=0.0,
    )
    twin = sample_futures(now, pool, np.random.default_rng(0), futures=2, horizon_s=600.0).twin
    assert twin.state.workers["active"].tolist() == [[0, 2, 0], [0, 2, 0]]
    twin.advance(1050.0)
    assert twin.state.workers["active"].tolist() == [[0, 2, 1], [0, 2, 1]]  # one of three had room
    twin.advance(1500.0)
    assert (twin.state.runs["phase"][:, :5] == COMPLETED).all()


def scaled(*active, waiting=(), limit=9, **more):
    """A snapshot of a pool whose autoscaler buys nodes for claimed runs, and the pool."""
    setting = QueueSetting(name="q", priority=1)
    now = Snapshot(
        at_s=1000.0,
        pool=PoolSetting(name="p", limit=limit),
        queues=(QueueState(setting=setting, active=active, waiting=waiting),),
        prices=Prices(slot_usd_per_hour=3.6, idle_fraction=1.0),
    )
    values = {"follows_demand": True, "claims_ahead": True, "boot_s": 300.0, "startup_s": 0.0, "poll_s": 0.0} | more
    return now, PoolSpec(queues=(setting,), limit=limit, prices=now.prices, **values)


def test_active_runs_of_an_autoscaled_pool_are_on_nodes_that_are_there():
    active = tuple(run(f"active-{number}", RunPhase.RUNNING, started_s=960.0) for number in range(3))
    now, pool = scaled(*active, waiting=(run("waits", RunPhase.WAITING),), limit=3, node_slots=2, cooldown_s=600.0)
    twin = sample_futures(now, pool, np.random.default_rng(0), futures=2, horizon_s=600.0).twin
    assert twin.state.pools["nodes"].tolist() == [[2], [2]]
    twin.advance(1100.0)
    # The first of them has left its slot after some 60 s, and the waiting run did not have to wait for a boot of 300 s.
    assert (twin.state.runs["started_s"][:, 3] < 1065.0).all()
    assert (twin.state.pools["nodes_ordered"] == 0).all()
    # Two nodes of two slots are paid for, one of the four slots idle at first.
    twin.advance(5000.0)
    assert (twin.state.runs["phase"][:, :4] == COMPLETED).all()
    assert (twin.state.pools["nodes"] == 0).all()


def test_runs_that_are_claimed_ahead_wait_for_the_node_that_boots_for_them():
    began = run("begun", RunPhase.RUNNING, started_s=960.0)
    booting = run("booting", RunPhase.PENDING, started_s=820.0)
    new = run("new", RunPhase.PENDING, started_s=1000.0)
    now, pool = scaled(new, booting, began, cooldown_s=0.0)
    twin = sample_futures(now, pool, np.random.default_rng(0), futures=2, horizon_s=600.0).twin
    assert twin.state.pools["nodes"].tolist() == [[1], [1]]
    assert twin.state.pools["nodes_ordered"].tolist() == [[2], [2]]
    assert twin.state.pools["placed"].tolist() == [[1], [1]]
    twin.advance(5000.0)
    started = twin.state.runs["started_s"][:, :3]
    # The first in line gets the slot that comes free first, after 60 s; the next one the node ordered at 820, which is
    # up at 1120, sooner than the first one ends.
    np.testing.assert_allclose(started[:, 0], 1060.0, atol=1.0)
    np.testing.assert_allclose(started[:, 1], 1120.0, atol=1.0)
    assert (twin.state.runs["phase"][:, :3] == COMPLETED).all()


def test_what_comes_unannounced_comes_as_often_as_of_late_and_to_empty_queues_too():
    """12 in an hour: some 12 in the next one, each like one of those, with their deadlines moved along."""
    seen = tuple(
        replace(run(f"r{number}", RunPhase.UPCOMING, "empty"), deployment=f"d{number % 2}", due_s=1600.0)
        for number in range(12)
    )
    queues = (
        QueueState(setting=QueueSetting(name="empty", priority=1), recent=seen),
        QueueState(setting=QueueSetting(name="never", priority=2)),
    )
    now = Snapshot(at_s=5000.0, pool=PoolSetting(name="p", limit=1), queues=queues, watched_s=3600.0)
    pool = PoolSpec(queues=tuple(queue.setting for queue in queues), limit=1)
    world = sample_futures(now, pool, np.random.default_rng(0), futures=200, horizon_s=3600.0).twin.world
    came = world.settings["arrivals"].mean()
    assert came == pytest.approx(12.0, rel=0.1)
    first = world.runs[world.settings["arrivals"].argmax(), 0]
    assert first["queue"] == 0
    assert first["due_s"] - first["scheduled_s"] == 600.0
    unwatched = replace(now, watched_s=0.0)
    unknown = sample_futures(unwatched, pool, np.random.default_rng(0), futures=2, horizon_s=3600.0)
    assert not unknown.twin.world.settings["arrivals"].any()
