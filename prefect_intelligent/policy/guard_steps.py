"""The steps of the guard, for one pool; `guard` lists its rules, `backend` runs the functions over a batch."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from prefect_intelligent.policy.backend import Column, Numbers, Table, Values, rounded, within
from prefect_intelligent.policy.census import C, P
from prefect_intelligent.policy.guard_state import Bounds, GuardNumbers, Note
from prefect_intelligent.policy.priority_rules import rank_pool

_UNLIMITED: Final = 1e9
"""Stands for `inf` inside, so that differences stay numbers."""


class RequestedSettings(NamedTuple):
    """A proposal for one pool; see `base.Proposal`."""

    score: Column
    limit: Column
    pool_limit: float


class GuardMemory(NamedTuple):
    """The guard's state for one pool; see `guard_state.GuardState`."""

    own_limit: Column
    limit_changed_s: Values
    order_changed_s: float
    pool_changed_s: float


class Draft(NamedTuple):
    """The guard's answer for the queues of one pool, a value each; the last five are working memory.

    Attributes:
        place: Permitted place in the serving order, 0 first.
        limit: Permitted limit; unlimited is `_UNLIMITED` until the last step, `inf` after it.
        notes: `Note` flags.
        kept: Place in force.
        sequence: The queues in serving order.
        scratch: Room for another sequence.
        starts: Number of waiting runs that can start under the permitted limits.
        unmet: Number of further waiting runs that could start under the limits that people have set.
    """

    place: Values
    limit: Values
    notes: Numbers
    kept: Values
    sequence: Numbers
    scratch: Numbers
    starts: Values
    unmet: Values


class PoolOutcome(NamedTuple):
    """The guard's answer for the pool as a whole.

    Attributes:
        pool_limit: Permitted pool limit, slots; `inf` for unlimited.
        notes: `Note` flags.
        reordered: Whether the order changes.
        resized: Whether the pool limit changes.
    """

    pool_limit: float
    notes: int
    reordered: bool
    resized: bool


def permit_pool(
    table: Table,
    figures: Column,
    wanted: RequestedSettings,
    fallback: RequestedSettings,
    has_fallback: bool,
    memory: GuardMemory,
    bounds: Bounds,
    numbers: GuardNumbers,
    now_s: float,
    age_s: float,
    draft: Draft,
) -> PoolOutcome:
    """Write the permitted order and limits into `draft`, and the instant into `memory` where a limit changes.

    Args:
        table: The census of the queues.
        figures: The census of the pool.
        wanted: The policy's proposal.
        fallback: The base rule's proposal.
        has_fallback: Whether there is a fallback.
        memory: The state from the previous call.
        bounds: Bounds and pins of this pool.
        numbers: Settings that are the same for all pools.
        now_s: The instant, Unix seconds.
        age_s: Age of the proposal, seconds.
        draft: Overwritten.
    """
    held = _whole(figures[P.LIMIT])
    rank_pool(table[C.PRESENT], table, draft.kept, draft.sequence)  # equal scores give the order in force
    notes = 0
    if not _valid(wanted, table):
        notes = _INVALID
    elif age_s > numbers.ttl_s:
        notes = _EXPIRED
    for queue in range(len(draft.notes)):
        draft.notes[queue] = notes
    if notes == 0:
        pool = _take(wanted, table, draft)
    elif has_fallback and _valid(fallback, table):
        pool = _take(fallback, table, draft)
    else:
        pool = _keep(table, held, draft)

    _rate_limit_queues(table, memory, numbers, now_s, draft)
    pool, more = _rate_limited(pool, held, memory.pool_changed_s, numbers, now_s)
    if pool < held and now_s - memory.pool_changed_s < numbers.lower_after_s:
        pool, more = held, _INTERVAL
    notes |= more | _rate_limit_order(table, memory, numbers, now_s, draft)

    for queue in range(len(draft.limit)):
        before, low, high = _whole(table[C.LIMIT][queue]), bounds.queue_min[queue], bounds.queue_max[queue]
        draft.limit[queue], more = _bounded(draft.limit[queue], before, table[C.ACTIVE][queue], low, high)
        draft.notes[queue] |= more
    pool, more = _bounded(pool, held, figures[P.ACTIVE], bounds.pool_min, bounds.pool_max)
    notes |= more

    starved = _serve_starved(table, bounds, numbers, draft)
    if starved > 0:
        room = min(held, figures[P.ACTIVE] + starved)
        roomy = max(pool, min(room, max(bounds.pool_max, pool)))
        notes |= _STARVED if roomy > pool else 0
        pool = roomy
    pool_is_ours = bounds.pool_pinned == 0 and held > 0 and figures[P.PAUSED] == 0
    if not pool_is_ours:
        pool = held
    _restore_pinned(table, bounds, draft)

    for queue in range(len(draft.limit)):
        if not _limit_is_ours(table, bounds, queue):
            draft.limit[queue] = _whole(table[C.LIMIT][queue])
    notes |= _conserve(table, pool - figures[P.ACTIVE], starved > 0, memory, bounds, numbers, draft)

    for queue in range(len(draft.notes)):
        if bounds.order_pinned[queue] != 0 or not _limit_is_ours(table, bounds, queue):
            draft.notes[queue] |= _PERSON
    if not pool_is_ours:
        notes |= _PERSON
    if not numbers.enabled:
        pool, notes = _keep(table, held, draft), _KILLED
        for queue in range(len(draft.notes)):
            draft.notes[queue] = _KILLED
    reordered = _finish(table, memory, now_s, draft)
    return PoolOutcome(math.inf if pool >= _UNLIMITED else pool, notes, reordered, pool != held)


