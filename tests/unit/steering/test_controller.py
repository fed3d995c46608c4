"""The loop: who leads, what follows a failure, and how it ends."""

import copy
import itertools
import random

import pytest

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.domain.backoff import SYSTEM_RANDOM
from prefect_intelligent.errors import OrchestratorAccessDeniedError, OrchestratorUnavailableError, StoreError
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.steering.controller import run_loop
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.lease import InMemoryLease, LeaseBoard
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator


class Quiet:
    """Signals that fire at the given waits and let the clock run otherwise."""

    def __init__(self, clock, fires=()):
        self.clock, self.fires, self.waits = clock, set(fires), itertools.count()

    def wait(self, timeout_s):
        if next(self.waits) in self.fires:
            return True
        self.clock.sleep(timeout_s)
        return False

    def close(self):
        pass


@pytest.fixture
def clock():
    return ManualClock(at_s=0.0)


class Longest(random.Random):
    """Draws no jitter: every pause is the longest that it may be."""

    def random(self):
        return 1.0


def turns(clock, steer, *, lease=None, fires=(), until_s=100.0, once=False, interval_s=20.0, rng=SYSTEM_RANDOM):
    """Instant and outcome of every turn until the clock says `until_s`."""
    told = []
    run_loop(
        steer,
        Leadership(lease or InMemoryLease(LeaseBoard(clock), "me")),
        Quiet(clock, fires),
        clock,
        interval_s=interval_s,
        stopped=lambda: clock.now_s() >= until_s,
        tell=lambda moment: told.append((clock.now_s(), moment.what)),
        once=once,
        rng=rng,
    )
    return told


def test_without_signals_there_is_a_pass_per_interval(clock):
    assert turns(clock, lambda: None, until_s=60.0) == [(0.0, "decided"), (20.0, "decided"), (40.0, "decided")]


def test_a_signal_brings_the_next_pass_forward_but_not_closer_than_a_quarter(clock):
    told = turns(clock, lambda: None, fires=[0, 1], until_s=40.0)
    assert [at for at, _ in told] == [0.0, 5.0, 10.0, 30.0]


def test_failures_are_retried_with_growing_pauses_up_to_the_interval(clock):
    def fail():
        raise OrchestratorUnavailableError("down")

    told = turns(clock, fail, until_s=40.0, rng=Longest())
    assert [at for at, _ in told] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert {what for _, what in told} == {"failed"}


def test_an_outage_of_days_is_outlasted_and_controllers_do_not_return_in_step(clock):
    def fail():
        raise OrchestratorUnavailableError("down")

    one = turns(clock, fail, until_s=3 * 86_400.0, rng=random.Random(1))
    clock.jump(-clock.now_s())
    two = turns(clock, fail, until_s=3 * 86_400.0, rng=random.Random(2))
    assert len(one) > 3 * 86_400 / 20  # far more failures than a float can be doubled
    assert one[:5] != two[:5]


def test_a_denied_pass_is_told_once_and_tried_at_the_pace_of_the_interval(clock):
    denied = OrchestratorAccessDeniedError("POST /x: Prefect answered 401")
    answers = itertools.chain([denied, denied, denied, None, denied], itertools.repeat(None))
    steered, told = [], []

    def steer():
        steered.append(clock.now_s())
        if (answer := next(answers)) is not None:
            raise answer

    run_loop(
        steer,
        Leadership(InMemoryLease(LeaseBoard(clock), "me")),
        Quiet(clock),
        clock,
        interval_s=20.0,
        stopped=lambda: len(steered) == 6,
        tell=lambda event: told.append((event.what, event.permanent, event.repeated)),
        rng=Longest(),
    )
    assert steered[:4] == [0.0, 20.0, 40.0, 60.0]
    assert told == [
        ("failed", True, False),
        ("failed", True, True),
        ("failed", True, True),
        ("decided", False, False),
        ("failed", True, False),
        ("decided", False, False),
    ]


def test_a_broken_history_does_not_end_the_loop(clock):
    answers = iter([StoreError("disk full"), None, None])

    def steer():
        answer = next(answers)
        if answer is not None:
            raise answer

    assert [what for _, what in turns(clock, steer, until_s=30.0)] == ["failed", "decided", "decided"]


def test_only_one_of_two_controllers_steers_and_the_other_takes_over(clock):
    board = LeaseBoard(clock)
    first = Leadership(InMemoryLease(board, "first", ttl_s=60))
    assert first.lead()
    steered = []
    told = turns(clock, lambda: steered.append(1), lease=InMemoryLease(board, "second", ttl_s=60), until_s=100.0)
    assert [at for at, what in told if what == "standing by"] == [5.0 * turn for turn in range(12)]
    assert told[12] == (60.0, "decided")
    assert len(steered) == 2


def test_the_lease_is_given_up_at_the_end(clock):
    board = LeaseBoard(clock)
    turns(clock, lambda: None, lease=InMemoryLease(board, "me"), once=True)
    assert board.holder is None


def test_while_the_lease_cannot_be_reached_nothing_is_decided(clock):
    board = LeaseBoard(clock)
    lease = InMemoryLease(board, "me", ttl_s=60)
    leadership = Leadership(lease)
    assert leadership.lead()
    board.down = True
    steered = []
    assert turns(clock, lambda: steered.append(1), lease=lease, once=True) == [(0.0, "failed")]
    assert not steered
    board.down = False
    assert leadership.lead()
    clock.sleep(100)
    assert leadership.lead()


def test_once_is_once(clock):
    assert len(turns(clock, lambda: None, once=True)) == 1


def test_an_error_that_is_nobodys_fault_but_ours_is_not_hidden(clock):
    board = LeaseBoard(clock)

    def steer():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turns(clock, steer, lease=InMemoryLease(board, "me"))
    assert board.holder is None


@pytest.mark.parametrize("kind", ["decision", "intent"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record["memory"].pop("releases"),
        lambda record: record.pop("memory"),
        lambda record: record["memory"]["standing"].update(pending="?"),
        lambda record: record["memory"]["standing"].pop("values"),
        lambda record: record["memory"]["guard"]["default"].pop("own_limit"),
        lambda record: record.update(field_of_a_newer_version=1),
        lambda record: record["memory"].update(field_of_a_newer_version=1),
        lambda record: record["memory"]["guard"]["default"].update(field_of_a_newer_version=1),
    ],
)
def test_a_record_with_an_unknown_or_a_missing_field_does_not_end_the_controller(clock, kind, damage):
    pool, history = InMemoryOrchestrator([QueueSetting(name="a", priority=9)], clock=clock), InMemoryHistory()
    rule = parse_policy("edf")
    config = ControllerConfig(policy=rule, rule=rule)
    reconcile(pool, history, clock, config)
    record = copy.deepcopy(dict(history.latest("decision", pool.pool)))
    record["memory"]["passes"] += 1
    damage(record)
    history.append(kind, pool.pool, clock.now_s(), record)
    assert [what for _, what in turns(clock, lambda: reconcile(pool, history, clock, config))] == ["decided"] * 5
