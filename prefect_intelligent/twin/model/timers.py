"""Timers: what is to be done to a run or a pool at a later instant. `event_loop.fire_timer` does it."""

from __future__ import annotations

from typing import Final

from prefect_intelligent.twin.engine.heap import push_timer
from prefect_intelligent.twin.engine.jit import code, inlined
from prefect_intelligent.twin.model.state import StateRow

# Kinds, in the order in which they go off at the same instant.
MARK_LATE: Final = code(0)  # a run whose due instant it is
START: Final = code(1)  # a run whose infrastructure is up
TIME_OUT: Final = code(2)  # a run that may not run longer
REENTER: Final = code(3)  # put a delayed run back in its queue
RESUME: Final = code(4)  # let a resuming run take a slot and start
ADD_NODE: Final = code(5)  # to a pool that has ordered it
SHRINK: Final = code(6)  # a pool, the cooldown of one of whose nodes may be over
RELEASE: Final = code(7)  # a run whose upstreams have all completed
DROP: Final = code(8)  # a run of which an upstream has not completed
CALL_LATE: Final = code(9)  # a run that the server marks late now if it still waits, or cancels if its limit is full
GO_ON: Final = code(10)  # a run whose children are all over
DIE: Final = code(11)  # a worker, with its runs
COME_BACK: Final = code(12)  # a worker that has died


@inlined
def set_timer(state: StateRow, at_s: float, kind: int, target: int) -> None:
    """Have `kind` done to the run or pool `target` at an instant."""
    push_timer(state.timers, state.totals[0].timers, at_s, kind, target)
    state.totals[0].timers += 1