_KILLED, _INVALID, _EXPIRED, _PERSON = int(Note.KILLED), int(Note.INVALID), int(Note.EXPIRED), int(Note.PERSON)
_BOUNDS, _RUNNING, _STARVED = int(Note.BOUNDS), int(Note.RUNNING), int(Note.STARVED)
_CONSERVED, _RESERVED, _STEP = int(Note.CONSERVED), int(Note.RESERVED), int(Note.STEP)
_HYSTERESIS, _INTERVAL = int(Note.HYSTERESIS), int(Note.INTERVAL)


def _whole(limit: float) -> float:
    """A limit as a whole number, unlimited as `_UNLIMITED`."""
    return rounded(min(limit, _UNLIMITED))


def _valid(wanted: RequestedSettings, table: Table) -> bool:
    """Whether all scores are finite and all limits 0 or more."""
    present = table[C.PRESENT]
    for queue in range(len(present)):
        if present[queue] > 0 and not (math.isfinite(wanted.score[queue]) and wanted.limit[queue] >= 0):
            return False
    return wanted.pool_limit >= 0


def _is_open(table: Table, queue: int) -> bool:
    """Whether a queue may be served at all."""
    return table[C.PRESENT][queue] > 0 and table[C.PAUSED][queue] == 0 and _whole(table[C.LIMIT][queue]) > 0


def _limit_is_ours(table: Table, bounds: Bounds, queue: int) -> bool:
    """Whether a queue's limit may be changed: no person has pinned it, paused the queue or set it to 0."""
    return bounds.limit_pinned[queue] == 0 and _is_open(table, queue)


def _take(wanted: RequestedSettings, table: Table, draft: Draft) -> float:
    """Write a proposal into the draft and return its pool limit."""
    rank_pool(wanted.score, table, draft.place, draft.sequence)
    for queue in range(len(draft.limit)):
        draft.limit[queue] = _whole(wanted.limit[queue])
    return _whole(wanted.pool_limit)


def _keep(table: Table, held: float, draft: Draft) -> float:
    """Write the settings in force into the draft and return the pool limit in force."""
    for queue in range(len(draft.limit)):
        draft.place[queue] = draft.kept[queue]
        draft.sequence[int(draft.kept[queue])] = queue
        draft.limit[queue] = _whole(table[C.LIMIT][queue])
    return held


