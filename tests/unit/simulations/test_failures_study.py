"""The study of prevention: paired, seeded, and the rules find what was planted through history alone."""

import json

import numpy as np
import pytest

from simulations.failures import FaultyMonth, simulate
from simulations.failures_study import study
from simulations.run import main


def test_retries_alone_are_the_same_month_every_time():
    worlds = [FaultyMonth(3, 10) for _ in range(2)]
    first, second = (simulate(world, settings=None) for world in worlds)
    np.testing.assert_array_equal(first.outcome, second.outcome)
    again = simulate(worlds[0], settings=None)
    np.testing.assert_array_equal(first.wasted_usd, again.wasted_usd)
    assert worlds[0].faults.host_s != FaultyMonth(4, 10).faults.host_s


def test_what_is_planted_is_named_and_halved():
    found = study([3], days=12)
    figures = found["figures"]
    assert figures["failed_ratio"] < 0.5
    assert figures["wasted_ratio"] < 0.5
    assert figures["false_holds_of_good_runs"] < 0.02
    named = [mode for mode, row in found["modes"].items() if row["named"]]
    assert {"flaky host", "bad upstream day", "bad release", "hung run"} <= set(named)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--days", "3"], "days: got 3; the planted failures need at least 10"),
        (["--seeds", "x"], "--seeds: got 'x'"),
        (["--seeds", "5:4"], "at least one month"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(words, message, capsys):
    assert main(["--study", "failures", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_figures_are_json(capsys, monkeypatch):
    import simulations.failures_study as module

    monkeypatch.setattr(module, "_month", lambda seed, world, base, better: _month(seed))
    monkeypatch.setattr(module, "simulate", lambda world, settings: None)
    monkeypatch.setattr(module, "FaultyMonth", lambda seed, days: None)
    assert main(["--study", "failures", "--seeds", "1:2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["months"] == 2.0


def _month(seed):
    from simulations.failures_study import _CLASSES

    pair = [4, 1]
    return {
        "seed": seed, "runs": 10, "good": 6, "failed": pair, "wasted_usd": [8.0, 2.0], "unfinished": [0, 0],
        "delay_s": [1.0, 1.0], "holds": 1, "false_holds": 0, "stops": 0, "false_stops": 0, "limited": 0, "measures": 1,
        "wrong_measures": [], "detected_after_h": dict.fromkeys(_CLASSES[:-1]),
        "by_mode": {mode: {"failed": pair, "wasted_usd": [1.0, 0.0]} for mode in _CLASSES},
    }  # fmt: skip
