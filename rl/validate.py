"""Cost of checkpoints on validation days, by which the best one is chosen."""

from __future__ import annotations

import numpy as np

from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from rl.simulators import spent_usd
from rl.worlds import Days
from simulations.family import SPLITS

_BATCH = 48
_LEAST_USD = 1e-6


class Validation:
    """The same validation days for every candidate.

    Args:
        workload: Where days are drawn from.
        reference: The policy that candidates are compared with.
        days: Number of days.
        split: Split of seeds that clusters are drawn from.
    """

    def __init__(self, workload: Days, reference: Policy, days: int, split: str = "validation") -> None:
        first = SPLITS[split].start
        chosen = [(first + number, 0) for number in range(days)]
        self.worlds = [workload.batch(chosen[start : start + _BATCH]) for start in range(0, days, _BATCH)]
        self.regime = workload.regime
        self.reference_usd = self.cost_usd(reference)

    def cost_usd(self, policy: Policy) -> Array:
        """Objective of every day, shape (days,)."""
        return np.concatenate([spent_usd(world, self.regime, policy)[0].sum(-1) for world in self.worlds])

    def ratios(self, policy: Policy) -> Array:
        """Cost of every day over that of the reference; 1 for days without cost."""
        ratios: Array = np.maximum(self.cost_usd(policy), _LEAST_USD) / np.maximum(self.reference_usd, _LEAST_USD)
        return ratios

    def ratio(self, policy: Policy) -> float:
        """Geometric mean of the ratios."""
        return float(np.exp(np.log(self.ratios(policy)).mean()))
