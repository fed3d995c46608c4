"""Probabilities that mean what they say, and quantiles that cover what they promise."""

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

    a = b = 1, c = 0 changes nothing. Three numbers, so it needs far fewer runs than isotonic regression.
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
        """Maximum likelihood, pulled towards "change nothing" as if by `pull` runs; Newton's method.

        Returns the identity if it could not be improved (too few runs, or only one outcome).
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
    """An offset that keeps a quantile covering its share, learned from every outcome.

    Adaptive conformal inference by quantile tracking: a miss raises the offset by `rate * share`, a hit lowers it by
    `rate * (1 - share)`, so that over n outcomes the share covered is off by at most (range of offsets) / (rate n),
    whatever the data do (Gibbs and Candes 2021; Angelopoulos, Candes and Tibshirani 2023).

    Attributes:
        share: Promise, e.g. 0.9.
        offset: Added to the predicted quantile, in its unit (log seconds for durations).
        rate: Step of the learning.
    """

    share: float
    offset: float = 0.0
    rate: float = 0.02

    def learn(self, *, missed: bool) -> None:
        """One outcome: whether it was above what had been promised, with the offset of that time."""
        self.offset += self.rate * self.share if missed else -self.rate * (1.0 - self.share)

    def unlearn_miss(self) -> None:
        """A miss that was learned tells nothing after all."""
        self.offset -= self.rate * self.share

    @classmethod
    def fit(cls, predicted: Array, seen: Array, *, share: float, rate: float = 0.02) -> ConformalOffset:
        """Start from outcomes that the quantile was not fitted to (split conformal: the (n+1) share / n quantile)."""
        if len(seen) == 0:
            return cls(share, rate=rate)
        level = min(1.0, math.ceil((len(seen) + 1) * share) / len(seen))
        return cls(share, float(np.quantile(seen - predicted, level, method="higher")), rate)
