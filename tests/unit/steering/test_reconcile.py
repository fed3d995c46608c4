"""One pass of the control loop, on a pool in memory."""

from dataclasses import replace

import numpy as np
import pytest

from prefect_intelligent.domain import Estimate, PoolSetting, QueueSetting, Run, RunPhase
from prefect_intelligent.errors import (
    ConflictError,
    OrchestratorAccessDeniedError,
    OrchestratorUnavailableError,
    StoreError,
)
from prefect_intelligent.policy import Proposal, parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.controller_state import load_state, request_release
from prefect_intelligent.steering.decide import ControllerConfig, LimitBounds
from prefect_intelligent.steering.kill_switch import read_switch, set_switch
from prefect_intelligent.steering.manual_overrides import values_of
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import plan_restoration, restore
from prefect_intelligent.testing.history import switched_on
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator

EDF = parse_policy("edf")
QUICK = GuardSettings(interval_s=0.0, hysteresis=0.0)


class Wants:
    """A policy that wants what it is told to."""

    name = "wants"

    def __init__(self, order=(), limits=None, pool_limit=np.inf):
        self.order, self.limits, self.pool_limit = order, limits or {}, pool_limit

    def propose(self, census):
        names = sorted({"default", "a", "b", "c"})[: len(census.queues)]
        score = np.array([-float(self.order.index(n)) if n in self.order else -99.0 for n in names])
        limit = np.array([float(self.limits.get(n, np.inf)) for n in names])
        return Proposal(score, limit, np.asarray(float(self.pool_limit)))


def config(policy=EDF, **more):
    return ControllerConfig(**{"policy": policy, "rule": EDF, "guard": QUICK, **more})


def run(name, queue, at_s, *, due_in=None, usd=1.0, p50_s=60.0):
    return Run(
        id=name,
        deployment=f"{queue}/d",
        queue=queue,
        phase=RunPhase.UPCOMING,
        scheduled_s=at_s,
        due_s=None if due_in is None else at_s + due_in,
        late_usd_per_hour=usd,
        estimate=Estimate(p50_s=p50_s, p90_s=2 * p50_s),
    )


@pytest.fixture
def pool():
    made = InMemoryOrchestrator(
        [
            QueueSetting(name="a", priority=10),
            QueueSetting(name="b", priority=20),
            QueueSetting(name="c", priority=30, limit=5),
            QueueSetting(name="default", priority=40),
        ],
        pool=PoolSetting(name="pool", limit=2),
    )
    now_s = made.clock.now_s()
    made.submit(run("calm", "a", now_s, due_in=36000), run("urgent", "c", now_s, due_in=120))
    return made


@pytest.fixture
def history():
    return switched_on("pool")


def values(pool):
    return values_of(*pool.settings())


def decide(pool, history, **more):
    pool.clock.sleep(1.0)
    return reconcile(pool, history, pool.clock, config(**more))


def test_the_urgent_queue_is_moved_to_the_front_and_all_is_recorded(pool, history):
    decision = decide(pool, history)
    assert decision.outcome == "applied"
    assert decision.planned == (("c", "priority", 30, 5),)
    assert decision.applied == decision.planned
    assert values(pool)["c", "priority"] == 5
    queue = next(queue for queue in decision.queues if queue.name == "c")
    assert (queue.held.place, queue.permitted.place, queue.applied.place) == (3, 1, 1)
    assert (queue.priority, queue.applied_priority) == (30, 5)
    assert queue.reasons[0] == "1 wait; the most urgent can wait 59 s more at $1 per hour late"
    record = history.latest("decision", "pool")
    assert record["outcome"] == "applied"
    assert record["queues"][2]["name"] == "c"
    assert pool.events[-1][0] == "decision"
    assert [queue["name"] for queue in pool.events[-1][1]["queues"]] == ["c"]


def test_prefects_own_policy_lets_queues_go_on_sharing_a_priority(history):
    queues = [QueueSetting(name=name, priority=1) for name in ("a", "b", "default")]
    shared = InMemoryOrchestrator(queues, pool=PoolSetting(name="pool", limit=2))
    shared.submit(run("late", "b", shared.clock.now_s(), due_in=10))
    assert decide(shared, history, policy=parse_policy("prefect-default")).planned == ()
    assert decide(shared, history, policy=EDF).planned != ()


