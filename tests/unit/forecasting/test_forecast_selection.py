"""The forecast that was right lately is chosen, by deployment, and is the same live and in replay."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_intelligent.forecasting.calibration import ConformalOffset
from prefect_intelligent.forecasting.forecast_selection import MAX_DEPLOYMENTS, ForecastSelector, candidate_forecasts
from prefect_intelligent.forecasting.forecaster import Forecaster, train
from prefect_intelligent.forecasting.online_update import forecast_all, update_online
from prefect_intelligent.forecasting.point_in_time_features import encode_runs
from prefect_intelligent.history.runs_frame import duration_s
from tests.unit.forecasting.test_forecaster import make_runs

TRAINED = 1200


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return make_runs(1800)


@pytest.fixture(scope="module")
def trained(runs) -> Forecaster:
    until_s = float(runs["submitted_s"].iloc[TRAINED])
    forecaster = train(runs, until_s=until_s, iterations=60)
    forecaster.trained_on["until_s"] = until_s
    return forecaster


def slower(runs: pd.DataFrame, from_row: int, factor: float) -> pd.DataFrame:
    late = runs.index >= from_row
    return runs.assign(ended_s=runs["ended_s"].where(~late, runs["started_s"] + factor * duration_s(runs)))


def right(forecasts: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    return np.abs(forecasts["p50_log"] - np.log1p(duration_s(runs))[forecasts.index]) <= math.log(2.0)


def test_the_selector_leaves_outdated_trees_within_a_hundred_runs(runs, trained):
    other = slower(runs, TRAINED, 20.0)
    features, _ = encode_runs(other)
    since_s = trained.trained_on["until_s"]
    forecasts = forecast_all(trained, other, features, since_s)
    found = right(forecasts, other).loc[TRAINED + 100 :].mean()
    stale = right(pd.DataFrame({"p50_log": trained.p50_log.predict(features)}), other).loc[TRAINED + 100 :].mean()
    assert found > 0.7
    assert stale < 0.4
    assert (forecasts["p90_log"] > forecasts["p50_log"]).all()
    covered = np.log1p(duration_s(other))[forecasts.index] <= forecasts["p90_log"]
    assert 0.86 <= covered.loc[TRAINED + 100 :].mean() <= 0.96


def test_trees_stay_in_charge_while_they_are_right(runs, trained):
    features, _ = encode_runs(runs)
    forecasts = forecast_all(trained, runs, features, trained.trained_on["until_s"])
    of_trees = np.maximum(0.0, trained.p50_log.predict(features[forecasts.index]))
    assert np.mean(forecasts["p50_log"] == of_trees) > 0.9


def test_a_forecast_knows_nothing_of_what_ends_later(runs, trained):
    other = slower(runs, 1500, 100.0)
    features, _ = encode_runs(runs)
    since_s = trained.trained_on["until_s"]
    one, two = (forecast_all(trained, table, features, since_s).loc[:1500] for table in (runs, other))
    pd.testing.assert_frame_equal(one, two)


def test_live_and_replayed_forecasts_are_the_same(runs, trained):
    at_s = 1.7e9 + 1e5 * runs.index  # nothing is under way when the next one is submitted
    apart = runs.assign(submitted_s=at_s, started_s=at_s, ended_s=at_s + duration_s(runs))
    apart = slower(apart, 900, 3.0)
    features, _ = encode_runs(apart)
    since_s = float(apart["submitted_s"].iloc[900])
    forecaster = replace(trained, trained_on={"until_s": since_s - 1.0})
    replayed = forecast_all(forecaster, apart, features, since_s)
    for row in (901, 950, 1100, 1700):
        past = apart.iloc[:row].reset_index(drop=True)
        live = update_online(forecaster, past).forecast(features[[row]], [apart["deployment"].iloc[row]])[0].estimate
        assert live.p50_s == pytest.approx(np.expm1(replayed.loc[row, "p50_log"]), rel=1e-9)
        assert live.p90_s == pytest.approx(np.expm1(replayed.loc[row, "p90_log"]), rel=1e-9)
    assert forecaster.selector == trained.selector  # nobody has learned on the one that was passed in


def test_the_selector_is_saved_and_without_one_the_trees_are_chosen(tmp_path, runs, trained):
    followed = update_online(trained, runs)
    assert followed.selector != trained.selector
    followed.save(tmp_path)
    assert Forecaster.load(tmp_path).selector == followed.selector
    manifest = json.loads((tmp_path / "forecaster.json").read_text())
    del manifest["trust"]
    (tmp_path / "forecaster.json").write_text(json.dumps(manifest))
    assert Forecaster.load(tmp_path).selector == ForecastSelector()


def test_each_deployment_has_its_own_and_a_new_one_that_of_the_pool():
    selector = ForecastSelector()
    for _ in range(19):
        selector.learn("a", [5.0, 9.0], 9.0)
    assert selector.choose("a", [5.0, 9.0]) == 5.0  # too few to judge by
    for _ in range(60):
        selector.learn("a", [5.0, 9.0], 9.0)
        selector.learn("b", [5.0, 9.0], 5.0)
        selector.learn("b", [5.0, 9.0], 5.0)
    assert [selector.choose(name, [1.0, 2.0]) for name in ("a", "b", "new")] == [2.0, 1.0, 1.0]
    for _ in range(100):
        selector.learn("b", [5.0, 9.0], 9.0)
    assert [selector.choose(name, [1.0, 2.0]) for name in ("a", "b", "new")] == [2.0, 2.0, 2.0]


def test_the_least_recent_deployment_is_forgotten():
    selector = ForecastSelector()
    for number in range(MAX_DEPLOYMENTS):
        selector.learn(f"d{number}", [1.0], 1.0)
    selector.learn("d0", [1.0], 1.0)
    selector.learn("new", [1.0], 1.0)
    assert len(selector.deployments) == MAX_DEPLOYMENTS
    assert {"d0", "new"} <= selector.deployments.keys()
    assert "d1" not in selector.deployments


@given(st.lists(st.floats(0.0, 20.0), min_size=2, max_size=2), st.floats(-1.0, 20.0), st.floats(-2.0, 2.0))
def test_the_quantile_is_above_the_median_and_the_median_not_above_the_chosen_candidate(
    trained, candidates, tree_p90, offset
):
    rival = ForecastSelector(pool=[50.0, 50.0, 0.0])
    median, high = replace(trained, selector=rival, coverage=ConformalOffset(0.9, offset)).quantiles(
        "a", candidates, tree_p90
    )
    assert median < high
    assert median <= candidates[1]
    assert median >= min(candidates[1], max(candidates[0], tree_p90 + offset))


def test_a_rival_that_knows_nothing_says_what_the_trees_say():
    names = ("hour", "the same work: log_duration_recent", "the same work: last_duration")
    features = np.array([[0.0, np.nan, np.nan], [0.0, 2.0, 3.0]])
    np.testing.assert_array_equal(
        candidate_forecasts(np.array([-1.0, 1.0]), features, names), [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    )
    assert candidate_forecasts(np.array([1.0]), features[:1, :1], names[:1]).tolist() == [[1.0]]
