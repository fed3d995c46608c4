"""How good a forecaster is, and whether it still is, by runs it has not seen."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.forecasting.evaluation import _curves, calibration_bins, check_drift, train_and_evaluate
from tests.unit.forecasting.test_forecaster import make_runs


@pytest.fixture(scope="module")
def runs():
    return make_runs(2400)


@pytest.fixture(scope="module")
def trained(runs):
    return train_and_evaluate(runs.iloc[:1600].reset_index(drop=True), iterations=40)


def test_figures_are_of_runs_that_were_not_learned_from(trained):
    forecaster, found = trained
    assert found.figures["test_runs"] == pytest.approx(320, abs=20)
    assert found.figures["auc"] > 0.7
    assert found.figures["brier"] < found.figures["baseline_brier"]
    assert 0.8 < found.figures["p90_coverage"] < 0.98
    assert forecaster.trained_on["test_auc"] == found.figures["auc"]
    losses = found.learning
    assert losses[-1, 1] < losses[0, 1]
    assert losses[0, 0] == 1.0


def test_curves_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    probability = np.round(rng.random(500), 2)  # ties
    failed = (rng.random(500) < probability).astype(float)
    _, _, auc, average = _curves(probability, failed)
    assert auc == pytest.approx(roc_auc_score(failed, probability))
    assert average == pytest.approx(average_precision_score(failed, probability))
    bins = calibration_bins(probability, failed)
    assert bins[:, 2].sum() == 500
    assert np.abs(bins[:, 0] - bins[:, 1]).max() < 0.2


def test_no_drift_while_the_world_stays_the_same(runs, trained):
    found = check_drift(trained[0], runs)
    assert found.enough
    assert not found.retrain, found.reasons
    assert found.runs == pytest.approx(800, abs=20)


def test_a_world_that_changes_is_noticed(runs, trained):
    other = runs.copy()
    late = other.index >= 1650
    other.loc[late, "failed"] = np.random.default_rng(1).random(int(late.sum())) < 0.5
    other.loc[late, "state"] = np.where(other.loc[late, "failed"], "FAILED", "COMPLETED")
    found = check_drift(trained[0], other)
    assert found.retrain
    assert any("foretold" in reason for reason in found.reasons)
    slower = runs.copy()
    slower.loc[late, "ended_s"] = slower["started_s"] + 10 * (slower["ended_s"] - slower["started_s"])
    assert check_drift(trained[0], slower).retrain


def test_too_few_runs_say_so(runs, trained):
    found = check_drift(trained[0], runs.iloc[:1650].reset_index(drop=True))
    assert not found.enough
    assert not found.retrain
    assert "not enough data" in found.reasons[0]
    with pytest.raises(InvalidInputError, match="not enough data"):
        train_and_evaluate(runs.iloc[:100].reset_index(drop=True))
