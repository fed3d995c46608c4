"""Dedicated queues: what is made, where deployments go, and how it is taken back."""

from dataclasses import replace

import pytest

from prefect_intelligent.domain import Deployment, Estimate, QueueSetting, QueueState, Run, RunPhase, Terms
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption, plan_removal, undo_adoption
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator


def deployment(name, usd, queue="default"):
    return Deployment(name=name, queue=queue, terms=Terms(late_usd_per_hour=usd))


DEPLOYMENTS = (deployment("Load Orders/nightly", 5.0), deployment("report/v2", 50.0), deployment("train/d", 5.0))


@pytest.fixture
def pool():
    made = InMemoryOrchestrator([QueueSetting(name="own", priority=7, limit=3)])
    for each in DEPLOYMENTS:
        made.deploy(each)
    return made


def planned(pool, by):
    return plan_adoption(pool.deployments(), pool.settings()[1], by)


def test_each_deployment_gets_a_queue_behind_all_queues_the_dearest_first(pool):
    adoption = planned(pool, "deployment")
    assert [(queue.name, queue.priority, queue.limit) for queue in adoption.create] == [
        ("pi-report-v2", 17, None),
        ("pi-load-orders-nightly-ae217e8c", 27, None),
        ("pi-train-d", 37, None),
    ]
    assert adoption.assign[0] == ("report/v2", "default", "pi-report-v2")


def test_by_value_equal_prices_share_a_queue(pool):
    adoption = planned(pool, "value")
    assert [queue.name for queue in adoption.create] == ["pi-lane-1", "pi-lane-2"]
    assert {name: queue for name, _, queue in adoption.assign} == {
        "report/v2": "pi-lane-1",
        "Load Orders/nightly": "pi-lane-2",
        "train/d": "pi-lane-2",
    }


def test_by_value_there_are_at_most_five_queues():
    adoption = plan_adoption([deployment(f"f/{n}", float(n)) for n in range(12)], [], "value")
    assert [queue.name for queue in adoption.create] == [f"pi-lane-{n}" for n in range(1, 6)]


def test_adopting_twice_has_nothing_left_to_do(pool):
    history = InMemoryHistory()
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    assert {d.queue for d in pool.deployments()} == {"pi-report-v2", "pi-load-orders-nightly-ae217e8c", "pi-train-d"}
    again = planned(pool, "deployment")
    assert (again.create, again.assign) == ((), ())


def test_restore_undoes_an_adoption(pool):
    before = pool.settings(), pool.deployments()
    history = InMemoryHistory()
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    restore(pool, history, pool.clock, by="test")
    assert (pool.settings(), pool.deployments()) == before
    assert undo_adoption(pool, history, pool.clock) == ()


def test_an_adoption_that_was_cut_off_can_be_finished_or_undone(pool):
    before = pool.settings(), pool.deployments()
    history = InMemoryHistory()
    pool.faults.fail(OrchestratorUnavailableError("503"), on="assign")
    with pytest.raises(OrchestratorUnavailableError):
        adopt(pool, history, pool.clock, planned(pool, "deployment"))
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    assert planned(pool, "deployment").assign == ()
    undo_adoption(pool, history, pool.clock)
    assert (pool.settings(), pool.deployments()) == before


def test_a_queue_that_somebody_else_uses_stays_and_it_is_said_who(pool):
    history = InMemoryHistory()
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    pool.deploy(deployment("new/one", 1.0, queue="pi-train-d"))
    stays = {queue.name: queue.stays for queue in plan_removal(pool, history)}
    assert stays == {
        "pi-load-orders-nightly-ae217e8c": None,
        "pi-report-v2": None,
        "pi-train-d": "new/one was sent to it since",
    }
    assert undo_adoption(pool, history, pool.clock) == ("pi-train-d",)


def test_a_restore_tries_every_step_again(pool):
    before = pool.settings(), pool.deployments()
    history = InMemoryHistory()
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    for step in ("assign", "deployments", "delete_queue", "settings"):
        pool.faults.fail(OrchestratorUnavailableError("503"), on=step)
    restore(pool, history, pool.clock, by="test")
    assert (pool.settings(), pool.deployments()) == before


def test_a_queue_with_runs_stays_and_a_deployment_sent_elsewhere_stays_there(pool):
    history = InMemoryHistory()
    adopt(pool, history, pool.clock, planned(pool, "deployment"))
    pool.assign("train/d", "own")
    pool.submit(
        Run(
            id="r",
            deployment="report/v2",
            queue="pi-report-v2",
            phase=RunPhase.UPCOMING,
            scheduled_s=pool.clock.now_s() + 60,
            estimate=Estimate(p50_s=1.0, p90_s=2.0),
        )
    )
    foreseen = {queue.name: queue.stays for queue in plan_removal(pool, history)}
    assert foreseen == {"pi-load-orders-nightly-ae217e8c": None, "pi-report-v2": None, "pi-train-d": None}
    assert undo_adoption(pool, history, pool.clock) == ("pi-report-v2",)
    (left,) = plan_removal(pool, history)
    assert left.stays == "1 run is in it, and would be deleted with it; run this again when none is left"
    assert {d.name: d.queue for d in pool.deployments()} == {
        "report/v2": "default",
        "Load Orders/nightly": "default",
        "train/d": "own",
    }
    pool.clock.sleep(60)
    pool.advance(10)
    assert undo_adoption(pool, history, pool.clock) == ()
    assert [queue.name for queue in pool.settings()[1]] == ["default", "own"]


def test_a_queue_whose_runs_are_held_is_not_empty():
    state = QueueState(setting=QueueSetting(name="q", priority=1))
    assert state.empty
    assert not replace(state, blocked=1).empty
    assert not replace(state, beyond=1).empty
