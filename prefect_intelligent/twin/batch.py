"""The model run over the worlds of a batch. The interpreter's lock is released, so that threads can share a batch."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.census import P
from prefect_intelligent.policy.guard_state import GuardNumbers
from prefect_intelligent.policy.rule_parameters import RuleNumbers
from prefect_intelligent.twin.engine.decide import apply_actions, apply_rule, guard, observe
from prefect_intelligent.twin.engine.decision_buffers import blank_buffers, buffers_row
from prefect_intelligent.twin.engine.jit import code, compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference, take, unpacker
from prefect_intelligent.twin.engine.threads import DONE, TAKEN
from prefect_intelligent.twin.model.apply_plan import set_plan
from prefect_intelligent.twin.model.event_loop import begin, run_until
from prefect_intelligent.twin.model.fill_census import fill_census
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.state import State, blank_state
from prefect_intelligent.twin.model.world import World, blank_world

Integers = npt.NDArray[np.int64]

# Phases of a decision interval, in the order in which `run_phases` does them; they may be added up.
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

unpack_world = unpacker(blank_world())
unpack_state = unpacker(blank_state(blank_world()))
unpack_buffers = unpacker(blank_buffers(0, 1, 1))


@compiled
def begin_all(world: World, state: State, rows: Integers) -> None:
    """Set the worlds of these numbers to their beginning; their state must be zero."""
    for row in rows:
        begin(by_reference(world_row(world, row)), by_reference(state_row(state, row)))


@compiled
def run_phases(
    packed_world: Integers,
    packed_state: Integers,
    packed_buffers: Integers,
    counters: Integers,
    stride: int,
    phases: int,
    interval_s: float,
    rule: RuleNumbers,
    guard_numbers: GuardNumbers,
) -> None:
    """A decision interval, or phases of one, of some worlds. One function, since each takes long to compile.

    Args:
        packed_world: The batch, see `numba_structs.pack_pointers`.
        packed_state: Its state.
        packed_buffers: Its buffers, from which everything is read and to which it is written.
        counters: Shape (2,), see `threads`; threads that share a batch share them.
        stride: So many worlds are taken at a time.
        phases: Sum of the phases above.
        interval_s: Seconds, for `INTERVAL`.
        rule: The base rule, for `OBSERVE`.
        guard_numbers: What the guard permits everywhere, for `GUARD`.
    """
    world, state = unpack_world(packed_world), unpack_state(packed_state)
    buffers = unpack_buffers(packed_buffers)
    n_worlds = world.settings.shape[0]
    first = take(counters, TAKEN, stride)
    while first < n_worlds:
        behind = min(first + stride, n_worlds)
        for row in range(first, behind):
            if buffers.skip[row] != 0:
                continue
            one_world, one_state = by_reference(world_row(world, row)), by_reference(state_row(state, row))
            one = by_reference(buffers_row(buffers, row))
            totals = one_state.totals[0]
            if phases & APPLY_ACTIONS:
                apply_actions(one)
            if phases & APPLY_RULE:
                apply_rule(one)
            if phases & GUARD:
                guard(one, totals.now_s, (phases & WITH_FALLBACK) != 0, guard_numbers)
            if phases & PLAN:
                set_plan(one_world, one_state, one.score, one.limit, one.pool_limit)
            if phases & INTERVAL:
                over = totals.ended >= one_world.settings[0].runs
                one.until_s[0] = totals.now_s if over else totals.now_s + interval_s
            if phases & (RUN | FINISH):
                run_until(one_world, one_state, one.until_s[0], (phases & FINISH) != 0)
            if phases & CENSUS:
                fill_census(one_world, one_state, one.queues, one.pools)
                for pool in range(one.pools.shape[0]):
                    one.pools[pool, P.MOST] = one.pool_max[pool]
                one.usd[0] = totals.busy_usd + totals.idle_usd
                one.usd[1], one.usd[2] = totals.lateness_usd, totals.failure_usd
            if phases & OBSERVE:
                observe(one, rule)
        take(counters, DONE, behind - first)
        first = take(counters, TAKEN, stride)
