"""The trained forecaster: failure probability and duration quantiles of a run before it starts, by boosted trees."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.domain import Estimate
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.forecasting.boosted_trees import Loss, TreeParameters, Trees, fit
from prefect_intelligent.forecasting.calibration import BetaCalibration, ConformalOffset, sigmoid
from prefect_intelligent.forecasting.forecast_selection import ForecastSelector, candidate_forecasts
from prefect_intelligent.forecasting.key_statistics import KEY_FEATURES
from prefect_intelligent.forecasting.parameter_tree import PARAMETER_FEATURES
from prefect_intelligent.forecasting.point_in_time_features import (
    LEVELS_PREFECT,
    NO_CONTEXT,
    RUN_FEATURES,
    Context,
    Levels,
    encode_runs,
    feature_names,
)
from prefect_intelligent.history.runs_frame import duration_s, settled

Array = npt.NDArray[np.float64]

FORMAT: Final = 1
MIN_RUNS: Final = 200
"""Ended runs needed for training; below it the duration baseline and the smoothed failure rate serve."""

_FAILURE = TreeParameters(learning_rate=0.03, iterations=300, leaves=15, min_leaf=60, l2=20.0, feature_share=0.15)
_MEAN = TreeParameters(learning_rate=0.03, iterations=300, leaves=7, min_leaf=60, l2=20.0, feature_share=0.3)
_QUANTILE = TreeParameters(learning_rate=0.05, iterations=250, leaves=15, min_leaf=40, l2=5.0, feature_share=0.3)
_MAX_LOG: Final = 20.0
_COVERAGE_RATE: Final = 0.05
"""Chosen on synthetic logs with jumps and drift and on two recorded ones; coverage on those is no independent test."""
_MIN_SPREAD: Final = 0.1
_WORDING: Final = {
    **dict.fromkeys(("the same work", "this size", "this time limit"), "the deployment"),
    "the same parameters": "runs with such parameters",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastReason:
    """One contribution to a failure probability.

    Attributes:
        what: Its wording, e.g. "recent failures of the deployment".
        points: Change of the probability against the average run, -1 to 1.
    """

    what: str
    points: float

    def __str__(self) -> str:
        return f"{self.what}: {'+' if self.points >= 0 else '−'}{abs(self.points) * 100:.0f} points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Duration, failure probability and its reasons of one run before it starts."""

    estimate: Estimate
    failure_probability: float
    reasons: tuple[ForecastReason, ...] = ()


