"""Which forecast of a duration has been right lately: trees grow stale where the work changes, its last runs do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RIVALS: Final = ("the same work: log_duration_recent", "the same work: last_duration")
"""Features (log seconds) that may stand in for the median of the trees; saved forecasters rely on the order."""

MOST_DEPLOYMENTS: Final = 1000
"""Beyond this the one that has not ended a run for longest is forgotten; the pool answers for it."""

_DECAY: Final = 0.5 ** (1 / 100)
_FEW: Final = 20.0
_MARGIN: Final = 0.02
_TWICE: Final = math.log(2.0)


def candidate_forecasts(middle: Array, features: Array, names: Sequence[str]) -> Array:
    """What each forecast says, in log seconds: the trees' median first, then the rivals; shape (runs, voices).

    A rival that knows nothing of a run yet says what the trees say.

    Args:
        middle: Median of the trees, shape (runs,).
        features: As from `encode`.
        names: Of the features; rivals that are not among them are left out.
    """
    rivals = [features[:, names.index(name)] for name in RIVALS if name in names]
    said = np.stack([middle, *(np.where(np.isnan(rival), middle, rival) for rival in rivals)], axis=1)
    out: Array = np.maximum(0.0, said)
    return out


@dataclass(slots=True)
class ForecastSelector:
    """How often each forecast has lately been off by more than a factor of two, by deployment and in all.

    Follow the leader with forgetting: a run's weight halves with every hundred that end after it, the record of a
    deployment is filled up with twenty runs of the pool, and a rival takes over from the trees if it misses two points
    less often. Loss, forgetting, filling and margin were chosen on the second half of the first 70 % of KTH-SP2,
    WAGAP, SURF, Philly, Alibaba and Chronos, not on the rest of them, which the benchmark tests on.

    Attributes:
        pool: Weight of the ended runs, and of the misses of each voice; empty until a run has ended.
        deployments: The same by deployment, the one that ended a run last at the end.
    """

    pool: list[float] = field(default_factory=list)
    deployments: dict[str, list[float]] = field(default_factory=dict)

    def copy(self) -> ForecastSelector:
        """One that learns on its own."""
        return ForecastSelector(list(self.pool), {name: list(record) for name, record in self.deployments.items()})

    def choose(self, deployment: str, said: Sequence[float]) -> float:
        """The word of the voice to believe, of those that `said` holds in the order of `voices`."""
        if not self.pool or self.pool[0] < _FEW:
            return said[0]
        runs, *missed = self.deployments.get(deployment, [0.0] * len(self.pool))
        share = [
            (own + _FEW * all_ / self.pool[0]) / (runs + _FEW) for own, all_ in zip(missed, self.pool[1:], strict=True)
        ]
        share[0] -= _MARGIN
        return said[share.index(min(share))]

    def learn(self, deployment: str, said: Sequence[float], seen: float) -> None:
        """A run of the deployment has ended after `seen` log seconds; `said` is what was said when it was submitted."""
        news = [1.0, *(float(abs(word - seen) > _TWICE) for word in said)]
        self.pool = _added(self.pool, news)
        self.deployments[deployment] = _added(self.deployments.pop(deployment, []), news)
        if len(self.deployments) > MOST_DEPLOYMENTS:
            del self.deployments[next(iter(self.deployments))]


def _added(record: list[float], news: list[float]) -> list[float]:
    return [_DECAY * old + new for old, new in zip(record, news, strict=True)] if record else news
