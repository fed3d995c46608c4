"""What a pool can use: never more than the limits let start, never less than what runs."""

from dataclasses import replace

import pytest

from prefect_intelligent.capacity.desired_slots import desired_slots
from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, QueueState, Run, RunPhase, Snapshot

NOW = 1_000.0


def queue(name="a", *, waiting=0, active=0, soon=(), limit=None, paused=False, beyond=0, blocked=0):
    def runs(phase, count, at_s=NOW):
        about = {"deployment": "f/d", "queue": name, "estimate": Estimate(p50_s=60.0, p90_s=90.0)}
        return tuple(Run(id=f"{phase}-{n}", phase=phase, scheduled_s=at_s, **about) for n in range(count))

    return QueueState(
        setting=QueueSetting(name=name, priority=1, limit=limit, paused=paused),
        waiting=runs(RunPhase.WAITING, waiting),
        active=runs(RunPhase.RUNNING, active),
        upcoming=tuple(run for in_s in soon for run in runs(RunPhase.UPCOMING, 1, NOW + in_s)),
        beyond=beyond,
        blocked=blocked,
    )


def snapshot(*queues, paused=False):
    return Snapshot(at_s=NOW, pool=PoolSetting(name="p", paused=paused), queues=queues)


@pytest.mark.parametrize(
    ("queues", "limit", "wanted"),
    [
        ((queue(),), 8, 0),
        ((queue(waiting=3, active=2),), 8, 5),
        ((queue(waiting=30, active=2),), 8, 8),
        ((queue(waiting=30, active=2),), None, 32),
        ((queue(waiting=2, beyond=500),), None, 502),
        ((queue(waiting=3, blocked=40),), 8, 3),
        ((queue(waiting=9, limit=2), queue("b", waiting=1)), 8, 3),
        ((queue(waiting=9, active=4, limit=2),), 8, 4),  # a limit that has fallen takes no slot from a run
        ((queue(active=6),), 2, 6),
        ((queue(waiting=9, active=1, paused=True), queue("b", waiting=1)), 8, 2),
        ((queue(waiting=9),), 0, 0),
    ],
)
def test_what_is_wanted(queues, limit, wanted):
    assert desired_slots(snapshot(*queues), pool_limit=limit) == wanted


def test_a_paused_pool_keeps_what_runs():
    assert desired_slots(snapshot(queue(waiting=5, active=2), paused=True), pool_limit=8) == 2


def test_what_is_due_before_new_capacity_is_there_counts():
    found = snapshot(queue(waiting=1, soon=(10.0, 50.0, 300.0)))
    assert [desired_slots(found, pool_limit=8, soon_s=soon_s) for soon_s in (0.0, 50.0, 400.0)] == [1, 3, 4]


def test_limits_that_have_just_been_written_count_and_not_those_of_the_snapshot():
    found = snapshot(queue(waiting=9, limit=2))
    assert desired_slots(found, pool_limit=8, queue_limits={"a": 5}) == 5
    assert desired_slots(replace(found, at_s=NOW), pool_limit=8, queue_limits={"a": None}) == 8
