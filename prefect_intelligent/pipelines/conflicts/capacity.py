"""Rules about slots: more work than they can do, and limits that hold each other up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prefect_intelligent.domain.deadlines import format_span
from prefect_intelligent.domain.objective import lateness_usd
from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.start_times import DAY_S, HORIZONS_S, Calendar
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph

LimitScope = tuple[str, str | None]
"""A pool, or a queue of it."""


@dataclass(frozen=True, slots=True)
class Overload:
    """A place with more work scheduled in a day than its slots can do in a day.

    Attributes:
        work_s: Slot-seconds on the worst day.
        day: Which day that is, counted from now.
        steps: Who asks for them.
    """

    work_s: float
    day: int
    steps: tuple[DeploymentNode, ...]


def overloaded(inventory: Inventory, calendar: Calendar) -> dict[LimitScope, Overload]:
    """Pools and queues with more work scheduled in a day than their slots can do in a day.

    What schedules lead to counts too: a child that is called, a reader that its inputs start.
    """
    every_day: dict[LimitScope, float] = {}
    some_days: dict[LimitScope, dict[int, float]] = {}
    members: dict[LimitScope, list[DeploymentNode]] = {}
    for name, step in sorted(inventory.steps.items()):
        per_day = calendar.per_day(name) if step.pool is not None else None
        if step.pool is None or not per_day:
            continue
        horizon_s = calendar.horizon_s(step)
        for place in {(step.pool, None), (step.pool, step.queue)}:
            members.setdefault(place, []).append(step)
            if horizon_s == HORIZONS_S[0]:
                every_day[place] = every_day.get(place, 0.0) + per_day * step.mean_s
                continue
            days = some_days.setdefault(place, {})
            for at_s in calendar.starts(step, horizon_s):
                day = int((at_s - inventory.at_s) // DAY_S)
                days[day] = days.get(day, 0.0) + step.mean_s
    found = {}
    for place in sorted(members, key=lambda item: (item[0], item[1] or "")):
        slots = slots_of(inventory, place)
        days = some_days.get(place, {})
        worst = max(days, key=lambda day: (days[day], -day), default=0)
        work_s = every_day.get(place, 0.0) + days.get(worst, 0.0)
        if slots is not None and work_s > slots * DAY_S:
            found[place] = Overload(work_s, worst, tuple(members[place]))
    return found


def slots_of(inventory: Inventory, place: LimitScope) -> int | None:
    """Limit of a pool or queue; None is unlimited or not known."""
    pool = inventory.pools.get(place[0])
    return None if pool is None else pool.limit if place[1] is None else pool.queue_limits.get(place[1])


def over_capacity(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """More work scheduled in a day than the slots of the pool (or of a queue) can do in a day."""
    for place, overload in overloaded(inventory, calendar).items():
        slots = slots_of(inventory, place) or 0
        behind_s = (overload.work_s - slots * DAY_S) / max(slots, 1)
        price = max(step.terms.late_usd_per_hour for step in overload.steps)
        evidence = (
            f"{describe_scope(place)}: {overload.work_s / 3600:.1f} slot-hours scheduled a day, {slots * 24} there"
        )
        foreseen = inventory.congestion.get(place[0])
        if foreseen is not None and foreseen.hours:
            evidence += (
                f"; in the twin the runs due at {_ranges(foreseen.hours)} from now wait, "
                f"up to {format_span(round(foreseen.longest_wait_s))}"
            )
        yield Finding(
            rule="over-capacity",
            subjects=tuple(sorted(step.name for step in overload.steps)),
            evidence=evidence,
            advice=f"raise the limit to {math.ceil(overload.work_s / DAY_S)} or schedule less work",
            cost_usd=lateness_usd(behind_s, price, inventory.prices.lateness_weight),
        )


def describe_scope(place: LimitScope) -> str:
    """As a person says it."""
    return f"pool {place[0]}" if place[1] is None else f"queue {place[1]} of pool {place[0]}"


def _ranges(hours: Sequence[int]) -> str:
    """Whole hours as ranges: [0, 1, 2, 5] is "+0..2 h, +5 h"."""
    parts: list[list[int]] = []
    for hour in hours:
        if parts and parts[-1][-1] == hour - 1:
            parts[-1].append(hour)
        else:
            parts.append([hour])
    return ", ".join(f"+{p[0]} h" if len(p) == 1 else f"+{p[0]}..{p[-1]} h" for p in parts)


def limit_too_low(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A deployment limit below arrival rate x duration: its backlog grows without bound."""
    for name, step in sorted(inventory.steps.items()):
        if step.limit is None:
            continue
        per_hour = (calendar.per_day(name) or 0.0) / 24
        # runs that no schedule of its own made are those that schedules elsewhere led to, as far as these were seen
        seen = step.arrivals_per_hour or 0.0
        per_hour = per_hour + seen if name in calendar.scheduled else max(per_hour, seen)
        busy = per_hour * step.mean_s / 3600
        if busy > step.limit:
            need = math.ceil(busy)
            growth = (busy - step.limit) / busy * per_hour
            yield Finding(
                rule="limit-too-low",
                subjects=(name,),
                evidence=f"{per_hour:.3g} runs/h of {format_span(round(step.mean_s))} keep {busy:.3g} slots busy; "
                f"the limit is {step.limit}",
                advice=f"raise the deployment's limit to {need} or schedule fewer runs",
                cost_usd=growth * step.mean_s / 3600 / max(step.limit, 1) * step.terms.late_usd_per_hour,
                fix=Fix(kind="set-limit", deployment=name, value=need, safe=False),
            )


