"""Slots as something that is bought: nodes ordered, booted, given to claimed runs, and sent back."""

from __future__ import annotations

import math
from typing import Any

from prefect_intelligent.domain import objective
from prefect_intelligent.twin.engine.heap import push_timer
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.engine.rng import STARTUP, normal
from prefect_intelligent.twin.model import event_log
from prefect_intelligent.twin.model.state import NODE, PENDING, SHRINK, STARTED

busy_usd = compiled(objective.busy_usd)
idle_usd = compiled(objective.idle_usd)
lateness_usd = compiled(objective.lateness_usd)


@compiled
def owned_slots(world: Any, state: Any, pool: int) -> float:
    """Slots that can be used now; those of booting nodes cannot."""
    return float(state.pools[pool].nodes * world.pools[pool].node_slots)


@inlined
def set_timer(state: Any, at_s: float, kind: int, who: int) -> None:
    """Have `kind` happen to `who` at that instant."""
    push_timer(state.timers, state.clock[0].timers, at_s, kind, who)
    state.clock[0].timers += 1


@compiled
def scale(world: Any, state: Any, pool: int) -> None:
    """Order the nodes that are missing, send back those that are too many."""
    terms, mine = world.pools[pool], state.pools[pool]
    if terms.owned == 0:
        return
    slots = min(mine.limit, terms.max_slots)
    if terms.follows_demand != 0:
        slots = min(slots, float(mine.active))
    wanted = math.ceil(max(slots, terms.min_slots) / terms.node_slots)
    missing = wanted - mine.nodes - mine.ordered
    if missing > 0:
        for _ in range(missing):
            ring = state.node_since[pool]
            ring[(mine.oldest + mine.nodes + mine.ordered) % ring.shape[0]] = state.clock[0].now_s
            if terms.boot_s > 0:
                mine.ordered += 1
                set_timer(state, state.clock[0].now_s + terms.boot_s, NODE, pool)
            else:
                mine.nodes += 1
        event_log.append(state, event_log.OWNED, -1, pool, (mine.nodes + mine.ordered) * terms.node_slots)
        place_waiting(world, state, pool)
        mine.stirred = 1
    elif missing < 0 and mine.nodes > 0:
        if terms.cooldown_s > 0:
            if mine.shrinking == 0:
                mine.shrinking = 1
                set_timer(state, state.clock[0].now_s + terms.cooldown_s, SHRINK, pool)
        else:
            shrink(world, state, pool)


@compiled
def shrink(world: Any, state: Any, pool: int) -> None:
    """Send back surplus nodes, the oldest first, but no slot that a run holds."""
    terms, mine = world.pools[pool], state.pools[pool]
    slots = min(mine.limit, terms.max_slots)
    if terms.follows_demand != 0:
        slots = min(slots, float(mine.active))
    wanted = math.ceil(max(slots, terms.min_slots) / terms.node_slots)
    free = int((mine.nodes * terms.node_slots - mine.seated) // terms.node_slots)
    surplus = min(mine.nodes + mine.ordered - wanted, mine.nodes, free)
    if surplus > 0:
        drop_nodes(world, state, pool, surplus)


@compiled
def drop_nodes(world: Any, state: Any, pool: int, count: int) -> None:
    """Let the `count` oldest nodes go and bill what is missing to their minimum."""
    terms, mine = world.pools[pool], state.pools[pool]
    ring = state.node_since[pool]
    for _ in range(count):
        up_s = state.clock[0].now_s - ring[mine.oldest]
        owed = busy_usd(up_s, mine.usd_per_hour, terms.node_min_billing_s) - busy_usd(up_s, mine.usd_per_hour, 0.0)
        state.clock[0].idle_usd += terms.node_slots * owed
        mine.oldest = (mine.oldest + 1) % ring.shape[0]
        mine.nodes -= 1
    event_log.append(state, event_log.OWNED, -1, pool, (mine.nodes + mine.ordered) * terms.node_slots)


@inlined
def place_on_node(world: Any, state: Any, pool: int, run: int) -> float:
    """A claimed run has a slot to run in: its infrastructure starts. Returns when it will be up."""
    terms, mine = world.pools[pool], state.runs[run]
    mine.seated = 1
    state.pools[pool].seated += 1
    now_s = state.clock[0].now_s
    overhead_s = 0.0
    if terms.startup_s > 0:
        draw = normal(world.settings[0].seed, STARTUP, run, mine.failures + mine.crashes)
        overhead_s = terms.startup_s * math.exp(terms.startup_spread * draw)
    mine.wake_s = max(now_s + overhead_s, mine.scheduled_s)
    if terms.claims_ahead != 0:
        event_log.append(state, event_log.SEATED, run, pool, now_s - mine.claimed_s)
    return float(mine.wake_s)


@compiled
def enqueue_for_node(state: Any, pool: int, run: int) -> None:
    """Put a claimed run in the line for a slot of a node."""
    mine = state.pools[pool]
    state.runs[run].next = -1
    if mine.line_tail >= 0:
        state.runs[mine.line_tail].next = run
    else:
        mine.line_head = run
    mine.line_tail = run


@compiled
def place_waiting(world: Any, state: Any, pool: int) -> None:
    """Seat the runs that wait for a node while there is room."""
    mine = state.pools[pool]
    while mine.line_head >= 0 and mine.seated < owned_slots(world, state, pool):
        run = mine.line_head
        mine.line_head = state.runs[run].next
        if mine.line_head < 0:
            mine.line_tail = -1
        if state.runs[run].phase == PENDING:
            set_timer(state, place_on_node(world, state, pool, run), STARTED, run)
