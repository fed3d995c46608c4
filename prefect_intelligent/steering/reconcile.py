"""One pass of the control loop: observe, decide, guard, diff, apply, record.

A pass keeps nothing in the process. What it has to remember is in the history store, so any controller, a hook or the
command line can make the next one, also after a `kill -9`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from prefect_intelligent.domain import Change
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.baseline import note_edits, note_edits_taken_back, read_baseline, save_originals
from prefect_intelligent.steering.controller_state import INTENT, ControllerState, apply_release_requests, load_state
from prefect_intelligent.steering.decide import ControllerConfig, PlannedPass, build_record, decide
from prefect_intelligent.steering.decision_record import KIND, Decision, Outcome
from prefect_intelligent.steering.kill_switch import read_switch
from prefect_intelligent.steering.manual_overrides import Key, ManualOverride, describe, key_of
from prefect_intelligent.steering.ports import Orchestrator

EVENT = "decision"


def reconcile(
    orchestrator: Orchestrator,
    history: HistoryStore,
    clock: Clock,
    config: ControllerConfig,
    *,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Decision:
    """Make one pass and return its decision, which has been recorded and sent.

    Raises:
        OrchestratorError: Prefect could not be observed; nothing was written.
        StoreError: The history cannot be used. If that was before the writing, nothing was written to Prefect; if it
            was after, the next pass finds the intent.
    """
    begun = stopwatch()
    pool = orchestrator.pool
    memory = apply_release_requests(history, pool, load_state(history, pool))
    originals = read_baseline(history, pool)
    enabled = read_switch(history, pool) == "on"
    snapshot = orchestrator.observe()

    thinking = stopwatch()
    age_s = max(0.0, clock.now_s() - snapshot.at_s)
    considered = decide(snapshot, config, memory, originals, enabled=enabled, age_s=age_s)
    own_s = stopwatch() - thinking

    applied: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()
    outcome: Outcome = "unchanged" if enabled else "off"
    _note_people(history, memory, considered)
    if enabled and config.mode != "auto":
        outcome = "recorded"
    elif enabled and considered.changes:
        outcome = "applied"
        applied, problems = _write(orchestrator, history, memory, considered)

    thinking = stopwatch()
    decision = build_record(considered, config, applied, outcome, problems)
    tried = considered.changes if outcome == "applied" else ()
    after = considered.remembered(
        memory,
        values=dict(considered.found) | {key_of(change): change.after for change in applied},
        pending={key_of(change): change.after for change in tried if change not in applied},
        written=applied,
    )
    record = decision.to_dict() | {"memory": after.to_dict()}
    own_s += stopwatch() - thinking
    spent = {"own_ms": own_s * 1e3, "wall_ms": (stopwatch() - begun) * 1e3}
    history.append(KIND, pool, snapshot.at_s, record | spent)
    decision = replace(decision, own_ms=spent["own_ms"], wall_ms=spent["wall_ms"])
    if config.mode != "shadow":
        orchestrator.emit(EVENT, decision.event())
    return replace(decision, wall_ms=(stopwatch() - begun) * 1e3)


def _write(
    orchestrator: Orchestrator, history: HistoryStore, memory: ControllerState, considered: PlannedPass
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Save what is to be put back, say what is about to be done, do it; returns what holds and what went wrong."""
    pool, at_s = orchestrator.pool, considered.snapshot.at_s
    changes = considered.changes
    save_originals(history, pool, considered.found, [key_of(change) for change in changes], at_s)
    pending = {key_of(change): change.after for change in changes}
    intent = considered.remembered(memory, values=considered.found, pending=pending, written=changes)
    history.append(INTENT, pool, at_s, {"memory": intent.to_dict()})
    try:
        applied = orchestrator.apply(changes)
    except OrchestratorError as error:
        return (), (f"the changes could not be written: {error}",)
    missed = [describe(key_of(change)) for change in changes if change not in applied]
    return applied, ((f"not written, left for the next pass: {', '.join(missed)}",) if missed else ())


def _note_people(history: HistoryStore, memory: ControllerState, considered: PlannedPass) -> None:
    """Keep what a person has set, or set back, since the last pass: it is what `control restore` returns to."""
    before: Mapping[Key, ManualOverride] = memory.standing.holds
    fresh = {key: hold.value for key, hold in considered.holds.items() if key not in before}
    again = {
        key: hold.value for key, hold in considered.holds.items() if key in before and before[key].value != hold.value
    }
    undone = {
        key: hold.before
        for key, hold in before.items()
        if key not in considered.holds and key in considered.found and considered.found[key] == hold.before
    }
    pool, at_s = considered.snapshot.pool.name, considered.snapshot.at_s
    note_edits(history, pool, fresh, at_s, again=False)
    note_edits(history, pool, again, at_s, again=True)
    note_edits_taken_back(history, pool, undone, at_s)
