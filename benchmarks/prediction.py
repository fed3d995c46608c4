"""Accuracy of the forecasts of failures and durations on a workload log, compared with simple rules.

    python -m benchmarks.prediction --trace ../shared/traces/kth_sp2_1996.csv.gz --json

The first 70 % of the rows (by submission) are the training part: only runs that had ended when the test part begins are
learned from, and every choice is made on a validation cut inside them. In the test part each forecast is made with what
was known when the run was submitted; the features, the choice between candidates for the median and the offset of the
90 % quantile are updated by each run that ends, the trees are not. The baselines are updated in the same way.

A second log is made up, with a failure that hangs on what a run is asked to do: `parameter_failure_auc` is that of the
forecaster, `blind_failure_auc` that of one that is not told the parameters, `parameter_best_auc` what nobody can beat;
`parameter_duration_rmsle` and `blind_duration_rmsle` are the same of durations, which hang on a parameter too. Extra
columns of a log that is given are parameters of its runs.

One predictor per figure: RMSLE is of the mean of the log duration, "within 2x" of the median, coverage of the 90 %
quantile. Any log with the columns submit, wait, run, status and user can be given (and procs, reqtime, group).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.forecaster import train
from prefect_intelligent.forecasting.online_update import forecast_all
from prefect_intelligent.forecasting.point_in_time_features import (
    LEVELS_SWF,
    LEVELS_SWF_PARAMETERS,
    encode_runs,
    find_leaks,
    run_events,
    submitted_runs,
)
from prefect_intelligent.history.runs_frame import duration_s, from_swf, settled

Array = npt.NDArray[np.float64]
DEFAULT_TRACE = "../shared/traces/kth_sp2_1996.csv.gz"
WEEK_S = 7 * 86400.0


def read_trace(path: Path) -> pd.DataFrame:
    """The runs of a log; its first week is a machine's start-up and dropped where two months are there."""
    if not path.exists():
        raise InvalidInputError("trace", str(path), "no such file; give one with --trace")
    try:
        frame = pd.read_csv(path)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise InvalidInputError("trace", str(path), f"cannot be read as a table: {error}") from error
    if "submit" not in frame.columns:
        raise InvalidInputError("columns of the trace", list(frame.columns), "the column 'submit' is needed")
    if frame.empty:
        raise InvalidInputError("trace", str(path), "not enough data: it has no rows")
    submit = pd.to_numeric(frame["submit"], errors="coerce")
    long_enough = float(submit.max() - submit.min()) > 60 * 86400.0
    return from_swf(frame, warm_up_s=WEEK_S if long_enough else 0.0)


def failure_figures(probability: Array, failed: Array) -> dict[str, float]:
    """AUC, average precision and Brier score; nothing if there is one outcome only."""
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    if len(failed) == 0 or failed.min() == failed.max():
        return {}
    return {
        "auc": float(roc_auc_score(failed, probability)),
        "ap": float(average_precision_score(failed, probability)),
        "brier": float(brier_score_loss(failed, probability)),
    }


