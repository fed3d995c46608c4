"""The regimes in which worlds are played: seconds between decisions, and what the guard permits.

There are two: policies are tuned, trained and evaluated in the training regime; scenarios are run and shown in one that
follows from their `decision_s`. A controller runs a third one by default (`prefect_intelligent.settings`). Figures of
one regime say nothing about another.
"""

from __future__ import annotations

from typing import Final

from prefect_intelligent.policy.guard_state import GuardSettings

TRAINING_INTERVAL_S: Final = 120.0
"""Seconds between two decisions in tuning, labelling, training and evaluation."""
TRAINING_GUARD: Final = GuardSettings(interval_s=TRAINING_INTERVAL_S, step_fraction=2.0, step_slots=8.0)
"""What the guard permits there."""
_LONGEST_GUARD_INTERVAL_S: Final = 60.0


def scenario_guard(decision_s: float) -> GuardSettings:
    """What the guard permits in a scenario with so many seconds between two decisions."""
    return GuardSettings(interval_s=min(_LONGEST_GUARD_INTERVAL_S, decision_s))
