"""An agent is fitted in steps that can be resumed, and costs no more than its rule on the days to choose by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from prefect_intelligent.policy.bundle import read_bundle
from prefect_intelligent.policy.planner import Planner
from prefect_intelligent.policy.regime import Regime
from rl.fit import FitConfig, costs, fit_pool, judge, main, variants
from rl.pool_days import pool_days
from rl.pools import RIVAL, play_pool, pools_figures

SMALL = FitConfig(tuned_worlds=700, labelled_days=4, ppo_steps=0, choice_days=3, planned_days=2, judged_days=2)


def test_a_pool_gets_its_agent_and_a_second_call_makes_nothing_again(tmp_path: Path) -> None:
    days, told = pool_days("toy"), []
    name, agent, corrected = fit_pool(days, SMALL, tmp_path / "fit", told.append)
    assert len(told) == 3
    assert (name in ("rule_planner", "all")) == (agent.planner is not None) == isinstance(agent.agent(), Planner)
    assert agent.regime is not None
    assert agent.regime.to_dict() == days.regime.to_dict()
    chosen_by = days.days("validation", SMALL.planned_days)
    parts = variants(replace(corrected, weights=agent.weights))
    cost = costs(chosen_by, {"agent": parts[name], "rule": corrected.base}, days.regime)
    assert np.log(cost["agent"]).mean() <= np.log(cost["rule"]).mean() + 1e-9
    assert fit_pool(days, SMALL, tmp_path / "fit", told.append)[0] == name
    assert len(told) == 3
    report = judge(days, agent, SMALL, Regime())
    assert {"ratio_vs_tuned_on_pool", "ratio_vs_tuned_on_pool_hi", "ratio_vs_general_rule"} <= set(report["figures"])
    assert report["context"]["days"] == 2


def test_an_earlier_fit_is_not_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rule.json").write_text("{}")
    assert main(["--pool", "toy", "--out", str(tmp_path)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(["--pool", "nope:1", "--out", str(tmp_path / "new")]) == 2
    assert main(["--pool", "toy", "--out", str(tmp_path / "new"), "--effort", "0"]) == 2


def test_a_pool_of_the_suite_is_played_against_the_rule_of_the_same_time(tmp_path: Path) -> None:
    found = play_pool("toy", SMALL, tmp_path)
    assert {"rule", "rule_planner", "rule_ppo", "all", RIVAL} == set(found["cost_usd"])
    assert json.loads((tmp_path / "toy" / "played.json").read_text()) == found
    read_bundle(tmp_path / "toy" / "agent")
    figures = pools_figures({"toy": found})
    assert figures["pools"] == 1
    assert figures["pools_worst"] == figures["pools_ratio"]


def test_figures_of_pools_weigh_every_pool_alike() -> None:
    def pool(agent: float) -> dict[str, object]:
        return {
            "agent": "all",
            "cost_usd": {
                name: [value, 2 * value] for name, value in (
                    ("rule", 1.0), ("rule_planner", 0.9), ("rule_ppo", 1.0), ("all", agent), (RIVAL, 1.0),
                )
            },
        }  # fmt: skip

    figures = pools_figures({"a": pool(0.5), "b": pool(1.0)})
    assert figures["pools_ratio"] == pytest.approx(0.5**0.5)
    assert (figures["pools_won"], figures["pools_worst"]) == (1.0, 1.0)
    assert figures["ppo_in_planner"] == pytest.approx((0.5 / 0.81) ** 0.5)
