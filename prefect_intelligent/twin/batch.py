"""The same over the worlds of a batch. The interpreter's lock is released, so that threads can share a batch."""

from __future__ import annotations

from typing import Any, Final

from prefect_intelligent.policy.guard_state import GuardNumbers
from prefect_intelligent.policy.rule_parameters import RuleNumbers
from prefect_intelligent.twin.engine.decide import apply_actions, apply_rule, guard, observe
from prefect_intelligent.twin.engine.decision_buffers import blank_desk, desk_row
from prefect_intelligent.twin.engine.jit import code, compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference, take, unpacker
from prefect_intelligent.twin.engine.threads import DONE, TAKEN
from prefect_intelligent.twin.model.apply_plan import set_plan
from prefect_intelligent.twin.model.event_loop import begin, run_until
from prefect_intelligent.twin.model.fill_census import fill_census
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.state import blank_state
from prefect_intelligent.twin.model.world import blank_world

open_world = unpacker(blank_world())
open_state = unpacker(blank_state(blank_world()))
open_desk = unpacker(blank_desk(0, 1, 1))


@compiled
def begin_all(world: Any, state: Any, rows: Any) -> None:
    """Begin the worlds with these numbers."""
    for row in rows:
        begin(by_reference(world_row(world, row)), by_reference(state_row(state, row)))


APPLY_ACTIONS: Final = code(1)  # what is wanted is the rule corrected by `actions`
APPLY_RULE: Final = code(2)  # what is wanted is the rule
GUARD: Final = code(4)  # what is wanted becomes what is permitted, with the rule as fallback if `WITH_FALLBACK` is set
WITH_FALLBACK: Final = code(8)
PLAN: Final = code(16)  # what is wanted, or permitted, is put in force
RUN: Final = code(32)  # the world runs to `until_s`, events at it included
FINISH: Final = code(64)  # the same, but it stops after its last run
INTERVAL: Final = code(128)  # `until_s` is the interval from now, and now where every run has ended
CENSUS: Final = code(256)  # the census is taken, with the money spent so far
OBSERVE: Final = code(512)  # the rule is asked about the census, and its features are written
"""What `work` is to do, in this order; may be added up."""


@compiled
def work(
    worlds: Any,
    states: Any,
    desks: Any,
    counters: Any,
    stride: int,
    parts: int,
    interval_s: float,
    rule: RuleNumbers,
    guarded: GuardNumbers,
) -> None:
    """A decision interval, or parts of one, of some worlds. One function, since each takes long to compile.

    Args:
        worlds: Letter of the batch's tables, see `rows.letter`.
        states: Letter of its state.
        desks: Letter of its desk, from which everything is read and to which it is written.
        counters: Shape (2,), see `crew`; threads that share a batch share them.
        stride: So many worlds are taken at a time.
        parts: Sum of the parts above.
        interval_s: For `INTERVAL`.
        rule: The base rule, for `OBSERVE`.
        guarded: What the guard permits, for `GUARD`.
    """
    world, state, desk = open_world(worlds), open_state(states), open_desk(desks)
    worlds_in_all = world.settings.shape[0]
    first = take(counters, TAKEN, stride)
    while first < worlds_in_all:
        behind = min(first + stride, worlds_in_all)
        for row in range(first, behind):
            if desk.passed[row] != 0:
                continue
            one, mine = by_reference(world_row(world, row)), by_reference(state_row(state, row))
            table = by_reference(desk_row(desk, row))
            clock = mine.clock[0]
            if parts & APPLY_ACTIONS:
                apply_actions(table)
            if parts & APPLY_RULE:
                apply_rule(table)
            if parts & GUARD:
                guard(table, clock.now_s, (parts & WITH_FALLBACK) != 0, guarded)
            if parts & PLAN:
                set_plan(one, mine, table.score, table.limit, table.pool_limit)
            if parts & INTERVAL:
                over = clock.ended >= one.settings[0].runs
                table.until_s[0] = clock.now_s if over else clock.now_s + interval_s
            if parts & (RUN | FINISH):
                run_until(one, mine, table.until_s[0], (parts & FINISH) != 0)
            if parts & CENSUS:
                fill_census(one, mine, table.queues, table.pools)
                table.usd[0] = clock.busy_usd + clock.idle_usd
                table.usd[1], table.usd[2] = clock.lateness_usd, clock.failure_usd
            if parts & OBSERVE:
                observe(table, rule)
        take(counters, DONE, behind - first)
        first = take(counters, TAKEN, stride)
