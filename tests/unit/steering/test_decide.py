"""The pure part of a pass: queues of which no due run can start give way."""

from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, QueueState, Run, RunPhase, Snapshot
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.steering.controller_state import ControllerState
from prefect_intelligent.steering.decide import ControllerConfig, decide


def queue(name, priority, *, waiting=0, blocked=0):
    runs = tuple(
        Run(
            id=f"{name}{n}",
            deployment=f"{name}/d",
            queue=name,
            phase=RunPhase.WAITING,
            scheduled_s=1000.0,
            due_s=1010.0,
            late_usd_per_hour=1.0,
            estimate=Estimate(p50_s=10.0, p90_s=20.0),
        )
        for n in range(waiting)
    )
    return QueueState(setting=QueueSetting(name=name, priority=priority), waiting=runs, blocked=blocked)


def changes(policy, *queues, enabled=True):
    snapshot = Snapshot(at_s=2000.0, pool=PoolSetting(name="p", limit=4), queues=queues)
    config = ControllerConfig(policy=parse_policy(policy), rule=parse_policy(policy))
    planned = decide(snapshot, config, ControllerState(), {}, enabled=enabled, age_s=0.0)
    return {(change.queue, change.field): change.after for change in planned.changes}


def test_a_queue_of_which_nothing_can_start_goes_behind_those_of_which_something_can():
    dear, cheap = queue("dear", 10, blocked=29), queue("cheap", 20, waiting=3)
    moved = changes("atc", cheap, dear)
    assert set(moved) <= {("dear", "priority"), ("cheap", "priority")}
    assert moved.get(("cheap", "priority"), 20) < moved.get(("dear", "priority"), 10)


def test_it_stays_where_it_is_in_nobodys_way():
    blocked, empty = queue("dear", 10, blocked=29), queue("idle", 20)
    assert changes("atc", blocked, empty) == {}
    behind = queue("dear", 30, blocked=29)
    assert changes("atc", queue("cheap", 20, waiting=3), behind) == {}
    some = queue("dear", 10, waiting=1, blocked=28)
    assert ("dear", "priority") not in changes("static", queue("cheap", 20, waiting=3), some)


def test_nothing_is_moved_while_steering_is_off():
    dear, cheap = queue("dear", 10, blocked=29), queue("cheap", 20, waiting=3)
    assert changes("atc", cheap, dear, enabled=False) == {}
