"""The controller: pass after pass, on events and on the interval, while this process leads the pool."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from prefect_intelligent.domain.backoff import SYSTEM_RANDOM, backoff_s
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import OrchestratorAccessDeniedError, OrchestratorError, StoreError, UnknownNameError
from prefect_intelligent.steering.decision_record import Decision
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.steering.ports import WakeUps

_SLICE_S = 0.5
"""Longest time until a request to stop is noticed."""
_FIRST_BACK_OFF_S = 1.0
_LONGEST_BACK_OFF_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEvent:
    """What happened in one turn of the loop.

    Attributes:
        what: A decision was made; another process leads; or the pass failed and will be tried again.
        decision: The decision.
        problem: Why the pass failed.
        permanent: Whether it will fail until somebody changes the credentials.
        repeated: Whether the turn before was denied, or stood by, as well, so that it has been reported already.
    """

    what: Literal["decided", "standing by", "failed"]
    decision: Decision | None = None
    problem: str | None = None
    permanent: bool = False
    repeated: bool = False


def run_loop(
    steer: Callable[[], Decision],
    leadership: Leadership,
    wake_ups: WakeUps,
    clock: Clock,
    *,
    interval_s: float,
    stopped: Callable[[], bool],
    tell: Callable[[LoopEvent], None],
    once: bool = False,
    rng: random.Random = SYSTEM_RANDOM,
) -> None:
    """Run until `stopped()`.

    A pass that fails is tried again after a pause that doubles up to the interval (at most half a minute), less a
    random part of up to a half; a pass that Prefect denies is tried again after the longest such pause. Either leaves
    the pool as it is. While another process leads, the lease is asked for every quarter of the interval. At the end the
    last good settings stay in force and the lease is given up.

    Args:
        steer: Makes one pass.
        leadership: Of the pool.
        wake_ups: Bring the next pass forward, but never closer than a quarter of the interval to the last one.
        clock: The time.
        interval_s: Longest time between two passes.
        stopped: Whether the loop is to end.
        tell: Called with what happened in each turn.
        once: Whether to end after the first turn.
        rng: Draws the jitter of the pauses.
    """
    longest_s = min(interval_s, _LONGEST_BACK_OFF_S)
    failures, denied, before = 0, False, ""
    try:
        while not stopped():
            event = _turn(steer, leadership)
            again = event.what == before and (event.what == "standing by" or (event.permanent and denied))
            tell(replace(event, repeated=again))
            before = event.what
            if once:
                return
            failures, denied = failures + 1 if event.what == "failed" else 0, event.permanent
            if failures:
                first_s = longest_s if denied else _FIRST_BACK_OFF_S
                _pause(clock, backoff_s(failures, first_s=first_s, longest_s=longest_s, rng=rng), stopped)
            else:
                _pause(clock, interval_s / 4.0, stopped)
            if event.what == "decided":
                _wait_for_event(wake_ups, interval_s * 3.0 / 4.0, stopped)
    finally:
        leadership.resign()


def _turn(steer: Callable[[], Decision], leadership: Leadership) -> LoopEvent:
    try:
        if not leadership.lead():
            return LoopEvent(what="standing by")
        return LoopEvent(what="decided", decision=steer())
    except (OrchestratorError, StoreError, UnknownNameError) as error:  # a pool that has gone may come back
        denied = isinstance(error, OrchestratorAccessDeniedError)
        return LoopEvent(what="failed", problem=mask_secrets(str(error)), permanent=denied)


def _pause(clock: Clock, seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait, in slices so that a request to stop is noticed."""
    left = seconds
    while left > 0 and not stopped():
        clock.sleep(min(_SLICE_S, left))
        left -= _SLICE_S


def _wait_for_event(wake_ups: WakeUps, seconds: float, stopped: Callable[[], bool]) -> None:
    """Wait until something happens in the pool, in slices."""
    left = seconds
    while left > 0 and not stopped():
        if wake_ups.wait(min(_SLICE_S, left)):
            return
        left -= _SLICE_S
