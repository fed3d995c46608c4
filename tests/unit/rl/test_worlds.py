"""Days to train on: of the family, of scenarios, of a mixture; playing many policies at once changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.bundle import SHIPPED, read_bundle
from prefect_intelligent.policy.rule_policy import parse_policy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from rl.batch_logs import BatchLogs
from rl.pool_days import pool_days
from rl.simulators import spent_usd
from rl.worlds import TRAINING, Workload, training
from simulations.envs.deck import decisions_per_day
from simulations.family import Family
from simulations.scenario import FOLDER, load_scenario
from tests.bundles import random_bundle

SHORT = Workload(family=Family(hours=1.0, queues=(2, 3)))


def test_policies_played_together_spend_what_each_spends_alone(tmp_path: Path) -> None:
    world = SHORT.batch([(number, 0) for number in range(6)])
    learned = read_bundle(random_bundle(tmp_path, 1)).policy()
    policies = [parse_policy("edf+reactive+share"), parse_policy("atc+lookahead+share"), learned]
    together = spent_usd(world, TRAINING, *policies)
    for policy, spent in zip(policies, together, strict=True):
        assert np.array_equal(spent, ClosedLoop(Twin(world), TRAINING).play(policy))


def test_days_of_a_scenario_keep_its_prices_and_its_length() -> None:
    scenario = load_scenario("morning-rush")
    workload = Workload.of(scenario)
    assert decisions_per_day(workload.hours, workload.regime) == 10 * 60 + 12
    one, other = workload.world(1, 0), workload.world(2, 0)
    assert one.settings["lateness_weight"][0] == scenario.pools[0].prices.lateness_weight
    assert one.settings["start_s"][0] == scenario.start_s
    assert not np.array_equal(one.runs["work_s"], other.runs["work_s"])
    again = workload.world(1, 0)
    assert all(np.array_equal(table, same) for table, same in zip(one, again, strict=True))


def test_a_mixture_takes_parts_of_scenarios_that_begin_at_any_hour() -> None:
    scenario = load_scenario("bursty-adhoc")  # 24 hours
    workload = Workload(scenarios=(scenario,), share=0.5)
    begins = set()
    for cluster in range(40):
        world = workload.world(cluster, 0)
        queues = int(world.queues["present"][0].sum())
        if queues == len(scenario.pools[0].queues) and float(world.settings["start_s"][0]) < scenario.end_s:
            begins.add(float(world.settings["start_s"][0]) - scenario.start_s)
    inside = {begin for begin in begins if 0 <= begin <= 16 * 3600}
    assert len(inside) > 5


def test_the_training_mixture_has_every_scenario_of_one_pool_but_the_toy() -> None:
    names = {scenario.name for scenario in training().scenarios}
    assert "morning-rush" in names
    assert not names & {"toy", "two-pools-budget"}


def test_scenarios_of_several_pools_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one pool"):
        Workload.of(load_scenario("two-pools-budget"))


def test_days_like_batch_logs_are_bursty_and_hard_to_foretell() -> None:
    logs = BatchLogs(queues=(3, 3), runs=(200, 200), load=(0.8, 0.8), slots=(8, 8))
    gaps, errors = [], []
    for seed in range(20):
        world = logs.world(seed)
        runs = world.runs[0, : int(world.settings["runs"][0])]
        assert len(runs) == 200
        assert np.array_equal(runs["known_s"], runs["scheduled_s"])  # nothing is scheduled ahead
        assert runs["work_s"].sum() == pytest.approx(0.8 * 8 * 8 * 3600, rel=0.01)
        gap = np.diff(np.sort(runs["scheduled_s"]))
        gaps.append(gap.std() / gap.mean())
        errors.append(np.abs(np.log(runs["p50_s"] / runs["work_s"])).mean())
    assert np.median(gaps) > 2.0  # 1 for Poisson
    assert np.median(errors) > 0.7
    again = logs.world(3)
    assert all(np.array_equal(table, same) for table, same in zip(logs.world(3), again, strict=True))


@pytest.mark.parametrize("queues", [1, 12, 24, 32])
def test_the_shipped_policy_decides_for_any_number_of_queues_without_collapse(queues: int) -> None:
    """It was trained on at most 12."""
    workload = Workload(family=Family(hours=1.0, queues=(queues, queues)))
    bundle = read_bundle(SHIPPED)
    world = workload.batch([(number, 0) for number in range(12)])
    rule, learned = spent_usd(world, TRAINING, bundle.base, bundle.policy()).sum(-1)
    assert np.exp(np.log(np.maximum(learned, 1e-9) / np.maximum(rule, 1e-9)).mean()) < 1.1


def test_scenario_and_pool_exclude_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from rl.train import main

    assert main(["--scenario", "overload", "--pool", str(tmp_path / "pool.toml")]) == 2
    assert "either --scenario or --pool" in capsys.readouterr().err
    assert main(["--scenario", "overlod"]) == 2
    assert "overload" in capsys.readouterr().err


def test_nothing_is_trained_on_a_scenario_that_does_not_show_its_pool(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("stable_baselines3")
    from rl.fit import main as fit
    from rl.train import main as train

    marked = tmp_path / "pool.toml"
    text = (FOLDER / "toy.toml").read_text("utf-8")
    marked.write_text('unfit = ["etl/daily: p95 of the wait in seconds 7,417 observed, 38,026 fitted"]\n' + text)
    for main, more in ((train, []), (fit, ["--out", str(tmp_path / "fit")])):
        assert main(["--pool", str(marked), *more]) == 2
        assert "38,026 fitted" in capsys.readouterr().err
    assert not (tmp_path / "fit").exists()
    assert pool_days(str(marked), although_unfit=True).name == "pool"


def test_training_ends_with_what_came_of_it() -> None:
    pytest.importorskip("stable_baselines3")
    from rl.train import describe_result

    progress = [{"update": 0, "validation_ratio": 1.0}, {"update": 1}, {"update": 2, "validation_ratio": 0.95}]
    said = describe_result({"progress": progress, "best": "runs/x/best"})
    assert said.startswith("2 updates: on the validation days the best bundle costs 0.9500")
    assert "runs/x/best" in said
    said = describe_result({"progress": [progress[0], {"update": 4, "validation_ratio": 1.01}], "best": "runs/x/best"})
    assert "none is better than the start" in said
