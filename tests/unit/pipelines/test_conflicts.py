"""Every planted conflict is found under its own rule id, and the clean project has none."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from prefect_intelligent.domain import Estimate
from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.pipelines.conflicts import RULES, Calendar, find_conflicts, overloaded
from prefect_intelligent.pipelines.conflicts.schema_contracts import parameter_errors, parse_columns, unmet_expectations
from prefect_intelligent.pipelines.conflicts_simulation import overloaded_hours
from prefect_intelligent.pipelines.deployments import ColumnSpec, DeploymentCall, Schedule
from tests.planted import PLANTED, added, changed, clean_nodes, daily, make, node


def found(case):
    return {finding.rule for finding in find_conflicts(*case)}


def test_the_clean_project_has_no_finding():
    assert find_conflicts(*make(clean_nodes())) == []


def test_there_is_a_planted_case_for_every_rule():
    assert set(PLANTED) == set(RULES)
    assert len(RULES) == 12


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_conflict_is_found_and_nothing_else(rule):
    assert found(PLANTED[rule]()) == {rule}


def test_two_scheduled_writers_at_the_same_time_are_both_two_writers_and_overlapping():
    case = make(added(node("fix/flights", (), ("flights",), schedules=daily(3, 5))))
    assert {"two-writers", "overlapping-writers"} <= found(case)


def test_a_reader_shortly_before_its_producer_reads_too_early():
    finding = next(
        f for f in find_conflicts(*make(changed("clean/prod", schedules=daily(1, 30)))) if f.rule == "reads-too-early"
    )
    # 30 minutes to the producer's start and its p95 of 300 * (500/300)**(1.6449/1.2816) = 577.9 s
    assert finding.fix is not None
    assert finding.fix.value == 60 * 40
    assert finding.cost_usd == pytest.approx((1800 + 577.9) / 3600 * 50, rel=1e-3)


def test_equal_schedules_of_twins_are_duplicates_but_other_parameters_are_not():
    twin = replace(clean_nodes()["ingest/flights"], name="ingest/copy")
    twin = replace(twin, terms=replace(twin.terms, inputs=(), outputs=()))
    assert found(make(added(twin))) == {"duplicate-schedule"}
    assert found(make(added(replace(twin, parameters={"batch": "other"})))) == set()


@pytest.mark.parametrize(
    ("timeout_waits", "limit", "deadlock"), [(True, None, True), (False, None, False), (True, 3, False)]
)
def test_a_parent_deadlocks_only_if_it_waits_and_may_take_every_slot(timeout_waits, limit, deadlock):
    call = DeploymentCall(caller="parent/prod", callee="report/prod", waits=timeout_waits, parameters={"batch": "x"})
    assert ("slot-deadlock" in found(make(added(node("parent/prod", limit=limit)), (call,)))) is deadlock


def test_a_call_and_reading_back_what_the_child_wrote_is_no_cycle():
    call = DeploymentCall(caller="clean/prod", callee="ingest/weather", parameters={"batch": "x"}, waits=False)
    nodes = changed("clean/prod", {"inputs": ("raw_flights", "raw_weather")})
    assert "cycle" not in found(make(nodes, (call,)))


def test_over_capacity_names_the_hours_in_which_the_twin_makes_runs_wait():
    # 60 runs of 2.5 h from 03:00 on four slots: the n-th wave of four starts 2.5 h after the one before
    busy = node("big/prod", schedules=(Schedule(cron="* 3 * * *"),), estimate=Estimate(p50_s=9000, p90_s=9000.1))
    nodes = {busy.name: busy}
    graph, inventory = make(nodes)
    (finding,) = (f for f in find_conflicts(graph, overloaded_hours(graph, inventory)) if f.rule == "over-capacity")
    (foreseen,) = overloaded_hours(graph, inventory).congestion.values()
    assert foreseen.hours == (3,)
    last_wave_s = 14 * 9000 - 56 * 60  # the 57th run comes due at 03:56 and is in the 15th wave
    assert foreseen.longest_wait_s == pytest.approx(last_wave_s, rel=0.02)
    assert "+3 h" in finding.evidence
    assert "150.0 slot-hours scheduled a day, 96 there" in finding.evidence


def test_a_pool_that_keeps_up_is_not_played():
    graph, inventory = make(clean_nodes())
    assert overloaded(inventory, Calendar(graph, inventory)) == {}
    assert overloaded_hours(graph, inventory).congestion == {}


def test_ignored_rules_are_left_out_and_unknown_ones_refused():
    assert find_conflicts(*PLANTED["cycle"](), ignore=["cycle"]) == []
    with pytest.raises(UnknownNameError, match="did you mean 'cycle'"):
        find_conflicts(*PLANTED["cycle"](), ignore=["cycles"])


def test_promises_compare_columns_types_and_ranges():
    promised = {"a": ColumnSpec(type="bigint", minimum=0.0), "b": ColumnSpec(type="varchar(10)")}
    assert unmet_expectations(promised, parse_columns({"a": {"type": "integer", "min": 0}, "b": "string"})) == []
    assert unmet_expectations(promised, parse_columns({"c": "text"})) == ["column c is gone"]
    assert unmet_expectations(promised, parse_columns({"b": "integer"})) == [
        "column b is varchar(10), expected integer"
    ]
    assert unmet_expectations(promised, parse_columns({"a": {"min": 1}})) == ["column a may go below 1"]
    assert unmet_expectations(promised, parse_columns({"a": {"max": 9}})) == ["column a may go above 9"]


def test_parameters_are_checked_for_name_presence_and_type():
    schema = {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}, "required": ["n"]}
    assert parameter_errors(schema, {"n": 1, "s": "x"}, complete=True) == []
    assert parameter_errors(schema, {"n": "{{ event.id }}"}, complete=True) == []
    assert parameter_errors(schema, {"s": "x"}, complete=True) == ["parameter n is required"]
    assert parameter_errors(schema, {"n": "1"}, complete=True) == ["parameter n must be integer, got str"]
    assert parameter_errors(schema, {"n": True}, complete=True) == ["parameter n must be integer, got bool"]
    assert parameter_errors(schema, {"m": 1}, complete=False) == ["there is no parameter m"]


def test_the_reference_lists_exactly_these_rules_with_their_definitions():
    page = (Path(__file__).parents[3] / "docs/reference/conflict-rules.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", page, re.MULTILINE))
    assert rows == {name: " ".join((rule.__doc__ or "").split()).rstrip(".") for name, rule in RULES.items()}