def test_a_second_pass_writes_nothing_and_says_so(pool, history):
    decide(pool, history)
    assert decide(pool, history).outcome == "unchanged"
    assert pool.faults.calls.count("write") == 1


@pytest.mark.parametrize(("mode", "events"), [("shadow", 0), ("advise", 1)])
def test_shadow_and_advise_plan_and_record_but_write_nothing(pool, history, mode, events):
    before = values(pool)
    decision = decide(pool, history, mode=mode)
    assert decision.outcome == "recorded"
    assert decision.planned
    assert decision.applied == ()
    assert values(pool) == before
    assert "apply" not in pool.faults.calls
    assert len(pool.events) == events
    assert read_baseline(history, "pool") == {}


def test_originals_are_saved_before_the_first_write_and_restored_exactly(pool, history):
    before = values(pool)
    decide(pool, history, policy=Wants(order=("c", "b"), limits={"a": 3, "c": 2}, pool_limit=1))
    assert values(pool) != before
    restore(pool, history, pool.clock, by="test")
    assert values(pool) == before
    assert before["a", "limit"] is None
    assert read_switch(history, "pool") == "unset"


def test_restoring_twice_changes_nothing_and_restoring_nothing_is_fine(pool, history):
    assert restore(pool, history, pool.clock, by="test").changes == ()
    decide_again = config()
    set_switch(history, "pool", "on", 0.0, "test")
    reconcile(pool, history, pool.clock, decide_again)
    assert len(restore(pool, history, pool.clock, by="test").changes) == 1
    writes = pool.faults.calls.count("write")
    assert restore(pool, history, pool.clock, by="test").changes == ()
    assert pool.faults.calls.count("write") == writes


def test_a_restore_that_is_refused_for_a_moment_is_tried_again(pool, history):
    before = values(pool)
    decide(pool, history)
    pool.faults.fail(OrchestratorUnavailableError("503"), on="write", times=2)
    restore(pool, history, pool.clock, by="test")
    assert values(pool) == before


def test_a_restore_that_is_refused_for_long_can_be_run_again(pool, history):
    before = values(pool)
    decide(pool, history)
    pool.faults.fail(OrchestratorUnavailableError("503"), on="write", times=5)
    with pytest.raises(OrchestratorUnavailableError, match="1 of 1 values could not be put back"):
        restore(pool, history, pool.clock, by="test")
    restore(pool, history, pool.clock, by="test")
    assert values(pool) == before


def test_a_pass_after_a_restore_does_not_take_it_for_a_persons_edit(pool, history):
    decide(pool, history)
    restore(pool, history, pool.clock, by="test")
    assert decide(pool, history).outcome == "off"
    set_switch(history, "pool", "on", 0.0, "test")
    decision = decide(pool, history)
    assert decision.outcome == "applied"
    assert not any("set by a person" in reason for queue in decision.queues for reason in queue.reasons)


def test_a_value_that_a_person_sets_is_left_alone_until_the_hold_ends(pool, history):
    decide(pool, history)
    pool.edit("c", lambda queue: replace(queue, priority=500))
    decision = decide(pool, history)
    assert decision.outcome == "unchanged"
    assert any("priority of queue 'c' was set by a person to 500" in r for r in decision.queues[-1].reasons)
    assert values(pool)["c", "priority"] == 500
    pool.clock.sleep(86_400)
    pool.submit(run("again", "c", pool.clock.now_s(), due_in=120))
    assert decide(pool, history).outcome == "applied"
    assert values(pool)["c", "priority"] < 10


def test_restore_goes_back_to_what_a_person_set_last(pool, history):
    before = values(pool)
    decide(pool, history, policy=Wants(order=("c",), limits={"a": 3, "c": 5}))
    pool.edit("a", lambda queue: replace(queue, limit=7))
    decide(pool, history, policy=Wants(order=("c",), limits={"a": 3, "c": 5}))
    assert values(pool)["a", "limit"] == 7
    restore(pool, history, pool.clock, by="test")
    assert values(pool) == before | {("a", "limit"): 7}


