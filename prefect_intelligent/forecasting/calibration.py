"""Calibration of probabilities (beta calibration) and of quantiles (adaptive conformal inference)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def sigmoid(raw: Array) -> Array:
    """1 / (1 + exp(-raw)), without overflow."""
    out: Array = 0.5 * (1.0 + np.tanh(0.5 * raw))
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaCalibration:
    """sigmoid(a log p - b log(1 - p) + c): beta calibration (Kull, Silva Filho and Flach, AISTATS 2017).

    a = b = 1, c = 0 is the identity. With three parameters it needs far fewer runs than isotonic regression.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, probability: Array) -> Array:
        """Calibrated probabilities, same shape."""
        p = np.clip(probability, 1e-9, 1 - 1e-9)
        return sigmoid(self.a * np.log(p) - self.b * np.log1p(-p) + self.c)

    @classmethod
    def fit(cls, probability: Array, failed: Array, *, pull: float = 5.0) -> BetaCalibration:
        """Maximum likelihood with a ridge penalty `pull` towards the identity, by Newton's method.

        Args:
            probability: Uncalibrated probabilities, shape (n,).
            failed: Outcomes, 0 or 1, shape (n,).
            pull: Strength of the penalty.

        Returns:
            The identity if there are fewer than 50 runs, one outcome only, or no improvement of the log loss.
        """
        if len(failed) < 50 or failed.min() == failed.max():
            return cls()
        p = np.clip(probability, 1e-9, 1 - 1e-9)
        design = np.stack([np.log(p), -np.log1p(-p), np.ones_like(p)], axis=1)
        start = np.array([1.0, 1.0, 0.0])
        theta = start.copy()
        for _ in range(50):
            fitted = sigmoid(design @ theta)
            gradient = design.T @ (failed - fitted) - pull * (theta - start)
            curvature = (design * (fitted * (1 - fitted))[:, None]).T @ design + pull * np.eye(3)
            step = np.linalg.solve(curvature, gradient)
            theta = theta + step
            if float(np.abs(step).max()) < 1e-8:
                break
        if theta[0] < 0 or theta[1] < 0 or _log_loss(sigmoid(design @ theta), failed) >= _log_loss(p, failed):
            return cls()
        return cls(a=float(theta[0]), b=float(theta[1]), c=float(theta[2]))


def _log_loss(probability: Array, failed: Array) -> float:
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return float(-np.mean(failed * np.log(p) + (1 - failed) * np.log1p(-p)))


@dataclass(slots=True)
class ConformalOffset:
    """An offset on a predicted quantile that keeps its coverage at `share`, updated by every outcome.

    Adaptive conformal inference by quantile tracking: a miss raises the offset by `rate * share`, a hit lowers it by
    `rate * (1 - share)`, so that over n outcomes the coverage is off by at most (range of offsets) / (rate n), for any
    data (Gibbs and Candes 2021; Angelopoulos, Candes and Tibshirani 2023).

    Attributes:
        share: Level of the quantile, e.g. 0.9.
        offset: Added to the predicted quantile, in its unit (log seconds for durations).
        rate: Learning rate.
    """

    share: float
    offset: float = 0.0
    rate: float = 0.02

    def learn(self, *, missed: bool) -> None:
        """Update by one outcome; `missed` says whether it was above the predicted quantile plus the offset then."""
        self.offset += self.rate * self.share if missed else -self.rate * (1.0 - self.share)

    def retract_miss(self) -> None:
        """Undo the update by a miss."""
        self.offset -= self.rate * self.share

    @classmethod
    def fit(cls, predicted: Array, actual: Array, *, share: float, rate: float = 0.02) -> ConformalOffset:
        """Initial offset: the ceil((n + 1) share) / n quantile of residuals on held-out outcomes (split conformal)."""
        if len(actual) == 0:
            return cls(share, rate=rate)
        level = min(1.0, math.ceil((len(actual) + 1) * share) / len(actual))
        return cls(share, float(np.quantile(actual - predicted, level, method="higher")), rate)
