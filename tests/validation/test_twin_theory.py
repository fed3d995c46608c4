"""The twin agrees with queueing theory within a computed interval."""

import json

import numpy as np
import pytest

from prefect_intelligent.twin.simulator import Twin
from simulations.family import Family
from simulations.theory import checks, erlang_c, states_mmck, station
from simulations.validate import main


def test_every_formula_lies_in_the_interval_of_its_simulation() -> None:
    outside = [check for check in checks(customers=100_000, seed=11) if not check.holds]
    assert not outside


def test_the_formulas_themselves_on_known_values() -> None:
    assert erlang_c(1, 0.8) == pytest.approx(0.8)  # M/M/1: the utilisation
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert states_mmck(1, 0.5, 2) == pytest.approx(np.array([4, 2, 1]) / 7)


def test_littles_law_holds_in_a_steered_pool_of_many_queues() -> None:
    twin = Twin(Family(queues=(6, 6), load=(0.5, 0.7), hours=12.0).world(4))
    twin.finish()
    runs = twin.state.runs[0]
    stay_s = runs["finished_s"] - runs["scheduled_s"]
    span_s = float(twin.now_s[0] - twin.world.settings["start_s"][0])
    instants = np.linspace(twin.world.settings["start_s"][0], twin.now_s[0], 20_001)
    inside = (runs["scheduled_s"][:, None] <= instants) & (instants < runs["finished_s"][:, None])
    assert inside.sum(axis=0).mean() == pytest.approx(len(runs) / span_s * stay_s.mean(), rel=0.01)


def test_relabelling_the_queues_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    arrivals, work = np.cumsum(rng.exponential(1.0, n)), rng.exponential(3.4, n)
    classes = rng.integers(0, 4, n)
    labels = np.array([2, 0, 3, 1])
    ends = []
    for each, priorities in ((classes, (1, 2, 3, 4)), (labels[classes], (2, 4, 1, 3))):
        twin = Twin(station(arrivals, work, each, 4, priorities=priorities))
        twin.finish(1e9)
        ends.append(twin.state.runs["finished_s"][0].copy())
    np.testing.assert_array_equal(ends[0], ends[1])


def test_the_study_prints_every_check_and_draws_it(tmp_path, capsys) -> None:
    assert main(["--customers", "20000", "--seed", "11", "--json", "--pictures", str(tmp_path)]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    assert said["figures"]["checks"] == len(said["checks"]) >= 18
    assert {check["case"] for check in said["checks"]} >= {"Little's law on M/M/4", "M/M/3/8, offered 3.6"}
    assert said["figures"]["checks_held"] >= 16
    assert (tmp_path / "twin-theory.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--customers", "10"], "--customers"),
        (["--against-prefect", "--runs", "3"], "at least 12 runs"),
        (["--pictures", "gone"], "is not a folder"),
    ],
)
def test_bad_input_of_the_study_is_one_line_with_exit_code_2(capsys, words, message) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
