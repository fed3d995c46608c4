"""Evaluation of a forecaster on runs it was not trained on, and detection of drift since its training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.forecasting.calibration import sigmoid
from prefect_intelligent.forecasting.forecaster import MIN_RUNS, Forecaster, train
from prefect_intelligent.forecasting.online_update import forecast_all
from prefect_intelligent.forecasting.point_in_time_features import (
    LEVELS_PREFECT,
    NO_CONTEXT,
    Context,
    Levels,
    encode_runs,
)
from prefect_intelligent.history.runs_frame import duration_s, settled

Array = npt.NDArray[np.float64]

TRAINING_SHARE: Final = 0.8
MIN_RUNS_FOR_DRIFT: Final = 100
"""Ended runs since the training that `check_drift` needs."""
_SIGNIFICANT: Final = 3.0  # standard deviations
_MAX_PSI: Final = 0.25  # population stability index; above is usually called a shift
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterEvaluation:
    """Figures and curves of a forecaster on test runs.

    Attributes:
        figures: `auc`, `ap`, `brier`, `calibration_error` (of failures, absent if there was one outcome only), `rmsle`,
            `within_2x`, `p90_coverage`, `test_runs`, `test_failed_share`, and `baseline_brier`, that of the constant
            forecast of the training share.
        calibration: Rows of (mean forecast, share failed, runs) over ten equally full bins.
        roc: Shape (n, 2), false and true positive rate.
        precision_recall: Shape (n, 2), recall and precision.
        learning: Shape (n, 3), trees, log loss on the training runs and on the test runs.
    """

    figures: dict[str, float]
    calibration: Array
    roc: Array
    precision_recall: Array
    learning: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastDrift:
    """Whether a forecaster has drifted since its training.

    Attributes:
        runs: Ended runs since its training.
        enough: Whether they are enough for a decision.
        retrain: Whether it should be trained again.
        reasons: Why, a sentence each.
        figures: `brier`, `expected_brier`, `p90_coverage`, `failed_share`, `promised_share`, `shift`.
    """

    runs: int
    enough: bool
    retrain: bool
    reasons: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "runs": self.runs,
            "enough": self.enough,
            "retrain": self.retrain,
            "reasons": list(self.reasons),
            "figures": self.figures,
        }


def train_and_evaluate(
    runs: pd.DataFrame,
    *,
    levels: Levels = LEVELS_PREFECT,
    seed: int = 0,
    iterations: int | None = None,
    context: Context = NO_CONTEXT,
) -> tuple[Forecaster, ForecasterEvaluation]:
    """A forecaster trained on all ended runs, and the evaluation of one trained on the first four fifths of them.

    Raises:
        InvalidInputError: Too few ended runs.
    """
    features, _ = encode_runs(runs, levels, context)
    usable = settled(runs).to_numpy()
    if int(usable.sum()) < MIN_RUNS:
        raise InvalidInputError(
            "ended runs to learn from", int(usable.sum()), f"not enough data: {MIN_RUNS} are needed"
        )
    cut_s = float(runs["submitted_s"].to_numpy()[np.flatnonzero(usable)[int(TRAINING_SHARE * usable.sum())]])
    final = train(runs, levels=levels, seed=seed, features=features, iterations=iterations)
    try:
        first = train(runs, levels=levels, until_s=cut_s, seed=seed, features=features, iterations=iterations)
    except InvalidInputError:  # the first four fifths are too few runs
        empty = np.empty((0, 2))
        nothing = ForecasterEvaluation(
            figures={}, calibration=np.empty((0, 3)), roc=empty, precision_recall=empty, learning=np.empty((0, 3))
        )
        return _with_figures(final, runs, {}), nothing
    found = evaluate_forecaster(first, runs, features, cut_s)
    return _with_figures(final, runs, found.figures), found


def _with_figures(forecaster: Forecaster, runs: pd.DataFrame, figures: dict[str, float]) -> Forecaster:
    """Add the last instant of the training runs and the test figures to `trained_on`, for `check_drift`."""
    ended = runs.loc[settled(runs), "ended_s"]
    forecaster.trained_on |= {"until_s": float(ended.max())} | {f"test_{k}": v for k, v in figures.items()}
    return forecaster


def evaluate_forecaster(
    forecaster: Forecaster, runs: pd.DataFrame, features: Array, since_s: float
) -> ForecasterEvaluation:
    """Figures and curves over the ended runs submitted from `since_s` on, each forecast as of its submission."""
    forecasts = forecast_all(forecaster, runs, features, since_s)
    rows = forecasts.index.to_numpy()
    rows = rows[settled(runs).to_numpy()[rows]]
    forecasts = forecasts.loc[rows]
    failed = runs["failed"].to_numpy(dtype=float)[rows]
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float)[rows])
    probability = forecasts["failure_probability"].to_numpy()
    figures = {"test_runs": float(len(rows)), "test_failed_share": float(failed.mean()) if len(rows) else 0.0}
    empty = np.empty((0, 2))
    roc = precision_recall = empty
    if len(rows):
        ratio = np.exp(np.abs(forecasts["p50_log"].to_numpy() - logs))
        figures |= {
            "rmsle": float(np.sqrt(np.mean((forecasts["mean_log"].to_numpy() - logs) ** 2))),
            "within_2x": float(np.mean(ratio <= 2.0)),
            "p90_coverage": float(np.mean(logs <= forecasts["p90_log"].to_numpy())),
        }
    if len(rows) and 0 < failed.sum() < len(failed):
        roc, precision_recall, auc, average = _curves(probability, failed)
        bins = calibration_bins(probability, failed)
        figures |= {
            "auc": auc,
            "ap": average,
            "brier": float(np.mean((probability - failed) ** 2)),
            "baseline_brier": float(np.mean((forecaster.base_rate - failed) ** 2)),
            "calibration_error": float(np.sum(bins[:, 2] * np.abs(bins[:, 0] - bins[:, 1])) / len(failed)),
        }
    before = np.flatnonzero(settled(runs).to_numpy() & (runs["ended_s"].to_numpy() <= since_s))
    return ForecasterEvaluation(
        figures=figures,
        calibration=calibration_bins(probability, failed) if len(rows) else np.empty((0, 3)),
        roc=roc,
        precision_recall=precision_recall,
        learning=_learning(forecaster, features, runs["failed"].to_numpy(dtype=float), before, rows),
    )


def calibration_bins(probability: Array, failed: Array) -> Array:
    """Rows of (mean forecast, share failed, runs) over ten equally full bins, shape (n, 3)."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, _BINS) if len(part)]
    return np.array([[probability[p].mean(), failed[p].mean(), len(p)] for p in parts]).reshape(-1, 3)


