"""Ending a run from outside, as a cancellation or the death of its process does."""

from __future__ import annotations

from typing import Any

from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.run_lifecycle import end
from prefect_intelligent.twin.model.state import PENDING, RUNNING


@compiled
def stop_run(world: Any, state: Any, row: int, run: int, outcome: int) -> bool:
    """End the attempt of a run of world `row` that holds a slot; False if it holds none.

    What follows is what follows such an end by itself: a crashed run with crash retries left is scheduled again.
    """
    phase = state.runs[row, run].phase
    if phase != RUNNING and phase != PENDING:
        return False
    end(by_reference(world_row(world, row)), by_reference(state_row(state, row)), run, outcome)
    return True
