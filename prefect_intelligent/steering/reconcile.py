"""One pass of the control loop: observe, decide, guard, diff, apply, record.

A pass keeps nothing in the process. Its state is in the history store, so any controller, a hook or the command line
can make the next pass, also after a `kill -9`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from prefect_intelligent.domain import Change
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import ConflictError, OrchestratorError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.policy.guard_state import LONG_AGO_S
from prefect_intelligent.steering.baseline import (
    forget_remade,
    read_baseline,
    read_ids,
    record_edits,
    record_reverted_edits,
    save_baseline,
)
from prefect_intelligent.steering.controller_state import INTENT, ControllerState, apply_release_requests, load_state
from prefect_intelligent.steering.decide import ControllerConfig, PlannedPass, build_record, decide
from prefect_intelligent.steering.decision_record import KIND, Decision, Outcome
from prefect_intelligent.steering.identity import describe_remade, ids_of, remade
from prefect_intelligent.steering.kill_switch import read_switch
from prefect_intelligent.steering.manual_overrides import ManualOverride, SettingKey, describe, key_of
from prefect_intelligent.steering.pool_limits import record_pool_limits
from prefect_intelligent.steering.ports import Orchestrator

EVENT = "decision"


def reconcile(
    orchestrator: Orchestrator,
    history: HistoryStore,
    clock: Clock,
    config: ControllerConfig,
    *,
    leads: Callable[[], bool] | None = None,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Decision:
    """Make one pass and return its decision, which has been recorded and sent as an event.

    Args:
        orchestrator: The pool.
        history: Where records are kept.
        clock: The time.
        config: What we are told to do.
        leads: Whether this process certainly still leads the pool; asked before every write. None if nobody else can.
        stopwatch: Measures what the pass takes, seconds.

    Raises:
        ConflictError: The lead was lost during the pass, which then has left no decision: another process decides.
        OrchestratorError: Prefect could not be observed; nothing was written.
        StoreError: The history cannot be used. If it failed before the writes, nothing was written to Prefect; if it
            failed after them, the next pass finds the intent.
    """
    begun = stopwatch()
    pool = orchestrator.pool
    state = apply_release_requests(history, pool, load_state(history, pool))
    snapshot = orchestrator.observe()
    position = read_switch(history, pool)  # after the snapshot, which knows whether the pool was made anew
    enabled = position == "on" or (position == "unset" and config.mode != "auto")
    mends = enabled and config.mode == "auto" and config.mend_claims
    _check_lead(leads, pool)
    mended = _mend_claims(orchestrator) if mends else ()
    if mended:
        snapshot = orchestrator.observe()
    ids = ids_of(snapshot.pool, (queue.setting for queue in snapshot.queues))
    others = remade({**state.ids, **read_ids(history, pool)}, ids)
    if others:
        forget_remade(history, pool, others, snapshot.at_s)
        state = state.without(others)
    baseline = read_baseline(history, pool)

    computing = stopwatch()
    age_s = max(0.0, clock.now_s() - snapshot.at_s)
    planned = decide(snapshot, config, state, baseline, enabled=enabled, age_s=age_s)
    own_s = stopwatch() - computing

    applied: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()
    outcome: Outcome = "unchanged" if enabled else "off"
    _check_lead(leads, pool)
    _record_overrides(history, state, planned)
    if enabled and config.mode != "auto":
        outcome = "recorded"
    elif enabled and planned.changes:
        outcome = "applied"
        applied, problems = _write(orchestrator, history, state, planned, leads)
        _check_lead(leads, pool)  # the state of a pass that was overtaken is not to be read as the newest

    computing = stopwatch()
    decision = build_record(planned, config, applied, outcome, (*describe_remade(pool, others), *mended, *problems))
    tried = planned.changes if outcome == "applied" else ()
    after = planned.next_state(
        state,
        values=dict(planned.values) | {key_of(change): change.after for change in applied},
        pending={key_of(change): change.after for change in tried if change not in applied},
        written=applied,
    )
    record = decision.to_dict() | {"memory": after.to_dict()}
    own_s += stopwatch() - computing
    spent = {"own_ms": own_s * 1e3, "wall_ms": (stopwatch() - begun) * 1e3}
    history.append(KIND, pool, snapshot.at_s, record | spent)
    decision = replace(decision, own_ms=spent["own_ms"], wall_ms=spent["wall_ms"])
    if config.mode != "shadow":
        orchestrator.emit(EVENT, decision.event())
    return replace(decision, wall_ms=(stopwatch() - begun) * 1e3)


def _check_lead(leads: Callable[[], bool] | None, pool: str) -> None:
    if leads is not None and not leads():
        raise ConflictError(f"the lease on work pool {pool!r} has lapsed during the pass: another process may lead")


def _mend_claims(orchestrator: Orchestrator) -> tuple[str, ...]:
    """Mend claims on deployments; a failure does not keep the pass from steering."""
    try:
        return orchestrator.mend_claims()
    except OrchestratorError as error:
        return (f"claims on deployments could not be compared with the server: {error}",)


def _write(
    orchestrator: Orchestrator,
    history: HistoryStore,
    state: ControllerState,
    planned: PlannedPass,
    leads: Callable[[], bool] | None,
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Store the baseline and the intent, then write; returns the changes that hold and what went wrong."""
    pool, at_s = orchestrator.pool, planned.snapshot.at_s
    changes = planned.changes
    ids = ids_of(planned.snapshot.pool, (queue.setting for queue in planned.snapshot.queues))
    save_baseline(history, pool, planned.values, [key_of(change) for change in changes], at_s, ids)
    pending = {key_of(change): change.after for change in changes}
    intent = planned.next_state(state, values=planned.values, pending=pending, written=changes)
    history.append(INTENT, pool, at_s, {"memory": intent.to_dict()})
    try:
        applied = orchestrator.apply(changes, leads=leads)
    except OrchestratorError as error:
        return (), (f"the changes could not be written: {error}",)
    record_pool_limits(history, pool, at_s, applied)
    missed = [describe(key_of(change)) for change in changes if change not in applied]
    return applied, ((f"not written, left for the next pass: {', '.join(missed)}",) if missed else ())


def _written_s(state: ControllerState, key: SettingKey) -> float | None:
    """When we last wrote a value, Unix seconds, as far as the guard knows."""
    queue, which = key
    of = "" if queue is None or which == "priority" else queue
    what = "order" if which == "priority" else "pool" if queue is None else "limit"
    found = state.guard.get(of, {}).get(f"{what}_changed_s", LONG_AGO_S)
    return None if found is None or found <= LONG_AGO_S else found


def _record_overrides(history: HistoryStore, state: ControllerState, planned: PlannedPass) -> None:
    """Store what a person has set, or set back, since the last pass: `control restore` returns to it."""
    before: Mapping[SettingKey, ManualOverride] = state.known.overrides
    now = planned.overrides
    new = {key: found.value for key, found in now.items() if key not in before}
    again = {key: found.value for key, found in now.items() if key in before and before[key].value != found.value}
    reverted = {
        key: old.before
        for key, old in before.items()
        if key not in now and key in planned.values and planned.values[key] == old.before
    }
    pool, at_s = planned.snapshot.pool.name, planned.snapshot.at_s
    written_s = {key: _written_s(state, key) for key in new}
    delays_s = {key: at_s - found_s for key, found_s in written_s.items() if found_s is not None and found_s <= at_s}
    record_edits(history, pool, new, at_s, again=False, delays_s=delays_s)
    record_edits(history, pool, again, at_s, again=True)
    record_reverted_edits(history, pool, reverted, at_s)
