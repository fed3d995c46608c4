"""Shared resources: the more runs use one beyond its capacity, the slower they all work and the likelier they fail.

A run may hold several slots of a resource. Runs that use the same slots of the same resources form a contention group
and always work at the same speed. A group keeps one count of the work that each of its runs has done, so that a change
of speed touches the group and not its runs.
"""

from __future__ import annotations

import math

from prefect_intelligent.twin.engine.heap import pop, push, remove
from prefect_intelligent.twin.engine.jit import compiled, inlined
from prefect_intelligent.twin.model.state import StateRow
from prefect_intelligent.twin.model.world import WorldRow


@inlined
def begin_work(world: WorldRow, state: StateRow, group: int, run: int, work_s: float) -> None:
    """Let a run of a group use its resources and begin `work_s` seconds of full-speed work."""
    group_state = state.contention_groups[group]
    if world.contention_groups[group].resources != 0:
        use_resources(world, state, group, 1)
    state.keys[run] = _work_done_s(state, group) + work_s
    push(state.executing, world.contention_groups[group].heap_start, group_state.runs, state.keys, run)
    group_state.runs += 1
    schedule_next_end(world, state, group)


@inlined
def stop_work(world: WorldRow, state: StateRow, group: int, run: int) -> None:
    """Take a run that ends, or is ended, out of its group; its resources are freed."""
    group_state = state.contention_groups[group]
    start = world.contention_groups[group].heap_start
    if state.executing[start] == run:
        pop(state.executing, start, group_state.runs, state.keys)
    else:
        remove(state.executing, start, group_state.runs, state.keys, run)
    group_state.runs -= 1
    if world.contention_groups[group].resources != 0:
        use_resources(world, state, group, -1)
    schedule_next_end(world, state, group)


@inlined
def schedule_next_end(world: WorldRow, state: StateRow, group: int) -> None:
    """Work out when the first run of a group will end."""
    group_state = state.contention_groups[group]
    if group_state.runs == 0:
        group_state.next_end_s = math.inf
    else:
        first = state.executing[world.contention_groups[group].heap_start]
        left_s = (state.keys[first] - group_state.work_s) / group_state.speed
        group_state.next_end_s = max(group_state.anchor_s + left_s, state.totals[0].now_s)


@compiled
def overload_failure_probability(world: WorldRow, state: StateRow, group: int) -> float:
    """Added chance of failure for one more run on the resources of a group: that of its most crowded one."""
    most = 0.0
    for resource in range(state.resource_runs.shape[0]):
        if (world.contention_groups[group].resources >> resource) & 1:
            resource_spec = world.resources[resource]
            excess = (state.resource_runs[resource] + world.loads[group, resource]) / resource_spec.capacity - 1.0
            most = max(most, resource_spec.failure * excess)
    return most


@compiled
def use_resources(world: WorldRow, state: StateRow, group: int, count: int) -> None:
    """One run more (`count` 1) or less (-1) on the resources of a group: groups that share one of them change speed."""
    touched = world.contention_groups[group].resources
    for resource in range(state.resource_runs.shape[0]):
        state.resource_runs[resource] += count * world.loads[group, resource]
    for other in range(1, state.contention_groups.shape[0]):
        if world.contention_groups[other].resources & touched:
            speed = 1.0
            for resource in range(state.resource_runs.shape[0]):
                resource_spec = world.resources[resource]
                used = (world.contention_groups[other].resources >> resource) & 1
                if used and state.resource_runs[resource] > resource_spec.capacity:
                    share = resource_spec.capacity / state.resource_runs[resource]
                    speed = min(speed, share**resource_spec.slowdown)
            group_state = state.contention_groups[other]
            if speed != group_state.speed:
                group_state.work_s = _work_done_s(state, other)
                group_state.anchor_s = state.totals[0].now_s
                group_state.speed = speed
                schedule_next_end(world, state, other)


@inlined
def count_claim(world: WorldRow, state: StateRow, pool: int, group: int, count: int) -> None:
    """One run more (`count` 1) or less (-1) that holds a slot of a pool and uses the resources of a group."""
    if world.contention_groups[group].resources != 0:
        for resource in range(state.resource_runs.shape[0]):
            state.resource_claims[pool, resource] += count * world.loads[group, resource]


@inlined
def _work_done_s(state: StateRow, group: int) -> float:
    """Seconds of full-speed work that a run of this group would have done since the world began."""
    group_state = state.contention_groups[group]
    done_s: float = group_state.work_s + (state.totals[0].now_s - group_state.anchor_s) * group_state.speed
    return done_s
