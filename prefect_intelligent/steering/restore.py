"""Putting a pool back: every value that steering has changed returns to what people had set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from prefect_intelligent.domain import Change
from prefect_intelligent.domain.backoff import backoff_s
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.baseline import mark_restored, read_baseline, read_ids
from prefect_intelligent.steering.controller_state import load_state
from prefect_intelligent.steering.decision_record import KIND, Decision
from prefect_intelligent.steering.dedicated_queues import undo_adoption
from prefect_intelligent.steering.identity import describe_remade, ids_of, remade
from prefect_intelligent.steering.kill_switch import unset_unless_off
from prefect_intelligent.steering.manual_overrides import KnownSettings, SettingKey, SettingValues, values_of
from prefect_intelligent.steering.pool_limits import record_pool_limits
from prefect_intelligent.steering.ports import Orchestrator

T = TypeVar("T")

_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What putting the pool back takes.

    Attributes:
        changes: Values to write, in order.
        gone: Queues that no longer exist and are not made again.
        remade: What was deleted and made again by somebody, in sentences: the old values are not its own.
        touched: Whether anything of the pool had been changed since it was last put back.
    """

    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    touched: bool
    remade: tuple[str, ...] = ()


def plan_restoration(orchestrator: Orchestrator, history: HistoryStore) -> Restoration:
    """What would be written."""
    baseline = read_baseline(history, orchestrator.pool)
    settings = orchestrator.settings()
    found = values_of(*settings)
    others = remade(read_ids(history, orchestrator.pool), ids_of(*settings))
    known = load_state(history, orchestrator.pool).known
    mine = {key: value for key, value in baseline.items() if key[0] not in others and not _set_since(known, key, found)}
    gone = {queue for queue, _ in mine if queue is not None and (queue, "priority") not in found}
    return Restoration(
        changes=_differences(found, mine),
        gone=tuple(sorted(gone)),
        touched=bool(baseline),
        remade=describe_remade(orchestrator.pool, others),
    )


def restore(orchestrator: Orchestrator, history: HistoryStore, clock: Clock, *, by: str) -> Restoration:
    """Put everything back, and take the switch back: hooks leave the pool alone until somebody turns it on again.

    Running it again changes nothing. It may be interrupted anywhere: the baseline is dropped only when all of it holds.

    Raises:
        OrchestratorError: Prefect refused until the last attempt; run it again.
    """
    pool = orchestrator.pool
    done: list[Restoration] = []

    def put_back() -> None:
        unset_unless_off(history, pool, clock.now_s(), by)
        done.append(plan_restoration(orchestrator, history))
        undo_adoption(orchestrator, history, clock)
        if done[-1].changes:
            orchestrator.apply(done[-1].changes)
            left = plan_restoration(orchestrator, history).changes
            if left:
                all_of_them = len(done[0].changes)
                raise OrchestratorUnavailableError(f"{len(left)} of {all_of_them} values could not be put back")
        if done[0].touched:
            _record(orchestrator, history, clock, done[0].changes, by)
            mark_restored(history, pool, clock.now_s())

    retry(clock, put_back)
    return done[0]


def retry(clock: Clock, act: Callable[[], T]) -> T:
    """What `act` returns, which may be repeated; it is while Prefect cannot be reached, with longer and longer pauses.

    Raises:
        OrchestratorError: Prefect refused, or could not be reached until the last attempt; run it again.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return act()
        except OrchestratorUnavailableError:
            clock.sleep(backoff_s(attempt, first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S))
    try:
        return act()
    except OrchestratorUnavailableError as error:
        raise OrchestratorUnavailableError(f"{error}, in {_ATTEMPTS} attempts; run it again") from error


def _record(
    orchestrator: Orchestrator, history: HistoryStore, clock: Clock, changes: tuple[Change, ...], by: str
) -> None:
    """Record this as a decision, so that the next pass does not take the values for a person's."""
    pool, at_s = orchestrator.pool, clock.now_s()
    state = load_state(history, pool)
    written = tuple((c.queue, c.field, c.before, c.after) for c in changes)
    decision = Decision(
        pool=pool,
        at_s=at_s,
        mode="auto",
        by=by,
        policy="-",
        rule="-",
        outcome="restored",
        planned=written,
        applied=written,
    )
    after = replace(
        state,
        passes=state.passes + 1,
        known=KnownSettings(values=values_of(*orchestrator.settings())),
        guard={},
        ids=ids_of(*orchestrator.settings()),
    )
    history.append(KIND, pool, at_s, decision.to_dict() | {"memory": after.to_dict()})
    record_pool_limits(history, pool, at_s, changes)
    orchestrator.emit("restored", decision.event())


def _set_since(known: KnownSettings, key: SettingKey, found: SettingValues) -> bool:
    """Whether a person has set the value after the last pass, which therefore has not stored it: it stays."""
    if key not in known.values or key not in found or found[key] == known.values[key]:
        return False
    override = known.overrides.get(key)
    ours = key in known.pending and known.pending[key] == found[key]
    return not ours and (override is None or found[key] != override.before)


def _differences(found: SettingValues, baseline: Mapping[SettingKey, int | None]) -> tuple[Change, ...]:
    """What to write so that `found` becomes `baseline`: limits that shrink, then priorities, then limits that grow."""
    changes = [
        Change(queue=queue, field=which, before=found[queue, which], after=value)
        for (queue, which), value in baseline.items()
        if (queue, which) in found and found[queue, which] != value
    ]

    def turn_of(change: Change) -> tuple[int, float]:
        before, after = (float("inf") if value is None else value for value in (change.before, change.after))
        if change.field == "priority":
            return 1, after
        return (0, 0.0) if after < before else (2, 0.0)

    return tuple(sorted(changes, key=turn_of))