def check_drift(forecaster: Forecaster, runs: pd.DataFrame, context: Context = NO_CONTEXT) -> ForecastDrift:
    """Whether the forecasts still hold for the runs since the training.

    Four tests: the Brier score against its expectation for calibrated probabilities and the share of failures against
    the mean forecast (three standard deviations each), the coverage of the 90 % quantile, and the distribution of the
    forecasts themselves (population stability index above .25). Fewer than a hundred runs are not enough data.
    """
    until_s = float(forecaster.trained_on.get("until_s", -math.inf))
    features, _ = encode_runs(runs, forecaster.levels, context)
    later = runs["submitted_s"].to_numpy() > until_s
    new = np.flatnonzero(settled(runs).to_numpy() & later)
    if len(new) < MIN_RUNS_FOR_DRIFT:
        reason = f"not enough data: {len(new)} runs have ended since the training, {MIN_RUNS_FOR_DRIFT} are needed"
        return ForecastDrift(runs=len(new), enough=False, retrain=False, reasons=(reason,))
    forecasts = forecast_all(forecaster, runs, features, float(runs["submitted_s"].to_numpy()[new[0]]))
    probability = forecasts.loc[new, "failure_probability"].to_numpy()
    failed = runs["failed"].to_numpy(dtype=float)[new]
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float)[new])
    variance = probability * (1.0 - probability)
    brier, expected = float(np.mean((probability - failed) ** 2)), float(np.mean(variance))
    spread = math.sqrt(float(np.sum(variance * (1.0 - 2.0 * probability) ** 2))) / len(new)
    share_spread = math.sqrt(max(float(np.sum(variance)), 1e-12)) / len(new)
    coverage = float(np.mean(logs <= forecasts.loc[new, "p90_log"].to_numpy()))
    old = np.flatnonzero(settled(runs).to_numpy() & ~later)
    shift = 0.0 if len(old) < MIN_RUNS_FOR_DRIFT else _psi(forecaster.failure_probability(features[old]), probability)
    reasons = []
    if brier - expected > _SIGNIFICANT * max(spread, 1e-4):
        reasons.append(f"failures end otherwise than foretold: Brier {brier:.3f}, {expected:.3f} if calibrated")
    if abs(float(failed.mean() - probability.mean())) > _SIGNIFICANT * share_spread + 0.01:
        reasons.append(f"{failed.mean():.1%} of runs failed, {probability.mean():.1%} were foretold")
    if abs(coverage - 0.9) > _SIGNIFICANT * math.sqrt(0.09 / len(new)) + 0.02:
        reasons.append(f"the 90 % quantile of durations covered {coverage:.0%}")
    if shift > _MAX_PSI:
        reasons.append(f"forecasts have moved: stability index {shift:.2f}, {_MAX_PSI} is much")
    return ForecastDrift(
        runs=len(new),
        enough=True,
        retrain=bool(reasons),
        reasons=tuple(reasons) or ("forecasts hold",),
        figures={
            "brier": brier,
            "expected_brier": expected,
            "p90_coverage": coverage,
            "failed_share": float(failed.mean()),
            "promised_share": float(probability.mean()),
            "shift": shift,
        },
    )


