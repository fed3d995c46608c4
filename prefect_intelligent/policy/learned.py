"""The learned policy: a base rule corrected by the network, and the rule alone where the network gives no numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.actions import apply_action
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.encoding import Observation, encode
from prefect_intelligent.policy.network import Gains, Network, choose
from prefect_intelligent.policy.priority_rules import rank
from prefect_intelligent.policy.rule_policy import RulePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPolicy:
    """A base rule with learned corrections.

    Attributes:
        name: Short name for records.
        base: The rule that is corrected.
        network: Predicts what each correction saves.
        margin: Corrections that save less than this are not made, in the network's unit; 0 or more.
    """

    name: str
    base: RulePolicy
    network: Network
    margin: float = 0.0

    def propose(self, census: Census) -> Proposal:
        """The corrected rule; the rule itself where an observation or a prediction is not finite."""
        rule = self.base.propose(census)
        place = rank(rule.score, census)
        seen, gains = self._predict_gains(census, rule, place)
        wanted = apply_action(rule, census, choose(gains, self.margin), place)
        sound = is_sound(seen, gains)
        per_queue = sound[..., None]
        return Proposal(
            np.where(per_queue, wanted.score, rule.score),
            np.where(per_queue, wanted.limit, rule.limit),
            np.where(sound, wanted.pool_limit, rule.pool_limit),
        )

    def predict(self, census: Census) -> tuple[Proposal, Observation, Gains]:
        """The rule's proposal, the observation, and the predicted saving of every correction."""
        rule = self.base.propose(census)
        return rule, *self._predict_gains(census, rule, rank(rule.score, census))

    def _predict_gains(self, census: Census, rule: Proposal, place: Array) -> tuple[Observation, Gains]:
        seen = encode(census, rule, place)
        with np.errstate(invalid="ignore", over="ignore"):
            return seen, self.network.gains(seen)


def is_sound(seen: Observation, gains: Gains) -> npt.NDArray[np.bool_]:
    """Which pools have an observation and predictions that are all finite."""
    per_queue = (np.isfinite(array).all((-1, -2)) for array in (seen.queues, gains.place, gains.share))
    per_pool = (np.isfinite(array).all(-1) for array in (seen.pool, gains.capacity))
    sound: npt.NDArray[np.bool_] = np.logical_and.reduce([*per_queue, *per_pool])
    return sound
