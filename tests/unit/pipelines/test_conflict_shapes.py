"""Conflicts in other shapes than the planted ones, and near misses that are none."""

from dataclasses import replace

import pytest

from prefect_intelligent.domain import Estimate
from prefect_intelligent.pipelines.conflicts import find_conflicts
from prefect_intelligent.pipelines.conflicts.schema_contracts import parameter_errors
from prefect_intelligent.pipelines.deployments import DeploymentCall, DeploymentNode, Inventory, PoolFacts, Schedule
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, build_graph, find_cycles
from tests.planted import AT_S, added, changed, clean_nodes, daily, make, node

SHORT = Estimate(p50_s=300.0, p90_s=310.0)


def findings(nodes, calls=(), *, rule, **more):
    return [f for f in find_conflicts(*make(nodes, tuple(calls), **more)) if f.rule == rule]


def pair(writes, reads, estimate=SHORT):
    """A producer and a reader with these schedules."""
    nodes = (
        node("a/p", (), ("x",), schedules=writes, estimate=estimate),
        node("b/p", ("x",), (), schedules=reads, estimate=estimate),
    )
    return {item.name: item for item in nodes}


def cron(line, zone="UTC"):
    return (Schedule(cron=line, zone=zone),)


@pytest.mark.parametrize(
    ("writes", "reads", "early"),
    [
        (cron("0 2 * * 0"), cron("1 2 * * 0"), True),  # weekly, and today is a Thursday
        (cron("0 2 1 * *"), cron("1 2 1 * *"), True),  # monthly
        (cron("0 2 * * 0"), cron("0 3 * * 0"), False),
        (cron("0 2 * * *"), cron("0 22 * * *"), False),  # the evening's report of the night's data
        (cron("0 20 * * *"), cron("0 3 * * *"), False),
        (cron("0 5 * * *"), cron("30 0 * * *"), True),  # reads in the night what comes in the morning
        (cron("*/5 * * * *"), cron("0 6 * * *"), False),  # a stream is always busy
        (cron("0 2 * * *"), cron("*/10 * * * *"), False),  # takes what is there
        (cron("0 */6 * * *"), cron("1 6 * * *"), True),
        (cron("0 3 * * *", "Europe/Paris"), cron("1 2 * * *"), True),  # the same instant in winter
        (cron("0 2 * * *"), (Schedule(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=1;BYSECOND=0"),), True),
        (cron("0 2 * * *"), (Schedule(every_s=86_400.0, anchor_s=AT_S + 7_260.0),), True),
    ],
)
def test_a_reader_is_too_early_whatever_the_schedules_look_like(writes, reads, early):
    assert bool(findings(pair(writes, reads), rule="reads-too-early")) is early


def test_a_reader_is_too_early_for_a_producer_that_something_scheduled_leads_to():
    nodes = pair((), daily(2, 8))
    nodes["root/p"] = node("root/p", (), ("raw",), schedules=daily(2), estimate=SHORT)
    nodes["a/p"] = node("a/p", ("raw",), ("x",), estimate=SHORT)
    (finding,) = findings(nodes, rule="reads-too-early")
    assert "a/p, which runs after root/p" in finding.evidence
    assert finding.fix.value == 180.0  # 300 s and 300 s with a p95 of some ten minutes, from 02:00 on
    nodes["b/p"] = replace(nodes["b/p"], schedules=daily(2, 11))
    assert findings(nodes, rule="reads-too-early") == []


@pytest.mark.parametrize(
    ("one", "other", "twice"),
    [
        (cron("0 2 * * *"), cron("00 02 * * *"), True),
        (cron("0 2 * * *"), (Schedule(every_s=86_400.0, anchor_s=7_200.0),), True),
        (cron("0 2 * * *"), cron("0 2 * * 1-5"), True),  # on weekdays both start it
        (cron("0 2 * * *", "Etc/UTC"), cron("0 2 * * *"), True),
        (cron("0 2 * * 1-5"), cron("0 2 * * 6,0"), False),
        (cron("0 2 * * *"), cron("0 14 * * *"), False),
        (cron("0 2 * * *"), (Schedule(cron="0 2 * * *", parameters={"batch": "other"}),), False),
        (cron("0 2 * * *"), (Schedule(cron="0 2 * * *", parameters={"batch": "2026-01-01"}),), True),  # the default
        (cron("0 2 * * *"), (Schedule(cron="0 2 * * *", active=False),), False),
    ],
)
def test_schedules_are_duplicates_by_what_they_start_not_by_how_they_are_written(one, other, twice):
    nodes = changed("ingest/flights", schedules=(*one, *other))
    assert bool(findings(nodes, rule="duplicate-schedule")) is twice


def test_the_same_flow_in_production_and_staging_is_no_duplicate():
    twin = replace(clean_nodes()["ingest/flights"], name="ingest/staging")
    for more in ({"pool": "staging"}, {"job_variables": {"env": {"STAGE": "test"}}}):
        assert findings(added(replace(twin, **more)), rule="duplicate-schedule") == []


def test_a_limit_of_one_keeps_writers_apart():
    nodes = changed("ingest/weather", schedules=(Schedule(every_s=600.0),), estimate=Estimate(p50_s=900, p90_s=950))
    assert findings(nodes, rule="overlapping-writers")
    assert findings(nodes, rule="overlapping-writers", limit=1) == []
    two = added(node("fix/flights", (), ("flights",), schedules=daily(3, 1)))
    assert findings(two, rule="overlapping-writers")
    assert findings(two, rule="overlapping-writers", limit=1) == []


def deadlock(*nodes, calls, limit=2, queue_limits=None, others=()):
    """Whether these calls may come to a standstill."""
    pool = PoolFacts(name="pool", limit=limit, priorities={"low": 1, "high": 2}, queue_limits=queue_limits or {})
    pools = {"pool": pool, "other": PoolFacts(name="other", limit=2)}
    found = {item.name: item for item in (*nodes, *others)}
    edges = [Edge(call.caller, call.callee, "calls", (EdgeEvidence("source"),)) for call in calls]
    inventory = Inventory(nodes=found, pools=pools, calls=tuple(calls), at_s=AT_S)
    return any(f.rule == "slot-deadlock" for f in find_conflicts(build_graph(edges, found), inventory))


def test_waiting_is_passed_on_through_another_pool():
    here, there, again = node("a/p"), replace(node("b/p"), pool="other"), node("c/p")
    calls = [DeploymentCall(caller="a/p", callee="b/p", parameters={"batch": "x"})]
    assert not deadlock(here, there, again, calls=calls)
    calls.append(DeploymentCall(caller="b/p", callee="c/p", parameters={"batch": "x"}))
    assert deadlock(here, there, again, calls=calls)


def test_parents_kept_to_a_few_slots_by_their_queue_or_their_schedule_do_not_deadlock():
    parent, child = node("a/p", queue="high"), node("b/p")
    calls = [DeploymentCall(caller="a/p", callee="b/p", parameters={"batch": "x"})]
    assert deadlock(parent, child, calls=calls)
    assert not deadlock(parent, child, calls=calls, queue_limits={"high": 1})
    assert not deadlock(replace(parent, schedules=daily(2)), child, calls=calls)  # one a day
    assert deadlock(replace(parent, schedules=cron("0 * * * *")), child, calls=calls)  # after a day's outage


def test_work_that_is_not_every_day_counts_on_its_day():
    big = node("big/p", schedules=cron("0 3 * * 0"), estimate=Estimate(p50_s=86_400.0, p90_s=86_401.0))
    nodes = {f"big{i}/p": replace(big, name=f"big{i}/p") for i in range(5)}
    (finding,) = findings(nodes, rule="over-capacity")  # a Thursday: not within two days
    assert "120.0 slot-hours scheduled a day, 96 there" in finding.evidence


def test_what_schedules_lead_to_is_work_and_has_an_arrival_rate():
    parent = node("a/p", schedules=(Schedule(every_s=200.0),), estimate=Estimate(p50_s=1.0, p90_s=1.1))
    child = node("b/p", estimate=Estimate(p50_s=300.0, p90_s=301.0), limit=1)
    nodes = {item.name: item for item in (parent, child)}
    calls = [DeploymentCall(caller="a/p", callee="b/p", waits=False, parameters={"batch": "x"})]
    assert findings(nodes, calls, rule="limit-too-low")
    assert findings(nodes, calls, rule="over-capacity", limit=1)
    assert not findings(nodes, rule="limit-too-low")


def test_a_limit_of_nothing_is_too_low_and_no_crash():
    assert findings(changed("report/prod", limit=0), rule="limit-too-low")


def test_a_cheap_deployment_far_above_a_dear_one_is_inverted_and_its_peers_are_not():
    nodes = changed("report/prod", {"late_usd_per_hour": 900.0}, queue="high")
    found = {f.fix.deployment for f in findings(nodes, rule="priority-inversion")}
    assert found == {"ingest/flights", "ingest/weather", "clean/prod", "join/prod"}
    assert findings(changed("report/prod", {"late_usd_per_hour": 900.0}), rule="priority-inversion") == []
    cheap = changed("report/prod", {"late_usd_per_hour": 10.0}, queue="high")
    assert findings(cheap, rule="priority-inversion") == []


def test_a_child_that_starts_its_parent_again_is_a_cycle():
    declared = (EdgeEvidence("source"),)
    calls, back = Edge("a/p", "b/p", "calls", declared), Edge("b/p", "a/p", "triggers", declared)
    assert find_cycles(build_graph([calls, back])) == [["a/p", "b/p", "a/p"]]
    assert (
        find_cycles(build_graph([calls, Edge("b/p", "x", "writes", declared), Edge("x", "a/p", "reads", declared)]))
        == []
    )


def test_a_missing_producer_says_which_name_was_meant():
    (finding,) = findings(changed("report/prod", {"inputs": ("flight_wether",)}), rule="missing-producer")
    assert "did you mean flight_weather" in finding.advice


def test_a_call_with_a_name_that_is_gone_is_found_though_its_value_is_not_known():
    call = DeploymentCall(caller="clean/prod", callee="report/prod", waits=False, parameters={}, unknown=("dya",))
    (finding,) = findings(clean_nodes(), (call,), rule="parameter-break")
    assert "there is no parameter dya" in finding.evidence
    assert findings(clean_nodes(), (replace(call, unknown=("batch",)),), rule="parameter-break") == []


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3, "three"),
        ({"type": "string", "enum": ["x", "y"]}, "x", "z"),
        ({"type": "string", "format": "date"}, "2026-01-01", "tomorrow"),
        ({"type": "array", "items": {"type": "integer"}}, [1], ["one"]),
        ({"$ref": "#/definitions/Point"}, {"x": 1}, {"y": 1}),
        ({"type": "integer", "minimum": 1}, 2, 0),
        ({"type": "integer"}, 2.0, 2.5),
        ({"type": "number"}, 2, "2"),
    ],
)
def test_values_are_checked_as_json_schema_says(wanted, good, bad):
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    schema = {"properties": {"v": wanted}, "definitions": {"Point": point}}
    assert parameter_errors(schema, {"v": good}, complete=True) == []
    assert len(parameter_errors(schema, {"v": bad}, complete=True)) == 1
    template = {"__prefect_kind": "jinja", "template": "{{ x }}"}
    assert parameter_errors(schema, {"v": template}, complete=True) == []


