"""Slots that are bought: nodes are ordered, boot, hold claimed runs, and are sent back."""

from __future__ import annotations

import math

from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import STARTUP, normal
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.costs import busy_usd
from prefect_intelligent.twin.model.state import PENDING, StateRow
from prefect_intelligent.twin.model.timers import ADD_NODE, SHRINK, START, set_timer
from prefect_intelligent.twin.model.world import WorldRow


@compiled
def owned_slots(world: WorldRow, state: StateRow, pool: int) -> float:
    """Slots that can be used now; those of booting nodes cannot."""
    return float(state.pools[pool].nodes * world.pools[pool].node_slots)


@inlined
def bought_slots(world: WorldRow, state: StateRow, pool: int) -> float:
    """Slots that are paid for, those of booting nodes included."""
    pool_state = state.pools[pool]
    return float((pool_state.nodes + pool_state.nodes_ordered) * world.pools[pool].node_slots)


@compiled
def scale(world: WorldRow, state: StateRow, pool: int) -> None:
    """Order the nodes that are missing; note which are too many since when, and send back those whose cooldown is over.

    A node is too many while neither the limit (or the autoscaler's demand) nor a run that sits on a node needs it.
    """
    pool_spec, pool_state = world.pools[pool], state.pools[pool]
    if pool_spec.owned == 0:
        return
    slots = min(pool_state.limit, pool_spec.max_slots)
    if pool_spec.follows_demand != 0:
        slots = min(slots, float(pool_state.active))
    wanted = math.ceil(max(slots, pool_spec.min_slots) / pool_spec.node_slots)
    missing = wanted - pool_state.nodes - pool_state.nodes_ordered
    if missing > 0:
        pool_state.surplus = 0
        now_s, ring = state.totals[0].now_s, state.node_since[pool]
        for _ in range(missing):
            place = pool_state.oldest_node + pool_state.nodes + pool_state.nodes_ordered
            ring[place % ring.shape[0]] = now_s
            if pool_spec.boot_s > 0:
                pool_state.nodes_ordered += 1
                set_timer(state, now_s + pool_spec.boot_s, ADD_NODE, pool)
            else:
                pool_state.nodes += 1
        event_log.append(state, event_log.OWNED, -1, pool, bought_slots(world, state, pool))
        place_waiting(world, state, pool)
        pool_state.needs_dispatch = 1
    else:
        held = math.ceil(pool_state.placed / pool_spec.node_slots)
        surplus = max(0, pool_state.nodes + pool_state.nodes_ordered - max(wanted, held))
        _cool_down(world, state, pool, surplus, pool_state.nodes - held)


@inlined
def _cool_down(world: WorldRow, state: StateRow, pool: int, surplus: int, empty: int) -> None:
    """Send back the nodes that have been too many for their cooldown; `surplus` are so now, and `empty` can go.

    Each has a cooldown of its own. One that is needed again is the one that became too many last: with runs packed on
    as few nodes as possible, the others have stood empty all the while.
    """
    pool_spec, pool_state = world.pools[pool], state.pools[pool]
    now_s, since = state.totals[0].now_s, state.surplus_since[pool]
    size = since.shape[0]
    while pool_state.surplus < surplus:
        since[(pool_state.first_surplus + pool_state.surplus) % size] = now_s
        pool_state.surplus += 1
    pool_state.surplus = surplus
    count = 0
    while count < min(surplus, empty):  # one that boots cannot be sent back
        if since[(pool_state.first_surplus + count) % size] + pool_spec.cooldown_s > now_s:
            break
        count += 1
    if count > 0:
        pool_state.first_surplus = (pool_state.first_surplus + count) % size
        pool_state.surplus -= count
        drop_nodes(world, state, pool, count)
    if pool_state.surplus > 0 and pool_state.shrink_set == 0:
        ends_s = since[pool_state.first_surplus] + pool_spec.cooldown_s
        if ends_s > now_s:  # else it boots, and is looked at again when it is up
            pool_state.shrink_set = 1
            set_timer(state, ends_s, SHRINK, pool)


@compiled
def drop_nodes(world: WorldRow, state: StateRow, pool: int, count: int) -> None:
    """Send back the `count` oldest nodes, and bill what is missing to their minimum."""
    pool_spec, pool_state = world.pools[pool], state.pools[pool]
    ring = state.node_since[pool]
    for _ in range(count):
        up_s = state.totals[0].now_s - ring[pool_state.oldest_node]
        billed_usd = busy_usd(up_s, pool_state.usd_per_hour, pool_spec.node_min_billing_s)
        owed_usd = billed_usd - busy_usd(up_s, pool_state.usd_per_hour, 0.0)
        state.totals[0].idle_usd += pool_spec.node_slots * owed_usd
        pool_state.oldest_node = (pool_state.oldest_node + 1) % ring.shape[0]
        pool_state.nodes -= 1
    event_log.append(state, event_log.OWNED, -1, pool, bought_slots(world, state, pool))


@inlined
def place_on_node(world: WorldRow, state: StateRow, pool: int, run: int) -> float:
    """Give a claimed run a slot that is there: its infrastructure starts. Returns when it will be up."""
    pool_spec, run_state = world.pools[pool], state.runs[run]
    run_state.placed = 1
    state.pools[pool].placed += 1
    now_s = state.totals[0].now_s
    overhead_s = 0.0
    if pool_spec.startup_s > 0:
        draw = normal(world.settings[0].seed, STARTUP, run, run_state.failures + run_state.crashes)
        overhead_s = pool_spec.startup_s * math.exp(pool_spec.startup_spread * draw)
    run_state.wake_s = max(now_s + overhead_s, run_state.scheduled_s)
    if pool_spec.claims_ahead != 0:
        event_log.append(state, event_log.PLACED, run, pool, now_s - run_state.claimed_s)
    return float(run_state.wake_s)


@compiled
def enqueue_for_node(state: StateRow, pool: int, run: int) -> None:
    """Put a claimed run in the line for a slot of a node."""
    pool_state = state.pools[pool]
    state.runs[run].next_in_line = -1
    if pool_state.line_tail >= 0:
        state.runs[pool_state.line_tail].next_in_line = run
    else:
        pool_state.line_head = run
    pool_state.line_tail = run


@compiled
def place_waiting(world: WorldRow, state: StateRow, pool: int) -> None:
    """Place the runs that wait for a node, first come first served, while there is room."""
    pool_state = state.pools[pool]
    while pool_state.line_head >= 0 and pool_state.placed < owned_slots(world, state, pool):
        run = pool_state.line_head
        pool_state.line_head = state.runs[run].next_in_line
        if pool_state.line_head < 0:
            pool_state.line_tail = -1
        if state.runs[run].phase == PENDING:
            set_timer(state, place_on_node(world, state, pool, run), START, run)
