"""Rules about slots: more work than capacity, limits that are too low, and slot deadlocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prefect_intelligent.domain.objective import lateness_usd
from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.start_times import DAY_S, HORIZONS_S, Calendar
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph

LimitScope = tuple[str, str | None]
"""What a limit applies to: (pool, None) or (pool, queue)."""


@dataclass(frozen=True, slots=True)
class Overload:
    """A pool or queue with more work scheduled in a day than its slots can do in a day.

    Attributes:
        work_s: Slot-seconds scheduled on the worst day.
        day: Number of days from now to that day.
        nodes: Deployments whose runs are scheduled there.
    """

    work_s: float
    day: int
    nodes: tuple[DeploymentNode, ...]


def overloaded(inventory: Inventory, calendar: Calendar) -> dict[LimitScope, Overload]:
    """Return pools and queues with more work scheduled in a day than their slots can do in a day.

    Runs that scheduled runs lead to count too: a child that is called, a reader that its inputs start.
    """
    every_day: dict[LimitScope, float] = {}
    some_days: dict[LimitScope, dict[int, float]] = {}
    members: dict[LimitScope, list[DeploymentNode]] = {}
    for name, node in sorted(inventory.nodes.items()):
        per_day = calendar.per_day(name) if node.pool is not None else None
        if node.pool is None or not per_day:
            continue
        horizon_s = calendar.horizon_s(node)
        for scope in {(node.pool, None), (node.pool, node.queue)}:
            members.setdefault(scope, []).append(node)
            if horizon_s == HORIZONS_S[0]:
                every_day[scope] = every_day.get(scope, 0.0) + per_day * node.mean_s
                continue
            days = some_days.setdefault(scope, {})
            for at_s in calendar.starts(node, horizon_s):
                day = int((at_s - inventory.at_s) // DAY_S)
                days[day] = days.get(day, 0.0) + node.mean_s
    found = {}
    for scope in sorted(members, key=lambda item: (item[0], item[1] or "")):
        slots = slots_of(inventory, scope)
        days = some_days.get(scope, {})
        worst = max(days, key=lambda day: (days[day], -day), default=0)
        work_s = every_day.get(scope, 0.0) + days.get(worst, 0.0)
        if slots is not None and work_s > slots * DAY_S:
            found[scope] = Overload(work_s, worst, tuple(members[scope]))
    return found


def slots_of(inventory: Inventory, scope: LimitScope) -> int | None:
    """Return the limit of a pool or queue; None is unlimited or unknown."""
    pool = inventory.pools.get(scope[0])
    return None if pool is None else pool.limit if scope[1] is None else pool.queue_limits.get(scope[1])


def over_capacity(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """More work scheduled in a day than the slots of the pool (or of a queue) can do in a day."""
    for scope, overload in overloaded(inventory, calendar).items():
        slots = slots_of(inventory, scope) or 0
        behind_s = (overload.work_s - slots * DAY_S) / max(slots, 1)
        price = max(node.terms.late_usd_per_hour for node in overload.nodes)
        evidence = (
            f"{describe_scope(scope)}: {overload.work_s / 3600:.1f} slot-hours scheduled a day, {slots * 24} there"
        )
        congestion = inventory.congestion.get(scope[0])
        if congestion is not None and congestion.hours:
            evidence += (
                f"; in the twin the runs due at {_ranges(congestion.hours)} from now wait, "
                f"up to {format_span(round(congestion.longest_wait_s))}"
            )
        yield Finding(
            rule="over-capacity",
            subjects=tuple(sorted(node.name for node in overload.nodes)),
            evidence=evidence,
            advice=f"raise the limit to {math.ceil(overload.work_s / DAY_S)} or schedule less work",
            cost_usd=lateness_usd(behind_s, price, inventory.prices.lateness_weight),
        )


def describe_scope(scope: LimitScope) -> str:
    """Return the name of a pool or queue for messages."""
    return f"pool {scope[0]}" if scope[1] is None else f"queue {scope[1]} of pool {scope[0]}"


def _ranges(hours: Sequence[int]) -> str:
    """Format whole hours as ranges: [0, 1, 2, 5] is "+0..2 h, +5 h"."""
    parts: list[list[int]] = []
    for hour in hours:
        if parts and parts[-1][-1] == hour - 1:
            parts[-1].append(hour)
        else:
            parts.append([hour])
    return ", ".join(f"+{p[0]} h" if len(p) == 1 else f"+{p[0]}..{p[-1]} h" for p in parts)


def limit_too_low(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A deployment limit below arrival rate x duration: its backlog grows without bound."""
    for name, node in sorted(inventory.nodes.items()):
        if node.limit is None:
            continue
        per_hour = (calendar.per_day(name) or 0.0) / 24
        # without a schedule of its own, the observed runs include those that other schedules lead to
        observed = node.arrivals_per_hour or 0.0
        per_hour = per_hour + observed if name in calendar.scheduled else max(per_hour, observed)
        busy = per_hour * node.mean_s / 3600
        if busy > node.limit:
            need = math.ceil(busy)
            growth = (busy - node.limit) / busy * per_hour
            yield Finding(
                rule="limit-too-low",
                subjects=(name,),
                evidence=f"{per_hour:.3g} runs/h of {format_span(round(node.mean_s))} keep {busy:.3g} slots busy; "
                f"the limit is {node.limit}",
                advice=f"raise the deployment's limit to {need} or schedule fewer runs",
                cost_usd=growth * node.mean_s / 3600 / max(node.limit, 1) * node.terms.late_usd_per_hour,
                fix=Fix(kind="set-limit", deployment=name, value=need, safe=False),
            )


