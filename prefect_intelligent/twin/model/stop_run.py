"""End a run from outside, as a cancellation or the death of its process does."""

from __future__ import annotations

from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.run_lifecycle import end
from prefect_intelligent.twin.model.state import PENDING, RUNNING, State
from prefect_intelligent.twin.model.world import World


@compiled
def stop_run(world: World, state: State, row: int, run: int, outcome: int) -> bool:
    """End the present attempt of a run of a world; False, and nothing happens, if the run holds no slot.

    What follows is what follows such an end by itself: a crashed run with crash retries left is scheduled again.

    Args:
        world: The batch.
        state: Its state.
        row: Which world.
        run: Which run.
        outcome: The phase in which the attempt ends, `CRASHED`, `FAILED` or `CANCELLED`.
    """
    phase = state.runs[row, run].phase
    if phase != RUNNING and phase != PENDING:
        return False
    end(by_reference(world_row(world, row)), by_reference(state_row(state, row)), run, outcome)
    return True
