"""The controller: pass after pass, on events and on the interval, for as long as it leads and nobody stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import OrchestratorError, StoreError
from prefect_intelligent.steering.decision_record import Decision
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.steering.ports import WakeUps

_SLICE_S = 0.5
"""How long a request to stop may go unnoticed."""
_LONGEST_BACK_OFF_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEvent:
    """What happened in one turn of the loop.

    Attributes:
        what: A decision was made; another process leads; or the pass failed and will be tried again.
        decision: The decision.
        problem: Why the pass failed.
    """

    what: Literal["decided", "standing by", "failed"]
    decision: Decision | None = None
    problem: str | None = None


def run_loop(
    steer: Callable[[], Decision],
    leadership: Leadership,
    signals: WakeUps,
    clock: Clock,
    *,
    interval_s: float,
    stopped: Callable[[], bool],
    tell: Callable[[LoopEvent], None],
    once: bool = False,
) -> None:
    """Run until `stopped()`.

    A pass that fails is tried again after a pause that doubles up to the interval (at most half a minute), and leaves
    the pool as it is. At the end the last good settings stay in force and the lease is given up.

    Args:
        steer: Makes one pass.
        leadership: Of the pool.
        signals: Bring the next pass forward, but never closer than a quarter of the interval to the last one.
        clock: The time.
        interval_s: Longest time between two passes.
        stopped: Whether somebody wants us to end.
        tell: Called with what happened in each turn.
        once: Whether to end after the first turn.
    """
    failures = 0
    try:
        while not stopped():
            moment = _turn(steer, leadership)
            tell(moment)
            if once:
                return
            failures = failures + 1 if moment.what == "failed" else 0
            if failures:
                _pause(clock, min(2.0**failures / 2.0, interval_s, _LONGEST_BACK_OFF_S), stopped)
            else:
                _pause(clock, interval_s / 4.0, stopped)
                _await(signals, interval_s * 3.0 / 4.0, stopped)
    finally:
        leadership.resign()


def _turn(steer: Callable[[], Decision], leadership: Leadership) -> LoopEvent:
    try:
        if not leadership.lead():
            return LoopEvent(what="standing by")
        return LoopEvent(what="decided", decision=steer())
    except (OrchestratorError, StoreError) as error:
        return LoopEvent(what="failed", problem=str(error))


def _pause(clock: Clock, seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait, in slices so that a request to stop is heeded."""
    left = seconds
    while left > 0 and not stopped():
        clock.sleep(min(_SLICE_S, left))
        left -= _SLICE_S


def _await(signals: WakeUps, seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait for a signal, in slices."""
    left = seconds
    while left > 0 and not stopped():
        if signals.wait(min(_SLICE_S, left)):
            return
        left -= _SLICE_S
