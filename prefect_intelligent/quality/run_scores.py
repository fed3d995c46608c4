"""Quality scores of single flow runs, from the records of the quality gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.quality.gate import GateOutcome
from prefect_intelligent.quality.past_results import past_results

SCORES: Final[Mapping[str, float]] = {
    GateOutcome.PASSED: 1.0,
    GateOutcome.WARNED: 0.75,
    GateOutcome.REMEDIED: 0.5,
    GateOutcome.ROLLED_BACK: 0.0,
    GateOutcome.RETRY: 0.0,
    GateOutcome.BLOCKED: 0.0,
}
"""Score of a gate's outcome, 0 (bad) to 1 (good); an error of the checker has none."""

_LOOK_BACK_S: Final = 2 * 86_400.0


class RunQuality:
    """Callable: the lowest score of the gates that checked the data of a run; None if there was none.

    Args:
        history: Has the records of the gate.
        clock: The time; records are read at most once a second.
    """

    def __init__(self, history: HistoryStore, clock: Clock) -> None:
        self._history, self._clock = history, clock
        self._scores: dict[str, float] = {}
        self._read_s = float("-inf")

    def __call__(self, run_id: str) -> float | None:
        """Score of a flow run, 0 to 1."""
        now_s = self._clock.now_s()
        if run_id not in self._scores and now_s - self._read_s >= 1.0:
            self._read_s = now_s
            self._scores = {}
            for record in past_results(self._history, since_s=now_s - _LOOK_BACK_S):
                score = SCORES.get(record["outcome"])
                if score is not None:
                    run = str(record["run_id"])
                    self._scores[run] = min(score, self._scores.get(run, 1.0))
        return self._scores.get(run_id)
