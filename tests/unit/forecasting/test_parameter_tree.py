"""Failures and durations that hang on a parameter are found, and nothing is read into noise."""

import math

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.forecasting.forecaster import describe_feature, train
from prefect_intelligent.forecasting.outlook import make_outlook
from prefect_intelligent.forecasting.parameter_tree import Leaf, ParameterStatistics, ParameterTrees, look_up
from prefect_intelligent.forecasting.point_in_time_features import (
    LEVELS_PREFECT,
    LEVELS_PREFECT_PARAMETERS,
    LEVELS_SWF_PARAMETERS,
    encode_runs,
    find_leaks,
    levels_of,
)
from prefect_intelligent.history.run_parameters import pack
from prefect_intelligent.history.runs_frame import as_runs, from_swf

REGIONS = tuple(f"r{number}" for number in range(12))


def grown(draw, count=600, seed=1):
    """Trees over runs of which `draw` gives the parameters, whether it fails, and its log duration."""
    rng, trees = np.random.default_rng(seed), ParameterTrees()
    for _ in range(count):
        parameters, failed, log_duration = draw(rng)
        trees.finish(tuple(sorted(parameters.items())), log_duration, failed)
    return trees


def rate(trees, **parameters):
    return look_up(trees.failures, parameters).mean


def test_a_threshold_of_a_number_is_found():
    def draw(rng):
        rows = float(rng.integers(0, 1000))
        return {"rows": rows, "noise": float(rng.random())}, rng.random() < (0.9 if rows > 700 else 0.05), 1.0

    trees = grown(draw)
    assert rate(trees, rows=800.0, noise=0.1) > 0.7
    assert rate(trees, rows=600.0, noise=0.9) < 0.2
    assert isinstance(trees.durations, Leaf)


def test_some_of_many_words_are_told_apart_and_a_new_word_is_no_known_one():
    def draw(rng):
        region = str(rng.choice(REGIONS))
        return {"region": region}, rng.random() < (0.9 if region in ("r2", "r5", "r9") else 0.05), 1.0

    trees = grown(draw)
    assert min(rate(trees, region=bad) for bad in ("r2", "r5", "r9")) > 0.7
    assert max(rate(trees, region=good) for good in ("r1", "r3", "r11")) < 0.2
    assert rate(trees, region="never seen") == rate(trees)


def test_two_parameters_together_are_found_also_a_boolean():
    def draw(rng):
        full, rows = bool(rng.random() < 0.5), float(rng.integers(0, 1000))
        return {"full": full, "rows": rows}, rng.random() < (0.9 if full and rows > 400 else 0.03), 1.0

    trees = grown(draw, 1200)
    assert rate(trees, full=True, rows=900.0) > 0.7
    assert rate(trees, full=False, rows=900.0) < 0.2
    assert rate(trees, full=True, rows=100.0) < 0.2


def test_durations_follow_a_number():
    def draw(rng):
        rows = float(rng.integers(1, 1000))
        return {"rows": rows}, False, math.log1p(rows) + rng.normal(0.0, 0.2)

    trees = grown(draw)
    for rows in (20.0, 100.0, 800.0):
        assert look_up(trees.durations, {"rows": rows}).mean == pytest.approx(math.log1p(rows), abs=0.8)


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_left_alone(seed):
    def draw(rng):
        parameters = {f"n{number}": float(rng.random()) for number in range(6)}
        parameters |= {f"w{number}": str(rng.choice(REGIONS)) for number in range(3)}
        return parameters, rng.random() < 0.3, rng.normal(3.0, 1.0)

    trees = grown(draw, 300, seed)
    shares = [look_up(trees.failures, {"n0": 0.1 * step, "w0": REGIONS[step]}).mean for step in range(10)]
    assert max(shares) - min(shares) < 0.25


def test_mixed_and_missing_values_and_a_single_outcome_are_no_trouble():
    statistics = ParameterStatistics()
    values = (1.0, "a", True, None)
    for number in range(100):
        value = values[number % 4]
        parameters = () if value is None else (("x", value),)
        statistics.finish("a/x", parameters, 2.0, False)
    assert statistics.features("a/x", (("x", "b"),))[0] < 0.05
    assert np.isnan(statistics.features("a/x", ())).all()
    assert np.isnan(statistics.features("new/x", (("x", 1.0),))[:4]).all()


