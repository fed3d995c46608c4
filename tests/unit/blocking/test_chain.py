"""From facts to reasons: what is said is true of the facts, in the order in which it is to be dealt with."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.analytics.alerts import from_blockers
from prefect_intelligent.blocking.chain import decisive, findings, why_deployment, why_run
from prefect_intelligent.blocking.facts import BlockingFacts, DeploymentFacts, DeploymentLimit, QueueFacts, RunFacts
from prefect_intelligent.blocking.reasons import Reason
from prefect_intelligent.blocking.service import next_poll
from prefect_intelligent.blocking.verdict import WhyVerdict

NOW = 1_800_000_000.0


def run(key, state="SCHEDULED", **more):
    given = {
        "deployment_id": "d",
        "queue_id": "q",
        "expected_s": NOW - 600.0,
        "next_s": NOW - 600.0,
        "state_s": NOW - 600,
    }
    return RunFacts(id=key, name=f"run-{key}", state=state, **(given | more))


def pool(scheduled=(), active=(), deployments=(), queues=(), **more):
    known = deployments or (DeploymentFacts(id="d", name="f/d", pool="p"),)
    there = queues or (QueueFacts(id="q", name="q", priority=5),)
    return BlockingFacts(
        at_s=NOW, name="p", heartbeats_s=(NOW - 10.0,), scheduled=tuple(scheduled), active=tuple(active),
        deployments={one.id: one for one in known}, queues={one.id: one for one in there}, **more,
    )  # fmt: skip


def reasons(facts, key="a"):
    return [blocker.reason for blocker in why_run(facts, {one.id: one for one in facts.scheduled}[key])]


def test_what_lasts_comes_before_what_passes():
    facts = pool([run("a")], [run("b", "RUNNING")], limit=1, paused=True)
    assert reasons(facts) == [Reason.POOL_PAUSED]
    full = replace(
        facts, paused=False, deployments={"d": DeploymentFacts(id="d", name="f/d", limit=DeploymentLimit(limit=0))}
    )
    blockers = why_run(full, full.scheduled[0])
    assert [blocker.reason for blocker in blockers] == [Reason.LIMIT_ZERO, Reason.POOL_LIMIT]
    assert decisive(blockers).reason is Reason.LIMIT_ZERO


def test_runs_are_served_by_priority_then_by_time_within_the_slots():
    queues = (QueueFacts(id="q", name="q", priority=5), QueueFacts(id="r", name="r", priority=1, limit=1))
    runs = [run("late"), run("first", queue_id="r"), run("second", queue_id="r", next_s=NOW - 5.0)]
    facts = pool(runs, queues=queues, limit=2)
    assert next_poll(facts).starts == {"first", "late"}
    assert reasons(facts, "second") == [Reason.BEHIND]
    assert reasons(facts, "first") == [Reason.NEXT_POLL]


def test_a_limit_counts_the_runs_before_this_one():
    limited = DeploymentFacts(id="d", name="f/d", pool="p", limit=DeploymentLimit(limit=2, taken=1), in_flight=1)
    facts = pool([run("a", next_s=NOW - 1.0), run("b"), run("c")], [run("x", "RUNNING")], (limited,))
    (blocker,) = why_run(facts, facts.scheduled[0])
    assert "1 of 2 runs at work, 2 more of it wait before this one" in blocker.what
    assert reasons(facts, "b") == [Reason.NEXT_POLL]


def test_parents_hold_slots_only_while_all_of_them_wait():
    active = [run("x", "RUNNING", children=("a",)), run("y", "RUNNING", children=("x",))]
    facts = pool([run("a")], active, limit=2)
    assert reasons(facts) == [Reason.PARENTS]
    one_works = replace(facts, active=(active[0], run("y", "RUNNING")))
    assert reasons(one_works) == [Reason.POOL_LIMIT]
    elsewhere = replace(facts, active=(active[0], run("y", "RUNNING", children=("in another pool",))))
    assert reasons(elsewhere) == [Reason.POOL_LIMIT]


def test_findings_count_runs_and_leave_out_what_passes():
    facts = pool(
        [run("a"), run("b", expected_s=NOW - 900.0), run("c", expected_s=NOW + 60.0, next_s=NOW + 60.0)], paused=True
    )
    (found,) = findings(facts)
    assert (found.blocker.reason, found.runs, found.since_s) == (Reason.POOL_PAUSED, 2, NOW - 900.0)
    assert findings(pool([run("a")], [run("b", "RUNNING")], limit=1)) == ()


def test_a_fault_is_an_alert_and_a_choice_is_none():
    leaky = DeploymentFacts(id="d", name="f/d", pool="p", limit=DeploymentLimit(limit=1, taken=1))
    facts = replace(pool([run("a")], deployments=(leaky,), paused=True), heartbeats_s=())
    alerts = {alert.key: alert for alert in from_blockers(findings(facts), NOW)}
    assert set(alerts) == {"slots-leaked:f/d", "cannot-start:no_worker p"}
    assert alerts["cannot-start:no_worker p"].severity == "page"
    assert "prefect-intelligent control free-slots f/d" in alerts["slots-leaked:f/d"].summary
    assert from_blockers(findings(replace(facts, scheduled=(run("a", expected_s=NOW - 5.0),))), NOW) == []


def test_a_deployment_without_runs_says_why_none_comes():
    facts = pool(
        deployments=(DeploymentFacts(id="d", name="f/d", pool="p", schedules=1),), services_off=frozenset({"scheduler"})
    )
    nothing, blockers = why_deployment(facts, facts.deployments["d"])
    assert nothing is None
    assert "the server's scheduler is switched off" in blockers[0].what


@pytest.mark.parametrize(
    ("more", "otherwise"),
    [({}, "it starts at about"), ({"paused": True}, "otherwise it does not start")],
)
def test_a_verdict_ends_with_when_it_starts(more, otherwise):
    facts = pool([run("a")], **more)
    verdict = WhyVerdict(
        subject="run", run="a", deployment="f/d", pool="p", queue="q", blockers=why_run(facts, facts.scheduled[0])
    )
    assert verdict.lines[-1].startswith(otherwise)
    assert verdict.to_dict()["never"] == bool(more)


LIMITS = st.none() | st.integers(0, 3)
RUNS = st.lists(st.tuples(st.sampled_from("de"), st.sampled_from("qr"), st.integers(-300, 100)), max_size=6)


@given(RUNS, RUNS, LIMITS, LIMITS, LIMITS, st.booleans(), st.none() | st.integers(0, 2))
def test_nothing_is_said_to_keep_a_run_exactly_if_the_next_poll_starts_it(
    waiting, working, pool_limit, queue_limit, limit, paused, workers
):
    own = sum(one[0] == "d" for one in working)
    limited = None if limit is None else DeploymentLimit(limit=limit, taken=min(limit, own))
    deployments = (
        DeploymentFacts(id="d", name="f/d", pool="p", in_flight=own, limit=limited),
        DeploymentFacts(id="e", name="f/e", pool="p"),
    )
    queues = (
        QueueFacts(id="q", name="q", priority=5, limit=queue_limit),
        QueueFacts(id="r", name="r", priority=1, paused=paused),
    )
    scheduled = [
        run(str(place), deployment_id=one, queue_id=queue, expected_s=NOW + at_s, next_s=NOW + at_s)
        for place, (one, queue, at_s) in enumerate(waiting)
    ]
    active = [
        run(f"x{place}", "RUNNING", deployment_id=one, queue_id=queue) for place, (one, queue, _) in enumerate(working)
    ]
    facts = pool(scheduled, active, deployments, queues, limit=pool_limit, worker_slots=workers)
    starts = next_poll(facts).starts
    for one in scheduled:
        said = [blocker.reason for blocker in why_run(facts, one)]
        assert said
        assert (said == [Reason.NEXT_POLL]) == (one.id in starts)