def test_an_edit_that_is_taken_back_is_forgotten(pool, history):
    before = values(pool)
    wants = Wants(order=("c",), limits={"a": 3, "c": 5})
    decide(pool, history, policy=wants)
    pool.edit("a", lambda queue: replace(queue, limit=7))
    decide(pool, history, policy=wants)
    pool.edit("a", lambda queue: replace(queue, limit=3))
    decision = decide(pool, history, policy=Wants(order=("c",), limits={"a": 2, "c": 5}))
    assert ("a", "limit", 3, 2) in decision.applied
    restore(pool, history, pool.clock, by="test")
    assert values(pool) == before


def test_release_ends_a_hold_at_once(pool, history):
    decide(pool, history)
    pool.edit("c", lambda queue: replace(queue, priority=500))
    decide(pool, history)
    request_release(history, "pool", ["b"], 0.0)
    assert decide(pool, history).outcome == "unchanged"
    request_release(history, "pool", ["c"], 0.0)
    assert decide(pool, history).outcome == "applied"


def test_a_pinned_queue_keeps_its_number_while_others_move(pool, history):
    decide(pool, history)
    pool.edit("b", lambda queue: replace(queue, priority=7))
    decide(pool, history, policy=Wants(order=("default", "c", "a", "b")))
    assert values(pool)["b", "priority"] == 7


def test_a_pause_by_hand_is_never_touched(pool, history):
    pool.edit("c", lambda queue: replace(queue, paused=True))
    pool.edit("b", lambda queue: replace(queue, limit=0))
    decide(pool, history, policy=Wants(order=("c", "b"), limits={"b": 4, "c": 4}))
    assert values(pool)["b", "limit"] == 0
    assert pool.settings()[1][2].paused


def test_the_switch_stops_every_write(pool, history):
    before = values(pool)
    set_switch(history, "pool", "off", 0.0, "test")
    decision = decide(pool, history)
    assert decision.outcome == "off"
    assert values(pool) == before
    set_switch(history, "pool", "on", 0.0, "test")
    assert decide(pool, history).outcome == "applied"


def test_a_policy_that_raises_is_replaced_by_the_rule(pool, history):
    class Broken:
        name = "broken"

        def propose(self, census):
            raise RuntimeError("no weights")

    decision = decide(pool, history, policy=Broken())
    assert decision.applied == (("c", "priority", 30, 5),)
    assert decision.reasons[0] == "policy 'broken' failed: RuntimeError: no weights"
    assert all(queue.wanted is None for queue in decision.queues)


def test_a_policy_that_proposes_nonsense_is_replaced_by_the_rule(pool, history):
    class Nonsense:
        name = "nonsense"

        def propose(self, census):
            return Proposal(census.queues[:, 0] * np.nan, census.queues[:, 0], np.asarray(-3.0))

    decision = decide(pool, history, policy=Nonsense())
    assert decision.applied == (("c", "priority", 30, 5),)
    assert decision.reasons[0] == "policy 'nonsense' proposed a value that is no number"


def test_the_pool_never_gets_more_than_people_gave_it_unless_a_bound_says_so(pool, history):
    greedy = Wants(pool_limit=100)
    assert decide(pool, history, policy=greedy).pool_limit.permitted == 2
    decision = decide(pool, history, policy=greedy, pool_bounds=LimitBounds(least=1, most=4))
    assert decision.pool_limit.applied == 4
    assert decide(pool, history, policy=greedy).pool_limit.permitted == 2


def test_bounds_of_a_queue_are_kept(pool, history):
    wants = Wants(limits={"a": 50, "b": 50, "c": 50, "default": 50})
    decision = decide(pool, history, policy=wants, queue_bounds={"c": LimitBounds(least=2, most=3)})
    assert {queue.name: queue.applied.limit for queue in decision.queues}["c"] == 3


def test_an_apply_that_is_cut_short_is_finished_by_the_next_pass(pool, history):
    wants = Wants(order=("c", "b", "a"), limits={"a": 3})
    pool.faults.fail(OrchestratorUnavailableError("503"), on="write")
    first = decide(pool, history, policy=wants)
    assert first.applied == ()
    assert "not written, left for the next pass" in first.reasons[-1]
    second = decide(pool, history, policy=wants)
    assert second.applied == second.planned == first.planned


