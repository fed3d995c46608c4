"""The twin against simulators of other people: each serves the same work, and every start has to be the same."""

import json

import numpy as np
import pytest

from prefect_intelligent.twin.simulator import Twin
from simulations.foreign.jobshop import (
    RULES,
    compare_jobshops,
    gap,
    instances,
    makespan,
    shop_world,
    starts_in_jobshoplib,
    starts_in_twin,
)
from simulations.foreign.networks import compare_networks, networks, visits_in_ciw, visits_in_twin
from simulations.foreign.nodes import compare_nodes
from simulations.foreign.report import disagreements
from simulations.foreign.shop_planner import ORDERS, plan_shops, planned_starts
from simulations.validate import main

SHOPS = ("ft06", "ft10", "orb07", "la31", "swv11", "ta01")
"""Small and large ones; `orb07` has an operation that takes no time."""


def test_a_job_shop_starts_every_operation_when_jobshoplib_does():
    figures = compare_jobshops(instances(SHOPS))
    assert figures["jobshop_instances"] == len(SHOPS)
    assert figures["jobshop_starts_agree"] == 1.0
    assert figures["jobshop_makespan_agree"] == 1.0
    assert 0 < figures["jobshop_best_rule_gap"] < 0.5


def test_the_planner_is_nearer_to_the_optimum_than_every_rule():
    shops = instances(["ft10", "la01", "orb07", "la16"])
    by_rule = {name: [gap(shop, starts_in_twin(shop, rule)) for shop in shops.values()] for name, rule in RULES.items()}
    for number, shop in enumerate(shops.values()):
        starts = planned_starts(shop, 50)
        durations = np.array([each.duration for job in shop.jobs for each in job])
        machine = np.array([each.machine_id for job in shop.jobs for each in job])
        for one in range(shop.num_machines):  # a schedule that could be: a machine does one thing after the other
            begun = np.argsort(starts[machine == one], kind="stable")
            ends = (starts + durations)[machine == one][begun]
            assert np.all(starts[machine == one][begun][1:] >= ends[:-1])
        assert 0 <= gap(shop, starts) <= min(by_rule[name][number] for name in ORDERS)
    assert plan_shops(shops)["jobshop_planner_gap"] < min(np.mean(each) for each in by_rule.values())


def test_the_cost_of_a_shop_with_a_delivery_is_its_makespan():
    shop = instances(["ft06"])["ft06"]
    twin = Twin(shop_world(shop, RULES["mwkr"].key, delivery=True))
    twin.finish()
    assert twin.cost().total_usd * 3600 == pytest.approx(makespan(shop, starts_in_twin(shop, RULES["mwkr"])))


def test_rules_differ_so_that_their_agreement_says_something():
    shop = instances(["ta01"])["ta01"]
    spt = starts_in_jobshoplib(shop, RULES["spt"])
    for name in ("lpt", "mwkr", "fifo"):
        assert np.mean(starts_in_twin(shop, RULES[name]) == spt) < 0.5


@pytest.mark.parametrize("name", networks(300, 0))
def test_a_network_serves_ciws_customers_when_ciw_does(name: str):
    network = networks(300, 4)[name]
    there = visits_in_ciw(network, 4)
    here = visits_in_twin(network, there)
    assert len(there.customer) > 200
    assert np.sum(there.ends_s - there.starts_s > there.work_s * 1.001) > 50 or "sharing" not in name
    np.testing.assert_allclose(here.arrives_s, there.arrives_s, rtol=0, atol=1e-6)
    np.testing.assert_allclose(here.starts_s, there.starts_s, rtol=0, atol=1e-6)
    np.testing.assert_allclose(here.ends_s, there.ends_s, rtol=0, atol=1e-6)


def test_what_others_do_not_agree_with_is_an_error():
    figures = compare_networks(200, 1) | compare_nodes(3, 1)
    figures |= {"jobshop_makespan_agree": 1.0, "jobshop_starts_agree": 1.0}
    figures |= {"jobshop_planner_gap": 0.1, "jobshop_best_rule_gap": 0.2}
    assert disagreements(figures) == []
    assert len(disagreements(figures | {"jobshop_planner_gap": 0.2})) == 1
    assert disagreements(figures | {"nodes_cost_error": 0.04}) == [
        "nodes_cost_error is 0.04 and has to be between 0 and 1e-09"
    ]


def test_the_command_prints_figures_and_fails_where_others_disagree(monkeypatch, capsys):
    def compare(seed: int) -> dict[str, float]:
        figures = dict.fromkeys(("jobshop_makespan_agree", "ciw_starts_agree", "jobshop_best_rule_gap"), 1.0)
        figures |= dict.fromkeys(("ciw_ends_error_s", "nodes_cost_error", "jobshop_planner_gap"), 0.0)
        return figures | {"nodes_starts_error_s": float(seed), "jobshop_starts_agree": 0.5}

    monkeypatch.setattr("simulations.foreign.report.compare", compare)
    assert main(["--foreign", "--json", "--seed", "0"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["figures"]["jobshop_starts_agree"] == 0.5
    assert "jobshop_starts_agree is 0.5" in printed.err