def slot_deadlock(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Parents that hold a slot while they wait for a child that needs a slot of the same limit."""
    for scope, parents in sorted(_waiting(inventory).items(), key=lambda item: (item[0][0], item[0][1] or "")):
        slots = slots_of(inventory, scope)
        if slots is None or _occupied_slots(inventory, calendar, scope, parents) < slots:
            continue
        names = sorted(parents)
        children = sorted({child for found in parents.values() for child in found})
        alone = len(names) == 1 and slots > 1
        yield Finding(
            rule="slot-deadlock",
            subjects=tuple(sorted({*names, *children})),
            evidence=f"{', '.join(names)} may hold all {slots} slots of {describe_scope(scope)} and wait for "
            f"{', '.join(children)}",
            advice=f"limit {names[0]} to {slots - 1} runs, run the child in another pool, or do not wait (timeout=0)"
            if alone
            else "run the children in another pool, or do not wait for them (timeout=0)",
            fix=Fix(kind="set-limit", deployment=names[0], value=slots - 1) if alone else None,
        )


def _waiting(inventory: Inventory) -> dict[LimitScope, dict[str, set[str]]]:
    """Return, by pool or queue, the parents that occupy a slot there and the descendants that need one there.

    Waiting is transitive: a parent that waits for a child in another pool also waits for the child's children.
    """
    nodes = inventory.nodes
    children: dict[str, set[str]] = {}
    for call in inventory.calls:
        if call.waits and call.caller in nodes and call.callee in nodes:
            children.setdefault(call.caller, set()).add(call.callee)
    found: dict[LimitScope, dict[str, set[str]]] = {}
    for name in children:
        parent = nodes[name]
        if parent.pool is None:
            continue
        for other in (nodes[descendant] for descendant in _descendants(name, children)):
            for scope in {(parent.pool, None), (parent.pool, parent.queue)} & {
                (other.pool, None),
                (other.pool, other.queue),
            }:
                found.setdefault(scope, {}).setdefault(name, set()).add(other.name)
    return found


def _descendants(name: str, children: Mapping[str, set[str]]) -> set[str]:
    """Return everything that a parent waits for, directly or indirectly."""
    seen: set[str] = set()
    stack = [name]
    while stack:
        for child in children.get(stack.pop(), ()):
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return seen


def _occupied_slots(
    inventory: Inventory, calendar: Calendar, scope: LimitScope, parents: Mapping[str, set[str]]
) -> float:
    """Return how many slots of a pool or queue the parents may occupy at once.

    A parent without a limit may occupy as many slots as it has starts in a day, all of which come at once after an
    outage; one that is started by hand, any number. A queue's limit applies to all parents in it together.
    """
    by_queue: dict[str | None, float] = {}
    for name in parents:
        node = inventory.nodes[name]
        per_day = calendar.per_day(name)
        most = math.inf if per_day is None else math.ceil(per_day + 24 * (node.arrivals_per_hour or 0.0))
        occupied = most if node.limit is None else min(node.limit, most)
        by_queue[node.queue] = by_queue.get(node.queue, 0.0) + occupied
    limits = inventory.pools[scope[0]].queue_limits
    return sum(
        min(occupied, math.inf if (cap := limits.get(queue or "")) is None else cap)
        for queue, occupied in by_queue.items()
    )
