"""The graph: merging of evidence, order, cycles, paths, impact and refresh plans."""

import math

import pytest

from prefect_intelligent.domain import Estimate, Prices
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.pipelines.critical_path import chain_duration, critical_path, impact, refresh_plan
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, build_graph, find_cycles, topological_order
from tests.planted import changed, clean_nodes, make


def test_declared_inputs_beat_inferred_ones_and_keep_what_agrees():
    declared, seen = EdgeEvidence("declared", "a.py:1"), EdgeEvidence("observed", "event")
    graph = build_graph(
        [
            Edge("raw", "clean/p", "reads", (declared,)),
            Edge("raw", "clean/p", "reads", (seen,)),
            Edge("other", "clean/p", "reads", (seen,)),
            Edge("clean/p", "flights", "writes", (seen,)),
        ]
    )
    assert graph.inputs["clean/p"] == ("raw",)
    assert [edge.source for edge in graph.overruled] == ["other"]
    assert graph.edges[1].evidence == (declared, seen)
    assert graph.edges[1].certainty == 1.0
    assert graph.outputs["clean/p"] == ("flights",)  # it declares no outputs: the inferred one stands
    assert graph.edges[0].certainty == 0.6


def test_order_follows_data_and_ties_go_by_name():
    graph, _ = make(clean_nodes())
    assert topological_order(graph) == ["ingest/weather", "ingest/flights", "clean/prod", "join/prod", "report/prod"]


def test_a_cycle_is_shown_and_has_no_order():
    graph, _ = make(changed("ingest/flights", {"inputs": ("report",)}))
    (names,) = find_cycles(graph)
    assert names[0] == names[-1] == "clean/prod"
    assert names[1:4] == ["flights", "join/prod", "flight_weather"]
    assert len(names) == 9
    with pytest.raises(InvalidInputError, match="cycle"):
        topological_order(graph)


def test_a_dataset_read_and_written_by_one_deployment_is_a_cycle():
    graph = build_graph(
        [Edge("x", "a/p", "reads", (EdgeEvidence("source"),)), Edge("a/p", "x", "writes", (EdgeEvidence("source"),))]
    )
    assert find_cycles(graph) == [["a/p", "x", "a/p"]]


def test_the_critical_path_is_the_longest_by_median_and_its_quantiles_are_those_of_the_sum():
    graph, inventory = make(clean_nodes())
    path = critical_path(graph, inventory.nodes)
    assert path.deployments == ("ingest/flights", "clean/prod", "join/prod", "report/prod")
    assert path.duration.p50_s > 4 * 300  # the mean of a lognormal is above its median
    assert path.duration.p90_s < 4 * 500  # and quantiles of independent parts do not add up
    assert critical_path(graph, inventory.nodes, to="raw_weather").deployments == ("ingest/weather",)
    with pytest.raises(UnknownNameError, match="did you mean 'flights'"):
        critical_path(graph, inventory.nodes, to="flightz")


def test_a_chain_of_one_is_itself_and_certain_durations_add_up():
    one = Estimate(p50_s=100.0, p90_s=250.0)
    assert chain_duration([one]).p50_s == pytest.approx(100.0)
    assert chain_duration([one]).p90_s == pytest.approx(250.0)
    assert chain_duration([Estimate(p50_s=60, p90_s=60)] * 3).p90_s == pytest.approx(180.0)


def test_a_delay_reaches_what_depends_on_it_and_costs_what_the_terms_say():
    graph, inventory = make(clean_nodes())
    delays = {d.deployment: d for d in impact(graph, inventory.nodes, "clean/prod", 2 * 3600.0, Prices())}
    assert set(delays) == {"clean/prod", "join/prod", "report/prod"}
    # report finishes after 4 x 300 s; 2 h later it is 1200 s past its deadline of 2 h
    assert delays["report/prod"].overdue_s == pytest.approx(1200.0)
    assert delays["report/prod"].cost_usd == pytest.approx(1200 / 3600 * 50)


def test_a_delay_is_absorbed_where_another_input_is_later_anyway():
    graph, inventory = make(clean_nodes())
    delays = impact(graph, inventory.nodes, "ingest/weather", 200.0, Prices())
    assert [d.deployment for d in delays] == ["ingest/weather"]
    assert math.isclose(delays[0].late_s, 200.0)


def test_a_plan_runs_what_is_needed_in_order_and_leaves_out_what_is_fresh():
    graph, _ = make(clean_nodes())
    assert refresh_plan(graph, "flight_weather") == ["ingest/weather", "ingest/flights", "clean/prod", "join/prod"]
    assert refresh_plan(graph, "flight_weather", fresh=["flights"]) == ["ingest/weather", "join/prod"]
    assert refresh_plan(graph, "flight_weather", fresh=["flight_weather"]) == []
    with pytest.raises(UnknownNameError, match="unknown dataset"):
        refresh_plan(graph, "nothing_like_it")
