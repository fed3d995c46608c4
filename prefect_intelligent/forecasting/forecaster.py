"""Duration and failure of a run before it starts, from the ledger and two sets of boosted trees."""

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
from prefect_intelligent.forecasting.boosted_trees import Growth, Loss, Trees, fit
from prefect_intelligent.forecasting.calibration import BetaCalibration, Coverage, sigmoid
from prefect_intelligent.forecasting.forecast_selection import ForecastSelector, candidate_forecasts
from prefect_intelligent.forecasting.key_statistics import PER_LEVEL
from prefect_intelligent.forecasting.point_in_time_features import (
    GLOBAL,
    LEVELS_PREFECT,
    NOTHING,
    Context,
    Levels,
    encode,
)
from prefect_intelligent.history.runs_frame import duration_s, settled

Array = npt.NDArray[np.float64]

FORMAT: Final = 1
MIN_RUNS: Final = 200
"""Fewer ended runs than this are not learned from; the duration book and the smoothed rate serve until then."""

_FAILURE = Growth(learning_rate=0.03, iterations=300, leaves=15, min_leaf=60, l2=20.0, feature_share=0.15)
_MEAN = Growth(learning_rate=0.03, iterations=300, leaves=7, min_leaf=60, l2=20.0, feature_share=0.3)
_QUANTILE = Growth(learning_rate=0.05, iterations=250, leaves=15, min_leaf=40, l2=5.0, feature_share=0.3)
_LONGEST_LOG: Final = 20.0
_COVERAGE_RATE: Final = 0.05
"""Chosen on made logs with jumps and drift and on two recorded ones, whose coverage is no independent evidence."""
_LEAST_SPREAD: Final = 0.1
_SAID_AS: Final = dict.fromkeys(("the same work", "this size", "this time limit"), "the deployment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that moved a failure probability.

    Attributes:
        what: In words, e.g. "recent failures of the deployment".
        points: Probability it added (or took), -1 to 1, against the average run.
    """

    what: str
    points: float

    def __str__(self) -> str:
        return f"{self.what}: {'+' if self.points >= 0 else '−'}{abs(self.points) * 100:.0f} points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of one run before it starts."""

    estimate: Estimate
    failure_probability: float
    reasons: tuple[Reason, ...] = ()


@dataclass(slots=True, kw_only=True)
class Forecaster:
    """Trained predictors of failure and duration; the ledger that feeds them is the caller's.

    Attributes:
        levels: Keys of the ledger it was trained on.
        feature_names: Order of the features.
        failure: Trees of the log odds of failure; None if the training runs had one outcome only.
        base_rate: Share of failed runs in training.
        calibration: From raw to calibrated probability.
        mean_log, p50_log, p90_log: Trees of the mean, median and 90 % quantile of log(1 + seconds).
        coverage: Online offset of the 90 % quantile.
        trust: Online choice between the trees' median and what the same work took lately.
        trained_on: Facts about the training, for the record.
    """

    levels: Levels
    feature_names: tuple[str, ...]
    failure: Trees | None
    base_rate: float
    calibration: BetaCalibration
    mean_log: Trees
    p50_log: Trees
    p90_log: Trees
    coverage: Coverage
    trust: ForecastSelector = field(default_factory=ForecastSelector)
    trained_on: dict[str, float] = field(default_factory=dict)

    def failure_probability(self, features: Array) -> Array:
        """Calibrated probability per row of features."""
        if self.failure is None:
            return np.full(len(features), self.base_rate)
        return self.calibration(sigmoid(self.failure.predict(features)))

    def voices(self, features: Array) -> Array:
        """What each forecast says of the median, log seconds: the trees first; shape (runs, voices)."""
        return candidate_forecasts(self.p50_log.predict(features), features, self.feature_names)

    def quantiles(self, deployment: str, said: Sequence[float], bare: float) -> tuple[float, float]:
        """Median and 90 % quantile of one run, log seconds.

        A rival whose word is above the 90 % quantile raises that one, by the offset at least, and half of the excess is
        taken off the median: else one long run would make the next look as long.

        Args:
            deployment: Of the run.
            said: Its row of `voices`.
            bare: The 90 % quantile of the trees.
        """
        word, offset = self.trust.choose(deployment, said), self.coverage.offset
        high = bare + offset
        if word < high:
            return word, high
        return word - 0.5 * max(0.0, word - max(high, said[0])), word + max(_LEAST_SPREAD, offset)

    def forecast(self, features: Array, deployments: Sequence[str], *, reasons: int = 3) -> list[Forecast]:
        """Forecasts for rows of features as `Ledger.look` gives them, and the deployment of each."""
        probability = self.failure_probability(features)
        said = self.voices(features).tolist()
        bare = self.p90_log.predict(features).tolist()
        logs = np.array([self.quantiles(*each) for each in zip(deployments, said, bare, strict=True)])
        p50, p90 = (np.maximum(0.001, np.expm1(np.clip(x, 0.0, _LONGEST_LOG))) for x in logs.reshape(-1, 2).T)
        return [
            Forecast(
                estimate=Estimate(p50_s=float(p50[row]), p90_s=float(p90[row])),
                failure_probability=float(probability[row]),
                reasons=self.reasons(features[row])[:reasons],
            )
            for row in range(len(features))
        ]

    def reasons(self, row: Array) -> tuple[Reason, ...]:
        """What moved the failure probability of one row, strongest first; features that say the same are one reason."""
        if self.failure is None:
            return ()
        parts = self.failure.contributions(row)
        groups: dict[str, float] = {}
        for name, part in zip(self.feature_names, parts, strict=True):
            words = in_words(name)
            groups[words] = groups.get(words, 0.0) + float(part)
        raw = float(self.failure.predict(row[None, :])[0])
        with_all = float(self.calibration(sigmoid(np.array([raw])))[0])
        found = [
            Reason(what=words, points=with_all - float(self.calibration(sigmoid(np.array([raw - part])))[0]))
            for words, part in groups.items()
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
            "trust": asdict(self.trust),
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
            InvalidInputError: Files are missing, damaged or of another format.
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
            kept: Mapping[str, npt.NDArray[np.generic]] = {name: arrays[name] for name in arrays.files}
        return cls(
            levels={name: tuple(columns) for name, columns in manifest["levels"].items()},
            feature_names=tuple(manifest["feature_names"]),
            failure=Trees.from_arrays(kept, "failure") if "failure.head" in kept else None,
            base_rate=float(manifest["base_rate"]),
            calibration=BetaCalibration(**manifest["calibration"]),
            mean_log=Trees.from_arrays(kept, "mean_log"),
            p50_log=Trees.from_arrays(kept, "p50_log"),
            p90_log=Trees.from_arrays(kept, "p90_log"),
            coverage=Coverage(**manifest["coverage"]),
            trust=ForecastSelector(**manifest.get("trust", {})),
            trained_on=manifest["trained_on"],
        )


def in_words(feature: str) -> str:
    """A feature's name as a person would say it; several features share a wording."""
    level, _, name = feature.rpartition(": ")
    return f"{PER_LEVEL[name]} of {_SAID_AS.get(level, level)}" if level else GLOBAL[name]


def train(
    runs: pd.DataFrame,
    *,
    levels: Levels = LEVELS_PREFECT,
    until_s: float = math.inf,
    seed: int = 0,
    features: Array | None = None,
    iterations: int | None = None,
    around: Context = NOTHING,
) -> Forecaster:
    """Learn from the runs that had ended by `until_s`.

    The newest quarter of them is first held back to calibrate the probability and to start the trust in the medians and
    the offset of the 90 % quantile, and then learned from as well.

    Args:
        runs: As from `as_runs`.
        levels: Keys of the ledger.
        until_s: Nothing after this instant is used.
        seed: Of the trees.
        features: As from `encode(runs, levels, around)`, if they have been made already.
        iterations: Trees per model; fewer are quicker and coarser than the default.
        around: What is known of the world around the runs.

    Raises:
        InvalidInputError: Fewer than `MIN_RUNS` ended runs.
    """
    if features is None:
        features, names = encode(runs, levels, around)
    else:
        names = (*GLOBAL, *(f"{level}: {feature}" for level in levels for feature in PER_LEVEL))
    usable = (settled(runs) & (runs["ended_s"] <= until_s) & (runs["submitted_s"] < until_s)).to_numpy()
    rows = np.flatnonzero(usable)
    if len(rows) < MIN_RUNS:
        raise InvalidInputError("ended runs to learn from", len(rows), f"not enough data: {MIN_RUNS} are needed")
    failed = runs["failed"].to_numpy(dtype=float)
    logs = np.log1p(duration_s(runs).to_numpy(dtype=float))
    split_s = float(runs["submitted_s"].to_numpy()[rows[int(0.75 * len(rows))]])
    early = rows[runs["ended_s"].to_numpy()[rows] <= split_s]
    late = rows[runs["submitted_s"].to_numpy()[rows] >= split_s]
    calibration, coverage, trust = BetaCalibration(), Coverage(0.9), ForecastSelector()
    if len(early) >= MIN_RUNS // 2:
        first = _fit(features[early], failed[early], logs[early], names, levels, seed, iterations)
        calibration = BetaCalibration.fit(first.failure_probability(features[late]), failed[late])
        coverage = Coverage.fit(first.p90_log.predict(features[late]), logs[late], share=0.9, rate=_COVERAGE_RATE)
        late = late[np.argsort(runs["ended_s"].to_numpy()[late], kind="stable")]
        for row, said in zip(late, first.voices(features[late]).tolist(), strict=True):
            trust.learn(str(runs["deployment"].iat[row]), said, float(logs[row]))
    final = _fit(features[rows], failed[rows], logs[rows], names, levels, seed, iterations)
    return replace(final, calibration=calibration, coverage=coverage, trust=trust)


def _fit(
    features: Array,
    failed: Array,
    logs: Array,
    names: tuple[str, ...],
    levels: Levels,
    seed: int,
    iterations: int | None,
) -> Forecaster:
    def fitted(growth: Growth, target: Array, loss: Loss, quantile: float | None = None) -> Trees:
        how = growth if iterations is None else replace(growth, iterations=iterations)
        return fit(features, target, loss=loss, quantile=quantile, growth=how, seed=seed)

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
        coverage=Coverage(0.9),
        trained_on={"runs": float(len(failed)), "failed": float(failed.sum())},
    )