@dataclass(slots=True, kw_only=True)
class Forecaster:
    """Trained predictors of failure and duration. The caller provides the features.

    Attributes:
        levels: Levels of the features it was trained on.
        feature_names: Order of the features.
        failure: Trees for the log odds of failure; None if the training runs had one outcome only.
        base_rate: Share of failed runs in training.
        calibration: From raw to calibrated probability.
        mean_log, p50_log, p90_log: Trees for the mean, median and 90 % quantile of log(1 + seconds).
        coverage: Offset of the 90 % quantile, updated online.
        selector: Choice between candidates for the median, updated online.
        trained_on: Figures of the training, stored with it.
    """

    levels: Levels
    feature_names: tuple[str, ...]
    failure: Trees | None
    base_rate: float
    calibration: BetaCalibration
    mean_log: Trees
    p50_log: Trees
    p90_log: Trees
    coverage: ConformalOffset
    selector: ForecastSelector = field(default_factory=ForecastSelector)
    trained_on: dict[str, float] = field(default_factory=dict)

    def failure_probability(self, features: Array) -> Array:
        """Calibrated failure probability per row of features, shape (n,)."""
        if self.failure is None:
            return np.full(len(features), self.base_rate)
        return self.calibration(sigmoid(self.failure.predict(features)))

    def median_candidates(self, features: Array) -> Array:
        """Candidates for the median in log seconds, that of the trees first; shape (n, candidates)."""
        return candidate_forecasts(self.p50_log.predict(features), features, self.feature_names)

    def quantiles(self, deployment: str, candidates: Sequence[float], tree_p90: float) -> tuple[float, float]:
        """Median and 90 % quantile of one run, log seconds.

        A chosen median above the 90 % quantile raises the quantile above it (by the offset, at least 0.1), and loses
        half of its excess: otherwise one long run would make the next forecast as long.

        Args:
            deployment: Deployment of the run.
            candidates: Its row of `median_candidates`.
            tree_p90: The 90 % quantile by the trees, log seconds.
        """
        median, offset = self.selector.choose(deployment, candidates), self.coverage.offset
        high = tree_p90 + offset
        if median < high:
            return median, high
        excess = max(0.0, median - max(high, candidates[0]))
        return median - 0.5 * excess, median + max(_MIN_SPREAD, offset)

    def forecast(self, features: Array, deployments: Sequence[str], *, reasons: int = 3) -> list[Forecast]:
        """Forecasts for rows of features, as from `FeatureState.features`, with the deployment of each row."""
        probability = self.failure_probability(features)
        candidates = self.median_candidates(features).tolist()
        tree_p90 = self.p90_log.predict(features).tolist()
        logs = np.array([self.quantiles(*each) for each in zip(deployments, candidates, tree_p90, strict=True)])
        p50, p90 = (np.maximum(0.001, np.expm1(np.clip(x, 0.0, _MAX_LOG))) for x in logs.reshape(-1, 2).T)
        return [
            Forecast(
                estimate=Estimate(p50_s=float(p50[row]), p90_s=float(p90[row])),
                failure_probability=float(probability[row]),
                reasons=self.reasons(features[row])[:reasons],
            )
            for row in range(len(features))
        ]

    def reasons(self, row: Array) -> tuple[ForecastReason, ...]:
        """Contributions to the failure probability of one row, largest first; features of one wording are summed."""
        if self.failure is None:
            return ()
        parts = self.failure.contributions(row)
        groups: dict[str, float] = {}
        for name, part in zip(self.feature_names, parts, strict=True):
            wording = describe_feature(name)
            groups[wording] = groups.get(wording, 0.0) + float(part)
        raw = float(self.failure.predict(row[None, :])[0])
        with_all = float(self.calibration(sigmoid(np.array([raw])))[0])
        found = [
            ForecastReason(what=wording, points=with_all - float(self.calibration(sigmoid(np.array([raw - part])))[0]))
            for wording, part in groups.items()
        ]
        return tuple(sorted((r for r in found if abs(r.points) >= 0.005), key=lambda r: -abs(r.points)))

    def save(self, folder: Path) -> str:
        """Write `forecaster.json` and `forecaster.npz` and return the digest of the arrays."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for name in ("failure", "mean_log", "p50_log", "p90_log"):
            trees: Trees | None = getattr(self, name)
            if trees is not None:
                arrays.update(trees.arrays(name))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        manifest = {
            "format": FORMAT,
            "sha256": digest,
            "levels": {name: list(columns) for name, columns in self.levels.items()},
            "feature_names": list(self.feature_names),
            "base_rate": self.base_rate,
            "calibration": asdict(self.calibration),
            "coverage": asdict(self.coverage),
            "trust": asdict(self.selector),
            "trained_on": self.trained_on,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "forecaster.npz").write_bytes(buffer.getvalue())
        (folder / "forecaster.json").write_text(json.dumps(manifest, indent=1) + "\n")
        return digest

    @classmethod
    def load(cls, folder: Path) -> Forecaster:
        """Read what `save` wrote.

        Raises:
            InvalidInputError: A file is missing, damaged or of another format.
        """
        try:
            manifest = json.loads((folder / "forecaster.json").read_text())
            blob = (folder / "forecaster.npz").read_bytes()
        except (OSError, ValueError) as error:
            raise InvalidInputError("forecaster", str(folder), f"cannot be read ({error})") from error
        if manifest.get("format") != FORMAT:
            raise InvalidInputError("forecaster format", manifest.get("format"), f"this version reads format {FORMAT}")
        if hashlib.sha256(blob).hexdigest() != manifest["sha256"]:
            raise InvalidInputError("forecaster", str(folder), "the arrays are not the ones the manifest was made for")
        with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
            trees: Mapping[str, npt.NDArray[np.generic]] = {name: arrays[name] for name in arrays.files}
        return cls(
            levels={name: tuple(columns) for name, columns in manifest["levels"].items()},
            feature_names=tuple(manifest["feature_names"]),
            failure=Trees.from_arrays(trees, "failure") if "failure.head" in trees else None,
            base_rate=float(manifest["base_rate"]),
            calibration=BetaCalibration(**manifest["calibration"]),
            mean_log=Trees.from_arrays(trees, "mean_log"),
            p50_log=Trees.from_arrays(trees, "p50_log"),
            p90_log=Trees.from_arrays(trees, "p90_log"),
            coverage=ConformalOffset(**manifest["coverage"]),
            selector=ForecastSelector(**manifest.get("trust", {})),
            trained_on=manifest["trained_on"],
        )


def describe_feature(feature: str) -> str:
    """The wording of a feature in a reason; several features share one."""
    level, _, name = feature.rpartition(": ")
    if not level:
        return RUN_FEATURES[name]
    wording = KEY_FEATURES[name] if name in KEY_FEATURES else PARAMETER_FEATURES[name]
    return f"{wording} of {_WORDING.get(level, level)}"


def train(
    runs: pd.DataFrame,
    *,
    levels: Levels = LEVELS_PREFECT,
    until_s: float = math.inf,
    seed: int = 0,
    features: Array | None = None,
    iterations: int | None = None,
    context: Context = NO_CONTEXT,
) -> Forecaster:
    """Train on the runs that had ended by `until_s`.

    The newest quarter of them is first held out to fit the calibration, the offset of the 90 % quantile and the choice
    between candidates for the median; then the trees are trained on all of them.

    Args:
        runs: As from `as_runs`.
        levels: Levels of the features.
        until_s: Nothing after this instant is used, Unix seconds.
        seed: Seed of the trees.
        features: As from `encode_runs(runs, levels, context)`, if they are computed already.
        iterations: Trees per model; fewer are quicker and coarser than the default.
        context: Upstream deployments, and the quality checks of their outputs.

    Raises:
        InvalidInputError: Fewer than `MIN_RUNS` ended runs.
    """
    if features is None:
        features, names = encode_runs(runs, levels, context)
    else:
        names = feature_names(levels)
    usable = (settled(runs) & (runs["ended_s"] <= until_s) & (runs["submitted_s"] < until_s)).to_numpy()
    rows = np.flatnonzero(usable)
    if len(rows) < MIN_RUNS:
        raise InvalidInputError("ended runs to learn from", len(rows), f"not enough data: {MIN_RUNS} are needed")
    failed = runs["failed"].to_numpy(dtype=float)
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float))
    split_s = float(runs["submitted_s"].to_numpy()[rows[int(0.75 * len(rows))]])
    early = rows[runs["ended_s"].to_numpy()[rows] <= split_s]
    late = rows[runs["submitted_s"].to_numpy()[rows] >= split_s]
    calibration, coverage, selector = BetaCalibration(), ConformalOffset(0.9), ForecastSelector()
    if len(early) >= MIN_RUNS // 2:
        first = _fit(features[early], failed[early], logs[early], names, levels, seed, iterations)
        calibration = BetaCalibration.fit(first.failure_probability(features[late]), failed[late])
        coverage = ConformalOffset.fit(
            first.p90_log.predict(features[late]), logs[late], share=0.9, rate=_COVERAGE_RATE
        )
        late = late[np.argsort(runs["ended_s"].to_numpy()[late], kind="stable")]
        for row, candidates in zip(late, first.median_candidates(features[late]).tolist(), strict=True):
            selector.learn(str(runs["deployment"].iat[row]), candidates, float(logs[row]))
    final = _fit(features[rows], failed[rows], logs[rows], names, levels, seed, iterations)
    return replace(final, calibration=calibration, coverage=coverage, selector=selector)


def _fit(
    features: Array,
    failed: Array,
    logs: Array,
    names: tuple[str, ...],
    levels: Levels,
    seed: int,
    iterations: int | None,
) -> Forecaster:
    def fitted(parameters: TreeParameters, target: Array, loss: Loss, quantile: float | None = None) -> Trees:
        chosen = parameters if iterations is None else replace(parameters, iterations=iterations)
        return fit(features, target, loss=loss, quantile=quantile, parameters=chosen, seed=seed)

    two_outcomes = 5 <= failed.sum() <= len(failed) - 5
    return Forecaster(
        levels=levels,
        feature_names=names,
        failure=fitted(_FAILURE, failed, "log_loss") if two_outcomes else None,
        base_rate=float((failed.sum() + 0.5) / (len(failed) + 1.0)),
        calibration=BetaCalibration(),
        mean_log=fitted(_MEAN, logs, "squared_error"),
        p50_log=fitted(_QUANTILE, logs, "quantile", 0.5),
        p90_log=fitted(_QUANTILE, logs, "quantile", 0.9),
        coverage=ConformalOffset(0.9),
        trained_on={"runs": float(len(failed)), "failed": float(failed.sum())},
    )