def calibration_error(probability: Array, failed: Array, bins: int = 10) -> float:
    """Mean distance between promised and seen failure share over ten equally full bins."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(float(probability[part].mean() - failed[part].mean())) for part in parts]
    return sum(gaps) / len(order)


def duration_figures(log_predicted: Array, seconds: Array) -> dict[str, float]:
    """RMSLE, share within a factor of two (durations below a second count as one) and MAE in seconds."""
    predicted = np.expm1(log_predicted)
    ratio = np.maximum(predicted, 1.0) / np.maximum(seconds, 1.0)
    return {
        "rmsle": float(np.sqrt(np.mean((log_predicted - np.log1p(seconds)) ** 2))),
        "within_2x": float(np.mean((ratio >= 0.5) & (ratio <= 2.0))),
        "mae_s": float(np.mean(np.abs(predicted - seconds))),
    }


def book_forecasts(runs: pd.DataFrame) -> tuple[Array, Array]:
    """Median and 90 % quantile (logs) that the untrained duration book gives each run at its submission."""
    book = DurationQuantiles()
    middle, high = np.empty(len(runs)), np.empty(len(runs))
    counts, seconds, work = settled(runs).to_numpy(), duration_s(runs).to_numpy(), submitted_runs(runs)
    for kind, row in run_events(runs):
        if kind == 0:
            estimate = book.estimate(work[row])
            middle[row], high[row] = np.log1p(estimate.p50_s), np.log1p(estimate.p90_s)
        elif kind == 2 and counts[row]:
            book.learn(work[row], seconds[row])
    return middle, high


def planted_log(seed: int, count: int = 3000) -> tuple[pd.DataFrame, Array]:
    """A log whose runs fail for large `rows` in the mode "full", as a table of its format; and their failure chances.

    Users, times, processors and three other parameters tell nothing. The longer runs have more rows.
    """
    rng = np.random.default_rng(seed)
    mode, rows = rng.choice(["full", "delta", "check"], count, p=[0.5, 0.3, 0.2]), rng.integers(1, 1_000_000, count)
    chance = np.where((mode == "full") & (rows > 400_000), 0.96, 0.02)
    log = pd.DataFrame(
        {
            "submit": np.cumsum(rng.exponential(300.0, count)),
            "wait": rng.exponential(30.0, count),
            "run": (20.0 + rows / 1000.0) * np.exp(rng.normal(0.0, 0.3, count)),
            "status": np.where(rng.random(count) < chance, 0, 1),
            "user": rng.integers(0, 6, count),
            "mode": mode,
            "rows": rows,
            "region": rng.choice([f"r{number}" for number in range(20)], count),
            "dry_run": rng.random(count) < 0.5,
            "share": rng.random(count),
        }
    )
    return log, chance


def measure_parameters(seed: int) -> dict[str, float]:
    """Figures of the made-up log, with its parameters and without."""
    log, chance = planted_log(seed)
    told = from_swf(log)
    cut = int(0.7 * len(told))
    failed = told["failed"].to_numpy(dtype=float)[cut:]
    seconds = duration_s(told).to_numpy(dtype=float)[cut:]
    figures = {"parameter_best_auc": failure_figures(chance[cut:], failed)["auc"]}
    for name, runs, levels in (
        ("parameter", told, LEVELS_SWF_PARAMETERS),
        ("blind", told.assign(parameters=None), LEVELS_SWF),
    ):
        features, _ = encode_runs(runs, levels)
        cut_s = float(runs["submitted_s"].iloc[cut])
        forecasts = forecast_all(
            train(runs, levels=levels, until_s=cut_s, seed=seed, features=features), runs, features, cut_s
        )
        figures |= rename(f"{name}_failure", failure_figures(forecasts["failure_probability"].to_numpy(), failed))
        figures |= rename(f"{name}_duration", duration_figures(forecasts["mean_log"].to_numpy(), seconds))
        part = runs.iloc[:500].reset_index(drop=True)
        leaks = find_leaks(partial(encode_runs, levels=levels), part, np.random.default_rng(seed))
        figures[f"{name}_leaking_features"] = len(leaks)
    return figures


def rename(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures with their names after `prefix`."""
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def measure(runs: pd.DataFrame, *, seed: int = 0) -> tuple[dict[str, float], dict[str, object]]:
    """All figures of one log."""
    levels = LEVELS_SWF_PARAMETERS if runs["parameters"].notna().any() else LEVELS_SWF
    features, names = encode_runs(runs, levels)
    cut = int(0.7 * len(runs))
    cut_s = float(runs["submitted_s"].iloc[cut])
    forecaster = train(runs, levels=levels, until_s=cut_s, seed=seed, features=features)
    forecasts = forecast_all(forecaster, runs, features, cut_s)
    rows = forecasts.index.to_numpy()
    rows = rows[settled(runs).to_numpy()[rows]]
    forecasts = forecasts.loc[rows]
    failed = runs["failed"].to_numpy(dtype=float)[rows]
    seconds = duration_s(runs).to_numpy(dtype=float)[rows]
    before = settled(runs).to_numpy() & (runs["ended_s"].to_numpy() <= cut_s)
    base_rate = float(runs["failed"].to_numpy()[before].mean())
    middle = float(np.log1p(np.median(duration_s(runs).to_numpy()[before])))

    def feature(name: str, missing: float | Array) -> Array:
        column = features[rows, names.index(name)]
        return np.where(np.isnan(column), missing, column)

    probability = forecasts["failure_probability"].to_numpy()
    figures = rename("failure", failure_figures(probability, failed))
    if figures:
        figures["failure_calibration_error"] = calibration_error(probability, failed)
        last_two = (
            feature("the deployment: last_failed", base_rate) + feature("the deployment: before_last_failed", base_rate)
        ) / 2
        figures |= rename("ewma", failure_figures(feature("the deployment: failure_recent", base_rate), failed))
        figures |= rename("lifetime_rate", failure_figures(feature("the deployment: failure_rate", base_rate), failed))
        figures |= rename("last_two", failure_figures(last_two, failed))
    mean, median = (forecasts[name].to_numpy() for name in ("mean_log", "p50_log"))
    of_mean, of_median = duration_figures(mean, seconds), duration_figures(median, seconds)
    figures["duration_rmsle"] = of_mean["rmsle"]
    figures["duration_within_2x"] = of_median["within_2x"]
    figures["duration_mae_s"] = of_median["mae_s"]
    figures["p90_coverage"] = float(np.mean(np.log1p(seconds) <= forecasts["p90_log"].to_numpy()))
    figures["p50_coverage"] = float(np.mean(np.log1p(seconds) <= median))
    by_user = feature("the deployment: log_duration_recent", middle)
    last = feature("the deployment: last_duration", middle)
    two = np.log1p((np.expm1(last) + np.expm1(feature("the deployment: before_last_duration", last))) / 2)
    baselines = {
        "global_median": np.full(len(rows), middle),
        "last_two": two,
        "ewma": feature("the same work: log_duration_recent", by_user),
        "user_estimate": feature("log_expected", middle),
    }
    book_middle, book_high = book_forecasts(runs)
    baselines["book"] = book_middle[rows]
    for name, log_predicted in baselines.items():
        figures |= rename(f"{name}_duration", duration_figures(log_predicted, seconds))
    figures["book_p90_coverage"] = float(np.mean(np.log1p(seconds) <= book_high[rows]))
    part = runs.iloc[: min(len(runs), 3000)].reset_index(drop=True)
    leaks = find_leaks(lambda table: encode_runs(table, levels), part, np.random.default_rng(seed))
    figures["leaking_features"] = len(leaks)
    figures["test_runs"] = len(rows)
    figures["test_failed_share"] = float(failed.mean())
    context: dict[str, object] = {
        "split": "first 70 % by submission to train, the rest to test",
        "train_runs": forecaster.trained_on["runs"],
        "seed": seed,
        "features": len(names),
        "rmsle_of": "mean of the log duration",
        "within_2x_of": "median",
    }
    if "failure_auc" not in figures:
        context["failure"] = "not enough data: the log has one outcome only"
    return figures, context


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trace", type=Path, default=Path(DEFAULT_TRACE), help="CSV with the columns of the SWF")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        figures, context = measure(read_trace(args.trace), seed=args.seed)
        figures |= measure_parameters(args.seed)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"figures": figures, "context": {"trace": args.trace.name, **context}}))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:10.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
