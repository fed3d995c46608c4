"""The twin against simulators of other people: each serves the same work, and every start has to be the same."""

import json

import numpy as np
import pytest

from simulations.foreign.jobshop import RULES, compare_jobshops, instances, starts_in_jobshoplib, starts_in_twin
from simulations.foreign.networks import compare_networks, networks, visits_in_ciw, visits_in_twin
from simulations.foreign.nodes import compare_nodes
from simulations.foreign.report import disagreements
from simulations.validate import main

SHOPS = ("ft06", "ft10", "orb07", "la31", "swv11", "ta01")
"""Small and large ones; `orb07` has an operation that takes no time."""


def test_a_job_shop_starts_every_operation_when_jobshoplib_does():
    figures = compare_jobshops(instances(SHOPS))
    assert figures["jobshop_instances"] == len(SHOPS)
    assert figures["jobshop_starts_agree"] == 1.0
    assert figures["jobshop_makespan_agree"] == 1.0
    assert 0 < figures["jobshop_best_rule_gap"] < 0.5


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
    assert disagreements(figures) == []
    assert disagreements(figures | {"nodes_cost_error": 0.04}) == [
        "nodes_cost_error is 0.04 and has to be between 0 and 1e-09"
    ]


def test_the_command_prints_figures_and_fails_where_others_disagree(monkeypatch, capsys):
    def compare(seed: int) -> dict[str, float]:
        return {
            "jobshop_makespan_agree": 1.0, "jobshop_starts_agree": 0.5, "ciw_starts_agree": 1.0,
            "ciw_ends_error_s": 0.0, "nodes_cost_error": 0.0, "nodes_starts_error_s": float(seed),
        }  # fmt: skip

    monkeypatch.setattr("simulations.foreign.report.compare", compare)
    assert main(["--foreign", "--json", "--seed", "0"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["figures"]["jobshop_starts_agree"] == 0.5
    assert "jobshop_starts_agree is 0.5" in printed.err
