"""Online choice between forecasts of the median duration: the trees', or the last durations of the same work.

Trees become outdated where the work changes; its last durations do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RECENT_DURATIONS: Final = ("the same work: log_duration_recent", "the same work: last_duration")
"""Features (log seconds) that are candidates beside the trees' median; saved forecasters rely on the order."""

MAX_DEPLOYMENTS: Final = 1000
"""Beyond it the deployment whose last run ended first is forgotten; the record of the pool serves for it."""

_DECAY: Final = 0.5 ** (1 / 100)  # of a run's weight, with every run that ends after it
_POOL_RUNS: Final = 20.0  # weight of the pool's record beside a deployment's own
_MARGIN: Final = 0.02  # share of misses by which a candidate must be better than the trees
_TOLERANCE: Final = math.log(2.0)


def candidate_forecasts(trees: Array, features: Array, names: Sequence[str]) -> Array:
    """All candidates for the median in log seconds, that of the trees first; shape (runs, candidates).

    A candidate that is unknown for a run is that of the trees.

    Args:
        trees: Median by the trees, shape (runs,).
        features: As from `encode_runs`.
        names: Of the features; candidates that are not among them are left out.
    """
    recent = [features[:, names.index(name)] for name in RECENT_DURATIONS if name in names]
    candidates = np.stack([trees, *(np.where(np.isnan(each), trees, each) for each in recent)], axis=1)
    out: Array = np.maximum(0.0, candidates)
    return out


@dataclass(slots=True)
class ForecastSelector:
    """Counts how often each candidate was off by more than a factor of two lately, by deployment and in the pool.

    Follow the leader with forgetting: the weight of a run halves with every hundred runs that end after it, the record
    of a deployment is smoothed by twenty runs of the pool, and another candidate replaces the trees if its share of
    misses is lower by two points. Loss, forgetting, smoothing and margin were chosen on the second half of the first
    70 % of KTH-SP2, WAGAP, SURF, Philly, Alibaba and Chronos, not on the rest of them, which the benchmark tests on.

    Attributes:
        pool: Weight of the ended runs, then of the misses of each candidate; empty until a run has ended.
        deployments: The same by deployment; the deployment whose run ended last is at the end.
    """

    pool: list[float] = field(default_factory=list)
    deployments: dict[str, list[float]] = field(default_factory=dict)

    def copy(self) -> ForecastSelector:
        """An independent copy."""
        return ForecastSelector(list(self.pool), {name: list(record) for name, record in self.deployments.items()})

    def choose(self, deployment: str, candidates: Sequence[float]) -> float:
        """The candidate with the lowest recent share of misses; `candidates` are as from `candidate_forecasts`."""
        if not self.pool or self.pool[0] < _POOL_RUNS:
            return candidates[0]
        runs, *missed = self.deployments.get(deployment, [0.0] * len(self.pool))
        share = [
            (own + _POOL_RUNS * all_ / self.pool[0]) / (runs + _POOL_RUNS)
            for own, all_ in zip(missed, self.pool[1:], strict=True)
        ]
        share[0] -= _MARGIN
        return candidates[share.index(min(share))]

    def learn(self, deployment: str, candidates: Sequence[float], actual: float) -> None:
        """A run of the deployment has ended after `actual` log seconds; `candidates` are those of its submission."""
        misses = [1.0, *(float(abs(candidate - actual) > _TOLERANCE) for candidate in candidates)]
        self.pool = _decayed_sum(self.pool, misses)
        self.deployments[deployment] = _decayed_sum(self.deployments.pop(deployment, []), misses)
        if len(self.deployments) > MAX_DEPLOYMENTS:
            del self.deployments[next(iter(self.deployments))]


def _decayed_sum(record: list[float], new: list[float]) -> list[float]:
    return [_DECAY * old + added for old, added in zip(record, new, strict=True)] if record else new