def _psi(before: Array, after: Array) -> float:
    """Population stability index of two samples over the tenths of the first."""
    edges = np.unique(np.quantile(before, np.linspace(0.1, 0.9, 9)))
    shares = []
    for sample in (before, after):
        counts = np.bincount(np.searchsorted(edges, sample), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def _curves(probability: Array, failed: Array) -> tuple[Array, Array, float, float]:
    """ROC and precision-recall curve at each distinct probability, area under the first, average precision."""
    order = np.argsort(-probability, kind="stable")
    p, y = probability[order], failed[order]
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    true, shown = np.cumsum(y)[last], last + 1.0
    recall, precision = true / y.sum(), true / shown
    false = (shown - true) / (len(y) - y.sum())
    roc = np.vstack([[0.0, 0.0], np.stack([false, recall], axis=1)])
    auc = float(np.trapezoid(roc[:, 1], roc[:, 0]))
    average = float(np.sum(np.diff(np.append(0.0, recall)) * precision))
    return roc, np.stack([recall, precision], axis=1), auc, average


def _learning(
    forecaster: Forecaster, features: Array, failed: Array, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]
) -> Array:
    """Rows of (number of trees, log loss on training runs, log loss on test runs), shape (n, 3)."""
    if forecaster.failure is None or not len(before) or not len(after):
        return np.empty((0, 3))
    counts = np.unique(np.linspace(1, len(forecaster.failure.roots), 25).astype(int))
    rows = []
    for count in counts:
        part = forecaster.failure.first(int(count))
        losses = []
        for some in (before, after):
            p = np.clip(sigmoid(part.predict(features[some])), 1e-9, 1 - 1e-9)
            losses.append(float(-np.mean(failed[some] * np.log(p) + (1 - failed[some]) * np.log1p(-p))))
        rows.append([float(count), *losses])
    return np.array(rows)