def test_a_clean_project_of_another_shape_has_no_finding():
    """Staging beside production, an hourly stream, a weekly report, a parent in another pool than its child."""
    nodes = {
        item.name: item
        for item in (
            DeploymentNode(name="load/p", pool="pool", schedules=cron("*/10 * * * *"), estimate=SHORT, limit=1),
            DeploymentNode(name="load/s", pool="staging", schedules=cron("*/10 * * * *"), estimate=SHORT, limit=1),
            DeploymentNode(name="week/p", pool="pool", schedules=cron("0 6 * * 1"), estimate=SHORT),
            DeploymentNode(name="parent/p", pool="staging", schedules=cron("0 1 * * *"), estimate=SHORT),
            DeploymentNode(name="child/p", pool="pool", estimate=SHORT),
        )
    }
    edges = [Edge("load/p", "events", "writes", (EdgeEvidence("declared"),))]
    edges += [Edge("events", "week/p", "reads", (EdgeEvidence("declared"),))]
    edges += [Edge("parent/p", "child/p", "calls", (EdgeEvidence("source"),))]
    pools = {name: PoolFacts(name=name, limit=2, priorities={}) for name in ("pool", "staging")}
    calls = (DeploymentCall(caller="parent/p", callee="child/p", parameters={}),)
    assert find_conflicts(build_graph(edges, nodes), Inventory(nodes=nodes, pools=pools, calls=calls, at_s=AT_S)) == []