def _rate_limit_queues(table: Table, memory: GuardMemory, numbers: GuardNumbers, now_s: float, draft: Draft) -> None:
    """`_rate_limited` for every queue."""
    for queue in range(len(draft.limit)):
        before = _whole(table[C.LIMIT][queue])
        limit, note = _rate_limited(draft.limit[queue], before, memory.limit_changed_s[queue], numbers, now_s)
        draft.limit[queue] = limit
        draft.notes[queue] |= note


def _rate_limited(
    wanted: float, in_force: float, changed_s: float, numbers: GuardNumbers, now_s: float
) -> tuple[float, int]:
    """A limit after interval, hysteresis and largest step, and the note."""
    change = math.fabs(wanted - in_force)
    if change == 0:
        return in_force, 0
    if now_s - changed_s < numbers.interval_s:
        return in_force, _INTERVAL
    if change <= numbers.hysteresis * in_force:
        return in_force, _HYSTERESIS
    largest = max(numbers.step_slots, float(math.floor(numbers.step_fraction * in_force)))
    if change > largest and wanted < _UNLIMITED and in_force < _UNLIMITED:
        return (in_force + largest if wanted > in_force else in_force - largest), _STEP
    return wanted, 0


def _rate_limit_order(table: Table, memory: GuardMemory, numbers: GuardNumbers, now_s: float, draft: Draft) -> int:
    """Keep the order in force within an interval, or if the new one moves no queue with work past another; the note."""
    differs, matters, furthest = False, False, -1.0
    for at in range(len(draft.sequence)):
        queue = draft.sequence[at]
        differs = differs or draft.place[queue] != draft.kept[queue]
        works = table[C.PRESENT][queue] > 0 and table[C.WAITING][queue] + table[C.UPCOMING][queue] > 0
        if works:
            matters = matters or draft.kept[queue] < furthest
            furthest = max(furthest, draft.kept[queue])
    early = now_s - memory.order_changed_s < numbers.interval_s
    if not differs or (matters and not early):
        return 0
    for queue in range(len(draft.place)):
        draft.place[queue] = draft.kept[queue]
        draft.sequence[int(draft.kept[queue])] = queue
    return _INTERVAL if early else _HYSTERESIS


def _bounded(wanted: float, in_force: float, active: float, least: float, most: float) -> tuple[float, int]:
    """A limit clipped to its bounds, but not lowered below what is running, and the note."""
    inside = within(wanted, least, min(most, _UNLIMITED))
    floor = min(active, in_force)
    note = _BOUNDS if inside != wanted else 0
    return (floor, note | _RUNNING) if inside < floor else (inside, note)


def _serve_starved(table: Table, bounds: Bounds, numbers: GuardNumbers, draft: Draft) -> int:
    """Put starved queues first, longest wait first, each with room for one more run; returns how many starve."""
    waited_s, active = table[C.HEAD_WAIT_S], table[C.ACTIVE]
    starved = 0
    for at in range(len(draft.sequence)):
        queue = draft.sequence[at]
        if _is_open(table, queue) and table[C.WAITING][queue] > 0 and waited_s[queue] > numbers.starvation_s:
            to = at
            while to > starved or (to > 0 and waited_s[draft.sequence[to - 1]] < waited_s[queue]):
                draft.sequence[to] = draft.sequence[to - 1]
                to -= 1
            draft.sequence[to] = queue
            starved += 1
            need = min(active[queue] + 1.0, max(bounds.queue_max[queue], draft.limit[queue]))
            if need > draft.limit[queue]:
                draft.limit[queue] = need
                draft.notes[queue] |= _STARVED
    if starved > 0:
        for at in range(len(draft.sequence)):
            queue = draft.sequence[at]
            if at < starved and draft.place[queue] != at:
                draft.notes[queue] |= _STARVED
            draft.place[queue] = float(at)
    return starved


