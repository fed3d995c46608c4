"""Prediction learns what can be learned, says so, and never looks ahead."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.forecasting.calibration import BetaCalibration, ConformalOffset
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles, learn_durations
from prefect_intelligent.forecasting.forecast_selection import ForecastSelector
from prefect_intelligent.forecasting.forecaster import Forecaster, describe_feature, train
from prefect_intelligent.forecasting.online_update import forecast_all, update_online
from prefect_intelligent.forecasting.point_in_time_features import (
    LEVELS_PREFECT,
    Context,
    FeatureState,
    OutputCheck,
    SubmittedRun,
    encode_runs,
    find_leaks,
)
from prefect_intelligent.history.runs_frame import as_runs, duration_s, from_swf


def make_runs(count: int, seed: int = 0) -> pd.DataFrame:
    """Six deployments; `sour` fails 90 % of the time after a failure and 10 % otherwise, the others 3 %."""
    rng = np.random.default_rng(seed)
    names = np.array(["sour/x", "a/x", "b/x", "c/x", "d/x", "e/x"])
    which = rng.integers(0, 6, count)
    submitted = 1.7e9 + np.cumsum(rng.exponential(600.0, count))
    seconds = np.exp(rng.normal(3.0 + which, 0.5))
    failed = np.zeros(count, dtype=bool)
    last = False
    for row in range(count):
        chance = (0.9 if last else 0.1) if which[row] == 0 else 0.03
        failed[row] = rng.random() < chance
        if which[row] == 0:
            last = bool(failed[row])
    started = submitted + rng.exponential(30.0, count)
    return as_runs(
        pd.DataFrame(
            {
                "run_id": [f"r{row}" for row in range(count)],
                "deployment": names[which],
                "pool": "p",
                "queue": "q",
                "submitted_s": submitted,
                "started_s": started,
                "ended_s": started + seconds,
                "state": np.where(failed, "FAILED", "COMPLETED"),
            }
        )
    )


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return make_runs(3000)


@pytest.fixture(scope="module")
def trained(runs: pd.DataFrame) -> Forecaster:
    return train(runs, until_s=float(runs["submitted_s"].iloc[2000]), iterations=60)


def honest(table: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    return encode_runs(table, LEVELS_PREFECT)


def test_the_encoder_does_not_look_ahead(runs):
    part = runs.iloc[:400].reset_index(drop=True)
    part["host"] = np.random.default_rng(2).choice(["h1", "h2"], len(part))
    part["cause"] = np.where(part["failed"], "ValueError", None)
    context = Context(upstream={"a/x": ["sour/x"]}, output_checks=[OutputCheck(1.7e9 + 5000.0, "sour/x", True)])
    assert find_leaks(lambda table: encode_runs(table, LEVELS_PREFECT, context), part, np.random.default_rng(1)) == ()


def test_what_surrounds_a_run_is_remembered():
    state = FeatureState(upstream={"mart/d": ["load/d", "ingest/d"]})
    names = state.feature_names

    def seen(deployment, at_s, *wanted):
        row = state.features(SubmittedRun("next", deployment), at_s)
        return [row[names.index(name)] for name in wanted]

    def live(run, deployment, at_s, *, host, failed, cause=None):
        state.submit(SubmittedRun(run, deployment), at_s)
        state.start(run, at_s, host=host)
        state.finish(run, at_s + 10.0, failed=failed, cause=cause)

    wanted = ("its host: last_failed", "its last kind of failure: since_finish", "its inputs: last_failed")
    assert np.isnan(seen("mart/d", 0.0, *wanted, "the checks of its inputs: last_failed")).all()
    live("1", "mart/d", 0.0, host="h1", failed=True, cause="Timeout")
    live("2", "mart/d", 100.0, host="h2", failed=False)
    live("3", "other/d", 200.0, host="h2", failed=True, cause="Timeout")  # the same host, the same cause
    live("4", "load/d", 300.0, host="h3", failed=True, cause="Disk")
    live("5", "ingest/d", 300.0, host="h3", failed=False)
    found = seen("mart/d", 1210.0, *wanted)
    assert found == [1.0, pytest.approx(math.log1p(1000.0)), 1.0]
    assert seen("load/d", 1210.0, "its last kind of failure: since_finish") == [pytest.approx(math.log1p(900.0))]
    state.add_check(OutputCheck(400.0, "ingest/d", True))
    assert seen("mart/d", 1210.0, "the checks of its inputs: last_failed") == [1.0]
    state.add_check(OutputCheck(500.0, "ingest/d", False))
    assert seen("mart/d", 1210.0, "the checks of its inputs: last_failed") == [0.0]
    assert describe_feature("the checks of its inputs: last_failed") == "recent failures of the checks of its inputs"


def test_checks_are_told_in_their_order_among_the_runs(runs):
    part = runs.iloc[:50].reset_index(drop=True)
    at_s = float(part["submitted_s"].iloc[20])
    context = Context(
        upstream={str(name): ["up/x"] for name in part["deployment"]}, output_checks=[OutputCheck(at_s, "up/x", True)]
    )
    features, names = encode_runs(part, LEVELS_PREFECT, context)
    column = features[:, names.index("the checks of its inputs: last_failed")]
    assert np.isnan(column[:21]).all()  # what happens in the same instant is not known yet
    assert (column[21:] == 1.0).all()


@pytest.mark.parametrize("plant", ["outcome", "duration", "rate of the whole table", "wait"])
def test_a_planted_leak_is_caught_and_named(runs, plant):
    def leaky(table):
        features, names = honest(table)
        by_deployment = table.groupby("deployment")["failed"].transform("mean")
        column = {
            "outcome": table["failed"],
            "duration": duration_s(table),
            "rate of the whole table": by_deployment,
            "wait": table["started_s"] - table["submitted_s"],
        }[plant].to_numpy(dtype=float)
        return np.column_stack([features, column]), (*names, plant)

    assert find_leaks(leaky, runs.iloc[:400].reset_index(drop=True), np.random.default_rng(1)) == (plant,)


def test_failures_are_foretold_with_reasons(runs, trained):
    features, _ = honest(runs)
    late = np.arange(2000, 3000)
    probability = trained.failure_probability(features[late])
    failed = runs["failed"].to_numpy()[late]
    assert probability[failed].mean() > 3 * probability[~failed].mean()
    worst = trained.forecast(features[late[[int(np.argmax(probability))]]], ["sour/x"])[0]
    assert worst.reasons[0].points > 0.1
    assert any("failures" in reason.what for reason in worst.reasons)


def test_the_parts_of_a_prediction_add_up(runs, trained):
    features, _ = honest(runs)
    trees = trained.failure
    mean = trees.baseline + float(trees.value[trees.roots].sum())
    for row in (10, 500, 2500):
        total = mean + float(trees.contributions(features[row]).sum())
        assert total == pytest.approx(float(trees.predict(features[row][None, :])[0]), abs=1e-9)


def test_quantiles_cover_what_they_promise(runs, trained):
    features, _ = honest(runs)
    forecasts = forecast_all(trained, runs, features, float(runs["submitted_s"].iloc[2000]))
    logs = np.log1p(duration_s(runs).to_numpy()[forecasts.index])
    assert 0.86 <= np.mean(logs <= forecasts["p90_log"]) <= 0.94
    assert 0.40 <= np.mean(logs <= forecasts["p50_log"]) <= 0.60
    assert (forecasts["p90_log"] >= forecasts["p50_log"]).all()


def test_a_forecaster_survives_the_disk_and_refuses_damage(tmp_path, runs, trained):
    features, _ = honest(runs)
    trained.save(tmp_path)
    again = Forecaster.load(tmp_path)
    np.testing.assert_array_equal(again.failure_probability(features), trained.failure_probability(features))
    names = runs["deployment"].tolist()[:3]
    assert again.forecast(features[:3], names) == trained.forecast(features[:3], names)
    blob = bytearray((tmp_path / "forecaster.npz").read_bytes())
    blob[100] ^= 1
    (tmp_path / "forecaster.npz").write_bytes(bytes(blob))
    with pytest.raises(InvalidInputError, match="not the ones the manifest was made for"):
        Forecaster.load(tmp_path)
    manifest = json.loads((tmp_path / "forecaster.json").read_text())
    (tmp_path / "forecaster.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(InvalidInputError, match="reads format 1"):
        Forecaster.load(tmp_path)


def test_live_and_replayed_features_are_the_same(runs):
    part = runs.iloc[:200].reset_index(drop=True)
    expected, _ = honest(part)
    state = FeatureState()
    moments = sorted(
        [(row.submitted_s, 0, row.Index) for row in part.itertuples()]
        + [(row.started_s, 1, row.Index) for row in part.itertuples()]
        + [(row.ended_s, 2, row.Index) for row in part.itertuples()]
    )
    for at_s, kind, index in moments:
        row = part.iloc[index]
        run = SubmittedRun(row["run_id"], row["deployment"], row["pool"], row["queue"])
        if kind == 0:
            np.testing.assert_allclose(state.features(run, at_s), expected[index])
            state.submit(run, at_s)
        elif kind == 1:
            state.start(run.run_id, at_s)
        else:
            state.finish(run.run_id, at_s, failed=bool(row["failed"]))


def test_too_little_history_says_so(runs):
    with pytest.raises(InvalidInputError, match="not enough data: 200 are needed"):
        train(runs.iloc[:150])


def test_one_outcome_only_gives_the_smoothed_rate(runs):
    only = runs[~runs["failed"]].iloc[:400].reset_index(drop=True)
    forecaster = train(only, iterations=20)
    features, _ = honest(only)
    assert forecaster.failure is None
    assert forecaster.failure_probability(features[:2]) == pytest.approx([0.5 / 401] * 2)
    assert forecaster.reasons(features[0]) == ()


def test_the_book_falls_back_from_kind_to_deployment_to_pool():
    book = DurationQuantiles()
    assert book.estimate(SubmittedRun("1", "new/x")).p50_s == pytest.approx(60.0)
    assert book.estimate(SubmittedRun("1", "new/x", expected_s=300.0)).p50_s == pytest.approx(300.0)
    for second in (10.0, 11.0, 12.0):
        book.learn(SubmittedRun("1", "old/x", pool="p"), second)
    assert book.estimate(SubmittedRun("1", "new/x", pool="p")).p50_s == pytest.approx(11.0)
    for _ in range(5):
        book.learn(SubmittedRun("1", "new/x", pool="p", size=1.0), 100.0)
        book.learn(SubmittedRun("1", "new/x", pool="p", size=9.0), 900.0)
    assert book.estimate(SubmittedRun("1", "new/x", pool="p", size=9.0)).p50_s == pytest.approx(900.0)
    assert 100.0 <= book.estimate(SubmittedRun("1", "new/x", pool="p", size=4.0)).p50_s <= 900.0


def test_a_hung_run_stands_out_and_does_not_stretch_the_limit():
    book = DurationQuantiles()
    assert book.longest_usual_s("a/x") is None
    rng = np.random.default_rng(0)
    for _ in range(49):
        book.learn(SubmittedRun("1", "a/x"), float(np.exp(rng.normal(5.0, 0.2))))
    before = book.longest_usual_s("a/x")
    book.learn(SubmittedRun("1", "a/x"), 86400.0)
    assert before is not None
    assert math.exp(5.0) < before < 5 * math.exp(5.0)
    assert book.longest_usual_s("a/x") == pytest.approx(before, rel=0.3)


def test_learn_book_reads_a_table(runs):
    assert learn_durations(runs).known("a/x") == 50


def test_beta_calibration_mends_overconfidence_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.95, 4000)
    failed = (rng.random(4000) < truth).astype(float)
    too_sure = 1 / (1 + ((1 - truth) / truth) ** 2)
    fitted = BetaCalibration.fit(too_sure, failed)
    assert np.abs(fitted(too_sure) - truth).mean() < 0.02
    assert BetaCalibration.fit(truth[:20], failed[:20]) == BetaCalibration()
    assert BetaCalibration.fit(truth, np.ones(4000)) == BetaCalibration()


def test_coverage_holds_even_when_the_world_changes():
    coverage, hits = ConformalOffset(0.9), 0
    rng = np.random.default_rng(0)
    for step in range(4000):
        seen = float(rng.normal(0.0 if step < 2000 else 1.0, 0.5))
        hits += seen <= coverage.offset
        coverage.learn(missed=seen > coverage.offset)
    assert hits / 4000 == pytest.approx(0.9, abs=0.025)  # range of offsets 2 / (rate 0.02 x 4000)


def always(trained, seconds, **changes):
    """A forecaster whose trees promise the same of every run, and that knows of nothing after instant 0."""
    low = SimpleNamespace(predict=lambda features: np.zeros(len(features)))
    flat = SimpleNamespace(predict=lambda features: np.full(len(features), math.log1p(seconds)))
    known = {
        "coverage": ConformalOffset(0.9, rate=0.05),
        "selector": ForecastSelector(),
        "trained_on": {"until_s": 0.0},
    }
    return replace(trained, p50_log=low, p90_log=flat, **(known | changes))


def one_after_another(durations, *, gap_s, states=None):
    submitted = gap_s * np.arange(1, len(durations) + 1)
    return as_runs(
        pd.DataFrame(
            {
                "deployment": "etl/d",
                "submitted_s": submitted,
                "started_s": submitted,
                "ended_s": submitted + np.asarray(durations, dtype=float),
                "state": states or "COMPLETED",
            }
        )
    )


def test_a_run_that_outlives_its_promise_is_learned_from_before_it_ends(trained):
    durations = np.random.default_rng(3).lognormal(math.log(60.0), 0.5, 1200)
    durations[400:] *= 3000.0  # from now on runs take two days, and the first of them ends when all are submitted
    runs = one_after_another(durations, gap_s=100.0)
    forecaster = always(trained, 60.0)
    forecasts = forecast_all(forecaster, runs, honest(runs)[0], 0.0)
    promised = forecasts["p90_log"].to_numpy()
    assert promised[500] > promised[399] + 1.0  # nothing of it has ended yet, but much has outlived its promise
    assert np.mean(np.log1p(durations[600:]) <= promised[600:]) > 0.5
    assert forecaster.coverage.offset == 0.0


def test_a_cancelled_run_takes_back_what_it_taught(trained):
    features = honest(runs := one_after_another([10.0, 5000.0, 10.0], gap_s=10_000.0))[0]
    states = ["COMPLETED", "CANCELLED", "COMPLETED"]
    cancelled = one_after_another([10.0, 5000.0, 10.0], gap_s=10_000.0, states=states)
    forecaster = always(trained, 60.0)
    taught, untaught = (forecast_all(forecaster, table, features, 0.0)["p90_log"] for table in (runs, cancelled))
    assert taught[2] - taught[1] == pytest.approx(0.045)
    assert untaught[2] == untaught[1]


def test_what_came_after_the_training_moves_the_offset_and_what_came_before_does_not(trained):
    runs = one_after_another([600.0] * 40, gap_s=1000.0)
    followed = update_online(always(trained, 60.0), runs)
    assert followed.coverage.offset > 0.9
    assert followed.forecast(honest(runs)[0][:1], ["etl/d"])[0].estimate.p90_s > 120.0
    known = always(trained, 60.0)
    known.trained_on["until_s"] = 1e9
    assert update_online(known, runs) is known


def test_rows_before_an_instant_are_remembered_without_being_looked_at(runs):
    whole, _ = honest(runs)
    since_s = float(runs["submitted_s"].iloc[1500])
    part, _ = encode_runs(runs, since_s=since_s)
    later = runs["submitted_s"].to_numpy() >= since_s
    np.testing.assert_array_equal(part[later], whole[later])
    assert np.isnan(part[~later]).all()


def test_swf_rows_that_say_nothing_are_refused():
    with pytest.raises(InvalidInputError, match="'wait' is needed"):
        from_swf(pd.DataFrame({"submit": [1]}))
    empty = pd.DataFrame({"submit": [1.0], "wait": [0.0], "run": [-1.0], "status": [1], "user": [1]})
    with pytest.raises(InvalidInputError, match="no row with a run time"):
        from_swf(empty)


def test_a_skewed_clock_is_mended_and_counted():
    frame = pd.DataFrame(
        {
            "deployment": ["a/x", "a/x"],
            "submitted_s": [100.0, 200.0],
            "started_s": [90.0, 210.0],
            "ended_s": [95.0, 205.0],
            "state": ["COMPLETED", "FAILED"],
            "colour": ["red", "blue"],
        }
    )
    runs = as_runs(frame)
    assert duration_s(runs).tolist() == [0.0, 0.0]
    assert runs.attrs["mended"] == 2
    assert "colour" not in runs.columns
    with pytest.raises(InvalidInputError, match="must hold numbers"):
        as_runs(frame.assign(submitted_s=["x", "y"]))


def test_every_status_of_the_format_is_understood():
    rows = {"submit": range(8), "wait": 0, "run": 1, "user": 1, "group": [np.inf] * 8}
    mixed = from_swf(pd.DataFrame({**rows, "status": [0, 1, 2, 3, 4, 5, -1, np.nan]}))
    assert list(mixed["state"]) == [
        "FAILED", "COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED",
    ]  # fmt: skip
    unknown = from_swf(pd.DataFrame({**rows, "status": -1}))
    assert set(unknown["state"]) == {"COMPLETED"}
