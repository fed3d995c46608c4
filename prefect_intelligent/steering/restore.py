"""Going back: every value that we have changed returns to what people had set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prefect_intelligent.domain import Change
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.steering.baseline import mark_restored, read_baseline
from prefect_intelligent.steering.controller_state import load_state
from prefect_intelligent.steering.decision_record import KIND, Decision
from prefect_intelligent.steering.dedicated_queues import undo_adoption
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.steering.manual_overrides import Key, KnownSettings, Values, values_of
from prefect_intelligent.steering.ports import Orchestrator

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What going back means.

    Attributes:
        changes: Values to write, in order.
        gone: Queues that no longer exist and stay away.
        touched: Whether anything of the pool had been changed since the last time.
    """

    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    touched: bool


def plan_restoration(orchestrator: Orchestrator, history: HistoryStore) -> Restoration:
    """What would be written."""
    originals = read_baseline(history, orchestrator.pool)
    found = values_of(*orchestrator.settings())
    gone = {queue for queue, _ in originals if queue is not None and (queue, "priority") not in found}
    return Restoration(changes=_differences(found, originals), gone=tuple(sorted(gone)), touched=bool(originals))


def restore(orchestrator: Orchestrator, history: HistoryStore, clock: Clock, *, by: str) -> Restoration:
    """Put everything back, hooks included: they leave the pool alone until a controller is started.

    Doing it again changes nothing. It can be cut off anywhere: what was to be put back is forgotten only when all of it
    holds.

    Raises:
        OrchestratorError: Prefect refused for longer than we try; run it again.
    """
    pool = orchestrator.pool
    set_switch(history, pool, "restored", clock.now_s(), by)
    done = plan_restoration(orchestrator, history)
    undo_adoption(orchestrator, history, clock)
    left = done.changes
    for attempt in range(_ATTEMPTS):
        if not left:
            break
        if attempt:
            clock.sleep(0.5 * 2**attempt)
        orchestrator.apply(left)
        left = plan_restoration(orchestrator, history).changes
    if left:
        raise OrchestratorUnavailableError(
            f"{len(left)} of {len(done.changes)} values could not be put back in {_ATTEMPTS} attempts; run it again"
        )
    if done.touched:
        _record(orchestrator, history, clock, done.changes, by)
        mark_restored(history, pool, clock.now_s())
    return done


def _record(
    orchestrator: Orchestrator, history: HistoryStore, clock: Clock, changes: tuple[Change, ...], by: str
) -> None:
    """Keep the going back as a decision, so that the next pass does not take it for a person's edit."""
    pool, at_s = orchestrator.pool, clock.now_s()
    memory = load_state(history, pool)
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
        memory, passes=memory.passes + 1, standing=KnownSettings(values=values_of(*orchestrator.settings())), guard={}
    )
    history.append(KIND, pool, at_s, decision.to_dict() | {"memory": after.to_dict()})
    orchestrator.emit("restored", decision.event())


def _differences(found: Values, originals: Mapping[Key, int | None]) -> tuple[Change, ...]:
    """What to write so that `found` becomes `originals`: limits that shrink, then priorities, then limits that grow."""
    changes = [
        Change(queue=queue, field=which, before=found[queue, which], after=value)
        for (queue, which), value in originals.items()
        if (queue, which) in found and found[queue, which] != value
    ]

    def turn_of(change: Change) -> tuple[int, float]:
        before, after = (float("inf") if value is None else value for value in (change.before, change.after))
        if change.field == "priority":
            return 1, after
        return (0, 0.0) if after < before else (2, 0.0)

    return tuple(sorted(changes, key=turn_of))