def slot_deadlock(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Parents that hold a slot while they wait for a child that needs a slot of the same limit."""
    for place, parents in sorted(_waiting(inventory).items(), key=lambda item: (item[0][0], item[0][1] or "")):
        slots = slots_of(inventory, place)
        if slots is None or _held(inventory, calendar, place, parents) < slots:
            continue
        names = sorted(parents)
        children = sorted({child for found in parents.values() for child in found})
        alone = len(names) == 1 and slots > 1
        yield Finding(
            rule="slot-deadlock",
            subjects=tuple(sorted({*names, *children})),
            evidence=f"{', '.join(names)} may hold all {slots} slots of {describe_scope(place)} and wait for "
            f"{', '.join(children)}",
            advice=f"limit {names[0]} to {slots - 1} runs, run the child in another pool, or do not wait (timeout=0)"
            if alone
            else "run the children in another pool, or do not wait for them (timeout=0)",
            fix=Fix(kind="set-limit", deployment=names[0], value=slots - 1) if alone else None,
        )


def _waiting(inventory: Inventory) -> dict[LimitScope, dict[str, set[str]]]:
    """By pool and by queue: who holds a slot there, and which others that need one there it waits for.

    Waiting is passed on: who waits for a child in another pool, which waits for a grandchild here, waits for that too.
    """
    steps = inventory.steps
    children: dict[str, set[str]] = {}
    for call in inventory.calls:
        if call.waits and call.caller in steps and call.callee in steps:
            children.setdefault(call.caller, set()).add(call.callee)
    found: dict[LimitScope, dict[str, set[str]]] = {}
    for name in children:
        parent = steps[name]
        if parent.pool is None:
            continue
        for other in (steps[below] for below in _below(name, children)):
            for place in {(parent.pool, None), (parent.pool, parent.queue)} & {
                (other.pool, None),
                (other.pool, other.queue),
            }:
                found.setdefault(place, {}).setdefault(name, set()).add(other.name)
    return found


def _below(name: str, children: Mapping[str, set[str]]) -> set[str]:
    """Everything that a parent waits for, directly or through others."""
    seen: set[str] = set()
    stack = [name]
    while stack:
        for child in children.get(stack.pop(), ()):
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return seen


def _held(inventory: Inventory, calendar: Calendar, place: LimitScope, parents: Mapping[str, set[str]]) -> float:
    """How many slots of a place the parents may hold at once.

    A parent without a limit may hold as many as it is started in a day, which is what comes at once after an outage;
    one that is started by hand, any number. A queue's limit holds for all parents in it together.
    """
    by_queue: dict[str | None, float] = {}
    for name in parents:
        step = inventory.steps[name]
        per_day = calendar.per_day(name)
        most = math.inf if per_day is None else math.ceil(per_day + 24 * (step.arrivals_per_hour or 0.0))
        held = most if step.limit is None else min(step.limit, most)
        by_queue[step.queue] = by_queue.get(step.queue, 0.0) + held
    limits = inventory.pools[place[0]].queue_limits
    return sum(
        min(held, math.inf if (cap := limits.get(queue or "")) is None else cap) for queue, held in by_queue.items()
    )
