"""One world of a batch, for compiled functions: views of its part of every table."""

from __future__ import annotations

from typing import Any

from prefect_intelligent.twin.engine.jit import inlined
from prefect_intelligent.twin.model.state import State
from prefect_intelligent.twin.model.world import World


@inlined
def world_row(world: Any, row: int) -> Any:
    """The tables of one world; single records are tables of length one."""
    return World(
        world.settings[row : row + 1],
        world.runs[row],
        world.arrivals[row],
        world.edges[row],
        world.deployments[row],
        world.queues[row],
        world.pools[row],
        world.prices[row],
        world.reclaims[row],
        world.resources[row],
        world.loads[row],
    )


@inlined
def state_row(state: Any, row: int) -> Any:
    """The state of one world; writing to it writes to the batch."""
    return State(
        state.clock[row : row + 1],
        state.runs[row],
        state.keys[row],
        state.waiting[row],
        state.executing[row],
        state.active[row],
        state.queues[row],
        state.pools[row],
        state.loads[row],
        state.using[row],
        state.claimed[row],
        state.deployed[row],
        state.node_since[row],
        state.timers[row],
        state.log[row],
    )
