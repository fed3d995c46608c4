"""One world of a batch as compiled functions get it: its part of every table.

Pass what these return through `by_reference`; the result is a `WorldRow` or a `StateRow`.
"""

from __future__ import annotations

from prefect_intelligent.twin.engine.jit import inlined
from prefect_intelligent.twin.model.state import State
from prefect_intelligent.twin.model.world import World


@inlined
def world_row(world: World, row: int) -> World:
    """What is given of one world; its settings are a table of one row."""
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
        world.contention_groups[row],
        world.loads[row],
        world.workers[row],
        world.polled[row],
        world.outages[row],
    )


@inlined
def state_row(state: State, row: int) -> State:
    """The state of one world: to write to it is to write to the batch. Its totals are a table of one row."""
    return State(
        state.totals[row : row + 1],
        state.runs[row],
        state.keys[row],
        state.waiting[row],
        state.executing[row],
        state.active[row],
        state.queues[row],
        state.pools[row],
        state.contention_groups[row],
        state.resource_runs[row],
        state.resource_claims[row],
        state.deployment_active[row],
        state.node_since[row],
        state.surplus_since[row],
        state.workers[row],
        state.timers[row],
        state.log[row],
    )
