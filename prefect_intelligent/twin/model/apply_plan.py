"""Put a plan in force: an order of queues, a limit for each, and a limit per pool."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.event_loop import order_queues
from prefect_intelligent.twin.model.nodes import scale
from prefect_intelligent.twin.model.state import StateRow
from prefect_intelligent.twin.model.world import WorldRow

Values = npt.NDArray[np.float64]


@compiled
def set_plan(world: WorldRow, state: StateRow, score: Values, limit: Values, pool_limit: Values) -> None:
    """Put a plan in force in one world.

    An order that is already in force changes no priority, so that queues that share one keep sharing it.

    Args:
        world: What is given of it.
        state: Its state.
        score: Shape (queues,): higher is served earlier, equal scores keep their order; nan for one keeps all.
        limit: Shape (queues,): runs, `inf` for unlimited, nan to leave it.
        pool_limit: Shape (pools,): slots, `inf` for unlimited, nan to leave it.
    """
    width = state.queues.shape[0] // state.pools.shape[0]
    for pool in range(state.pools.shape[0]):
        pool_state = state.pools[pool]
        first, behind = pool * width, (pool + 1) * width
        if not _in_order(world, state, score, first, behind):
            for queue in range(first, behind):
                if world.queues[queue].present == 0:
                    continue
                place = 0
                for other in range(first, behind):
                    before = score[other] > score[queue] or (
                        score[other] == score[queue] and state.queues[other].place < state.queues[queue].place
                    )
                    if before and world.queues[other].present != 0:
                        place += 1
                state.queues[queue].priority = 10.0 * (place + 1)
            order_queues(state, pool)
            pool_state.plan_changed = 1
        for queue in range(first, behind):
            if world.queues[queue].present == 0:
                continue
            if limit[queue] == limit[queue] and limit[queue] != state.queues[queue].limit:
                state.queues[queue].limit = limit[queue]
                pool_state.plan_changed = 1
        if pool_limit[pool] == pool_limit[pool] and pool_limit[pool] != pool_state.limit:
            pool_state.limit = pool_limit[pool]
            pool_state.plan_changed = 1
        if pool_state.plan_changed != 0:
            pool_state.needs_dispatch = 1
            event_log.append(state, event_log.PLANNED, -1, pool, pool_state.limit)
            scale(world, state, pool)


@compiled
def _in_order(world: WorldRow, state: StateRow, score: Values, first: int, behind: int) -> bool:
    """Whether serving by score is what happens already, or the scores say nothing."""
    in_order, last = True, math.inf
    for place in range(first, behind):
        queue = state.queues[place].queue_at_place
        if world.queues[queue].present != 0:
            if score[queue] != score[queue]:
                return True
            in_order = in_order and score[queue] <= last
            last = score[queue]
    return in_order