def test_a_write_that_was_made_but_not_confirmed_is_not_taken_for_a_persons(pool, history):
    lost = OrchestratorUnavailableError("the answer never came")
    write = pool.apply

    def apply_and_lose_the_answer(changes, **more):
        write(changes)
        raise lost

    pool.apply = apply_and_lose_the_answer
    decision = decide(pool, history)
    assert decision.reasons[-1] == "the changes could not be written: the answer never came"
    pool.apply = write
    assert decide(pool, history).outcome == "unchanged"
    assert not history.latest("decision", "pool")["memory"]["standing"]["holds"]


def test_a_write_that_is_denied_is_told_with_the_setting_to_look_at(pool, history):
    pool.faults.fail(OrchestratorAccessDeniedError("PATCH /work_queues/1: Prefect answered 403"), on="write")
    decision = decide(pool, history)
    assert decision.applied == ()
    assert "check PREFECT_API_KEY" in decision.reasons[-1]
    assert not load_state(history, "pool").known.overrides
    assert decide(pool, history).applied == decision.planned


def test_nothing_is_written_when_the_history_cannot_be_used(pool, history):
    before = values(pool)
    history.broken = True
    with pytest.raises(StoreError):
        decide(pool, history)
    assert values(pool) == before


def test_nothing_is_written_when_the_history_breaks_just_before_the_write(pool, history):
    before = values(pool)
    pool.faults.meanwhile(lambda: setattr(history, "broken", True), on="observe")
    with pytest.raises(StoreError):
        decide(pool, history)
    assert values(pool) == before


def test_a_pool_that_cannot_be_observed_is_left_alone(pool, history):
    before = values(pool)
    pool.faults.fail(OrchestratorUnavailableError("no route"), on="observe")
    with pytest.raises(OrchestratorUnavailableError):
        decide(pool, history)
    assert values(pool) == before
    assert decide(pool, history).outcome == "applied"


def test_restoration_says_which_queues_have_gone(pool, history):
    decide(pool, history)
    pool.remove_queue("c")
    found = plan_restoration(pool, history)
    assert found.gone == ("c",)
    assert found.changes == ()
    restore(pool, history, pool.clock, by="test")


def test_an_observation_that_is_too_old_is_not_acted_on(pool, history):
    observe = pool.observe

    def observe_slowly():
        snapshot = observe()
        pool.clock.sleep(1000)
        return snapshot

    pool.observe = observe_slowly
    decision = decide(pool, history, policy=Wants(order=("b",)), rule=parse_policy("fifo"))
    assert any("older than its time to live" in reason for reason in decision.pool_limit.reasons)


def test_only_what_was_written_waits_for_the_guards_interval(pool, history):
    slow = replace(QUICK, interval_s=600.0)
    wants = Wants(order=("c", "b", "a"), limits={"a": 3})
    for _ in range(2):
        shadow = decide(pool, history, policy=wants, guard=slow, mode="shadow")
        assert len(shadow.planned) == 4
    pool.faults.fail(OrchestratorUnavailableError("503"), on="write")
    assert decide(pool, history, policy=wants, guard=slow).applied == ()
    assert decide(pool, history, policy=wants, guard=slow).applied == shadow.planned
    turned = Wants(order=("a", "b", "c"), limits={"a": 5})
    assert decide(pool, history, policy=turned, guard=slow).planned == ()
    pool.clock.sleep(600)
    assert decide(pool, history, policy=turned, guard=slow).applied


def test_an_edit_of_a_limit_that_was_never_written_is_kept_without_a_delay(pool, history):
    decide(pool, history)
    pool.edit("c", lambda queue: replace(queue, limit=9))
    decide(pool, history)
    edited = [record for record in history.records("original", "pool") if record["what"] == "edited"]
    assert [record["values"] for record in edited] == [[["c", "limit", 9]]]
    assert edited[0]["delays_s"] == []


@pytest.mark.parametrize("asked", range(1, 5))
def test_a_pass_that_has_lost_the_lead_writes_no_more_and_leaves_no_decision(pool, history, asked):
    left = iter([True] * (asked - 1))
    wanted = config(Wants(order=("c", "b", "a")))
    with pytest.raises(ConflictError, match="lapsed during the pass"):
        reconcile(pool, history, pool.clock, wanted, leads=lambda: next(left, False))
    assert pool.faults.calls.count("write") == max(0, asked - 3)
    assert history.latest("decision", "pool") is None
    assert decide(pool, history, policy=wanted.policy).outcome == "applied"
    assert not load_state(history, "pool").known.overrides