def planted(count=900, seed=5):
    """Runs of two deployments that fail where `mode` is "full"; nothing else tells."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(["full", "delta", "check"], count)
    submitted = 1.7e9 + np.cumsum(rng.exponential(300.0, count))
    failed = rng.random(count) < np.where(mode == "full", 0.95, 0.02)
    ended = submitted + np.where(mode == "full", 400.0, 40.0) * np.exp(rng.normal(0.0, 0.2, count))
    return as_runs(
        pd.DataFrame(
            {
                "run_id": [str(row) for row in range(count)],
                "deployment": rng.choice(["a/x", "b/x"], count),
                "pool": "p",
                "queue": "q",
                "submitted_s": submitted,
                "started_s": submitted,
                "ended_s": ended,
                "state": np.where(failed, "FAILED", "COMPLETED"),
                "parameters": [pack({"mode": str(word), "noise": float(rng.random())}) for word in mode],
            }
        )
    )


@pytest.mark.parametrize("levels", [LEVELS_PREFECT_PARAMETERS, LEVELS_SWF_PARAMETERS])
def test_features_of_parameters_do_not_look_ahead(levels):
    part = planted(300)
    part.loc[:, "host"] = None
    assert find_leaks(lambda table: encode_runs(table, levels), part, np.random.default_rng(1)) == ()


def test_a_leak_through_the_trees_would_be_caught():
    part = planted(300)

    def leaky(table):
        features, names = encode_runs(table, LEVELS_PREFECT_PARAMETERS)
        statistics = ParameterStatistics()
        for run, bad in zip(table["parameters"], table["failed"], strict=True):
            statistics.finish("a/x", (("whole", str(run)),), 1.0, bool(bad))
        later = [statistics.features("a/x", (("whole", "?"),))[0]] * len(table)
        return np.column_stack([features, later]), (*names, "planted")

    assert find_leaks(leaky, part, np.random.default_rng(1)) == ("planted",)


def test_a_forecaster_learns_from_parameters_and_says_so():
    runs = planted()
    cut_s = float(runs["submitted_s"].iloc[600])
    features, names = encode_runs(runs, LEVELS_PREFECT_PARAMETERS)
    forecaster = train(runs, levels=levels_of(runs), until_s=cut_s, features=features, iterations=40)
    later = runs["submitted_s"].to_numpy() > cut_s
    probability = forecaster.failure_probability(features[later])
    full = runs["parameters"].str.contains("full").to_numpy()[later]
    assert probability[full].min() > probability[~full].max()
    assert np.median(forecaster.mean_log.predict(features[later])[full]) > np.log(150.0)
    assert describe_feature("runs with such parameters: failure_rate") in {
        reason.what for reason in forecaster.reasons(features[np.flatnonzero(later)[np.argmax(probability)]])
    }
    assert forecaster.feature_names == names


def test_an_outlook_is_of_the_run_that_is_asked_for():
    runs = planted()
    outlook = make_outlook(runs, float(runs["ended_s"].max()) + 10.0)["a/x"]
    full, delta = (outlook.of_run((("mode", word), ("noise", 0.5))) for word in ("full", "delta"))
    assert full.failure_probability > 0.7 > 0.3 > delta.failure_probability
    assert full.estimate.p50_s == pytest.approx(400.0, rel=0.4)
    assert delta.estimate.p50_s == pytest.approx(40.0, rel=0.4)
    assert outlook.of_run(()) == outlook
    starting = make_outlook(runs, float(runs["ended_s"].max()) + 10.0, start_up_s=30.0)["a/x"].of_run(
        (("mode", "delta"),)
    )
    assert starting.estimate.p50_s == pytest.approx(70.0, rel=0.3)


def test_extra_columns_of_a_log_are_parameters_and_those_of_its_format_are_not():
    rows = {"submit": [0, 10, 20], "wait": 0, "run": 5, "status": 1, "user": 1, "cpu": 3.0, "used_mem": 9}
    runs = from_swf(pd.DataFrame({**rows, "mode": ["a", None, "b"], "rows": [1, 2, 3], "big": [True, False, True]}))
    assert runs["parameters"].tolist() == [
        pack({"mode": "a", "rows": 1.0, "big": True}),
        pack({"rows": 2.0, "big": False}),
        pack({"mode": "b", "rows": 3.0, "big": True}),
    ]
    assert from_swf(pd.DataFrame(rows))["parameters"].isna().all()


def test_a_pool_whose_runs_have_no_parameters_has_no_features_of_them():
    runs = planted(100)
    assert levels_of(runs) == LEVELS_PREFECT_PARAMETERS
    assert levels_of(runs.assign(parameters=None)) == LEVELS_PREFECT
