"""Runs that call others: the parent keeps its slot while its children, runs of their own, wait, run and end.

The parent works up to its call, creates its children, does no work until all of them are over, and then does the rest.
It fails if one of them has not completed. A later attempt of the parent finds the children of the first one.
"""

from __future__ import annotations

from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.model.contention import begin_work, stop_work
from prefect_intelligent.twin.model.state import (
    AFTER_CALL,
    COMPLETED,
    NOT_CREATED,
    WAITS_FOR_CHILDREN,
    StateRow,
)
from prefect_intelligent.twin.model.timers import DROP, GO_ON, RELEASE, set_timer
from prefect_intelligent.twin.model.world import WorldRow


@compiled
def call_children(world: WorldRow, state: StateRow, run: int) -> bool:
    """The work before the call is done: create the children, once, and wait. False if the attempt ends before it."""
    run_spec, run_state = world.runs[run], state.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    if run_state.ends_share <= deployment_spec.calls_at and run_state.outcome != COMPLETED:
        return False
    stop_work(world, state, deployment_spec.contention_group, run)
    run_state.calling = WAITS_FOR_CHILDREN
    now_s = state.totals[0].now_s
    if run_state.called == 0:
        run_state.called, run_state.children_left = 1, run_spec.calls
        for edge in range(run_spec.first_call, run_spec.first_call + run_spec.calls):
            child = world.edges[edge]
            state.runs[child].upstreams_left = -1
            set_timer(state, now_s, RELEASE, child)
    if run_state.children_left == 0:
        set_timer(state, now_s, GO_ON, run)
    return True


@compiled
def go_on(world: WorldRow, state: StateRow, run: int) -> bool:
    """The children are over: the parent does the rest of its work. False if it fails since one has not completed."""
    run_spec, run_state = world.runs[run], state.runs[run]
    deployment_spec = world.deployments[run_spec.deployment]
    if run_state.child_failed != 0:
        return False
    run_state.calling = AFTER_CALL
    rest = run_state.ends_share - deployment_spec.calls_at
    begin_work(world, state, deployment_spec.contention_group, run, run_spec.work_s * rest)
    return True


@compiled
def end_family(world: WorldRow, state: StateRow, run: int, phase: int) -> None:
    """A run is over for good: its parent has one child less to wait for; children that it never called are dropped."""
    run_spec, run_state = world.runs[run], state.runs[run]
    now_s = state.totals[0].now_s
    if run_spec.parent >= 0:
        parent_state = state.runs[run_spec.parent]
        if phase != COMPLETED:
            parent_state.child_failed = 1
        if parent_state.called != 0:
            parent_state.children_left -= 1
            if parent_state.children_left == 0 and parent_state.calling == WAITS_FOR_CHILDREN:
                set_timer(state, now_s, GO_ON, run_spec.parent)
    if run_spec.calls > 0 and run_state.called == 0:
        run_state.called = 1
        for edge in range(run_spec.first_call, run_spec.first_call + run_spec.calls):
            child = world.edges[edge]
            if state.runs[child].phase == NOT_CREATED:
                state.runs[child].upstreams_left = -1
                set_timer(state, now_s, DROP, child)