def _restore_pinned(table: Table, bounds: Bounds, draft: Draft) -> None:
    """Put queues that a person has pinned back to their places in force; the others fill the places left, in order."""
    pinned = False
    for queue in range(len(draft.scratch)):
        draft.scratch[queue] = -1
        pinned = pinned or bounds.order_pinned[queue] != 0
    if not pinned:
        return
    for queue in range(len(draft.scratch)):
        if bounds.order_pinned[queue] != 0:
            draft.scratch[int(draft.kept[queue])] = queue
    free = 0
    for at in range(len(draft.sequence)):
        queue = draft.sequence[at]
        if bounds.order_pinned[queue] == 0:
            while draft.scratch[free] >= 0:
                free += 1
            draft.scratch[free] = queue
    for at in range(len(draft.sequence)):
        draft.sequence[at] = draft.scratch[at]
        draft.place[draft.scratch[at]] = float(at)


def _conserve(
    table: Table,
    room: float,
    urgent: bool,
    memory: GuardMemory,
    bounds: Bounds,
    numbers: GuardNumbers,
    draft: Draft,
) -> int:
    """Raise queue limits until no slot of the pool stays idle while a run waits that might start.

    Slots go to queues in serving order, up to the limits set by people and the capacity of shared resources. Up to
    `reserve_slots` stay free for runs due within `reserve_s`, unless a run is starved.
    """
    active = table[C.ACTIVE]
    soon = 0.0
    for queue in range(len(active)):
        is_open = _is_open(table, queue)
        waiting = table[C.WAITING][queue] if is_open else 0.0
        draft.starts[queue] = max(0.0, min(waiting, draft.limit[queue] - active[queue]))
        ceiling = draft.limit[queue]
        if is_open and bounds.limit_pinned[queue] == 0:
            ceiling = min(_whole(memory.own_limit[queue]), bounds.queue_max[queue])
        draft.unmet[queue] = max(0.0, min(waiting, ceiling - active[queue]) - draft.starts[queue])
        room -= draft.starts[queue]
        if is_open and table[C.UPCOMING][queue] > 0 and table[C.NEXT_IN_S][queue] <= numbers.reserve_s:
            soon += 1.0
    idle = max(0.0, room)
    reserved = 0.0 if urgent else min(numbers.reserve_slots, soon)
    spare = max(0.0, idle - reserved)
    left = 0.0
    if idle > 0:
        for at in range(len(active)):
            queue = draft.sequence[at]
            unmet = draft.unmet[queue]
            if unmet > 0 and table[C.RESOURCE][queue] > 0:
                unmet = min(unmet, max(0.0, _free_on_resource(table, at, draft)))
            extra = min(spare, unmet)
            spare -= extra
            left += unmet - extra
            if extra > 0:
                raised = max(draft.limit[queue], active[queue] + draft.starts[queue] + extra)
                if raised > draft.limit[queue]:
                    draft.limit[queue] = raised
                    draft.notes[queue] |= _CONSERVED
    return _RESERVED if min(idle, reserved) > 0 and left > 0 else 0


def _free_on_resource(table: Table, at: int, draft: Draft) -> float:
    """Runs that the shared resource of the queue at that place can still take, after those served before it."""
    queue = draft.sequence[at]
    free = math.floor(min(table[C.RESOURCE_CAPACITY][queue], _UNLIMITED) + 1e-9) - table[C.RESOURCE_ACTIVE][queue]
    for place in range(len(draft.sequence)):
        other = draft.sequence[place]
        if table[C.RESOURCE][other] == table[C.RESOURCE][queue]:
            free -= draft.starts[other]
            if place < at:
                free -= draft.unmet[other]
    return free


def _finish(table: Table, memory: GuardMemory, now_s: float, draft: Draft) -> bool:
    """Write `inf` for unlimited and the instants of change; returns whether the order changes."""
    reordered = False
    for queue in range(len(draft.limit)):
        before = _whole(table[C.LIMIT][queue])
        if not table[C.PRESENT][queue] > 0:
            draft.place[queue], draft.limit[queue], draft.notes[queue] = draft.kept[queue], before, 0
        if draft.limit[queue] != before:
            memory.limit_changed_s[queue] = now_s
        if draft.limit[queue] >= _UNLIMITED:
            draft.limit[queue] = math.inf
        reordered = reordered or draft.place[queue] != draft.kept[queue]
    return reordered
