"""Rules about schedules: readers before their producers, overlapping writers, duplicates."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import combinations, pairwise
from typing import Any
from zoneinfo import ZoneInfo

from prefect_intelligent.domain.objective import lateness_usd
from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.start_times import DAY_S, HORIZONS_S, Calendar, finish_p95_s, one_at_a_time
from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory, Schedule
from prefect_intelligent.pipelines.graph import Graph

STREAM_RATIO = 4
"""A deployment that starts more than this many times as often as its counterpart is a stream: its runs cannot avoid
those of the other, so they are not compared."""


def reads_too_early(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """A reader scheduled after its producer's start and before the producer's p95 finish."""
    for name in graph.deployments:
        if name not in calendar.scheduled or not graph.inputs[name]:
            continue
        reader = inventory.nodes[name]
        zone, own_horizon_s = reader.active_schedules[0].zone, calendar.horizon_s(reader)
        worst: tuple[float, str, str, str] | None = None
        for dataset in graph.inputs[name]:
            for writer_name in graph.writers.get(dataset, ()):
                writer = inventory.nodes.get(writer_name)
                if writer is None or writer_name == name:
                    continue
                if writer_name in calendar.scheduled:
                    horizon_s = max(own_horizon_s, calendar.horizon_s(writer))
                    writes, p95_s, root = calendar.starts(writer, horizon_s), writer.p95_s, writer_name
                elif (derived := calendar.derived_starts(writer_name)) is not None and derived.root != name:
                    source = inventory.nodes[derived.root]
                    horizon_s = max(own_horizon_s, calendar.horizon_s(source))
                    writes, p95_s, root = (
                        calendar.starts(source, horizon_s),
                        finish_p95_s(derived, writer),
                        derived.root,
                    )
                else:
                    continue
                reads = calendar.starts(reader, horizon_s)
                early = _early_s(writes, reads, p95_s, zone)
                if early > 0 and (worst is None or early > worst[0]):
                    worst = (early, writer_name, dataset, root)
        if worst is not None:
            early, writer_name, dataset, root = worst
            shift = math.ceil(early / 60.0) * 60.0
            after = "" if root == writer_name else f", which runs after {root},"
            yield Finding(
                rule="reads-too-early",
                subjects=tuple(sorted((name, writer_name, dataset))),
                evidence=f"{name} starts {format_span(round(early))} before {writer_name}{after} has written {dataset} "
                "(95 % of its runs)",
                advice=f"start {name} {format_span(shift)} later, or let `graph apply` start it when all is fresh",
                cost_usd=lateness_usd(early, reader.terms.late_usd_per_hour, inventory.prices.lateness_weight),
                fix=Fix(kind="shift-schedule", deployment=name, value=shift),
            )


def _early_s(writes: Sequence[float], reads: Sequence[float], p95_s: float, zone: str) -> float:
    """Return by how many seconds the earliest read precedes its producer's p95 finish; 0 if none does.

    A read is matched to the last start of the producer. Where both run equally often, it is also matched to the next
    start, if that is less than an eighth of a period away, or less than a quarter and on the same day.
    """
    if not writes or not reads or len(writes) > STREAM_RATIO * len(reads) or len(reads) > STREAM_RATIO * len(writes):
        return 0.0
    places = [bisect_right(writes, read) for read in reads]
    early = max(
        (writes[place - 1] + p95_s - read for place, read in zip(places, reads, strict=True) if place), default=0
    )
    several = min(len(writes), len(reads)) > 1
    if several and abs(len(writes) - len(reads)) <= (writes[-1] - writes[0] > 2 * DAY_S):
        period_s = min(later - sooner for sooner, later in pairwise(writes))
        for place, read in zip(places, reads, strict=True):
            ahead_s = writes[place] - read if place < len(writes) else math.inf
            if ahead_s < period_s / 8 or (ahead_s < period_s / 4 and _same_day(read, writes[place], zone)):
                early = max(early, ahead_s + p95_s)
    return max(early, 0.0)


def _same_day(one_s: float, other_s: float, zone: str) -> bool:
    here = ZoneInfo(zone)
    return datetime.fromtimestamp(one_s, here).date() == datetime.fromtimestamp(other_s, here).date()


def overlapping_writers(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """Two runs that write the same dataset at the same time: two deployments, or one that overtakes itself."""
    for dataset, writers in sorted(graph.writers.items()):
        scheduled = [inventory.nodes[name] for name in writers if name in calendar.scheduled]
        for node in scheduled:
            starts = calendar.starts(node, calendar.horizon_s(node))
            # equal starts are reported by duplicate-schedule
            apart = min((later - sooner for sooner, later in pairwise(starts) if later > sooner), default=math.inf)
            if apart < node.duration.p50_s and not one_at_a_time(inventory, node):
                yield Finding(
                    rule="overlapping-writers",
                    subjects=tuple(sorted((dataset, node.name))),
                    evidence=f"{node.name} starts every {format_span(round(apart))} and takes "
                    f"{format_span(round(node.duration.p50_s))}: two runs write {dataset} at once",
                    advice=f"limit {node.name} to one run at a time",
                    fix=Fix(kind="set-limit", deployment=node.name, value=1),
                )
        for first, second in combinations(scheduled, 2):
            if one_at_a_time(inventory, first, second):
                continue
            horizon_s = max(calendar.horizon_s(first), calendar.horizon_s(second))
            starts, others = calendar.starts(first, horizon_s), calendar.starts(second, horizon_s)
            overlap = max(
                _overlap_s(starts, first.p95_s, others, second.p95_s),
                _overlap_s(others, second.p95_s, starts, first.p95_s),
            )
            if overlap > 0:
                yield Finding(
                    rule="overlapping-writers",
                    subjects=tuple(sorted((dataset, first.name, second.name))),
                    evidence=f"{first.name} and {second.name} both write {dataset}, up to "
                    f"{format_span(round(overlap))} at the same time (p95 durations)",
                    advice=f"start {second.name} after {first.name} has finished, or share a global limit of 1",
                )


def _overlap_s(earlier: Sequence[float], span_s: float, later: Sequence[float], other_span_s: float) -> float:
    """Return the longest overlap of a run that starts in `later` with the run in `earlier` that started before it."""
    longest = 0.0
    for begin in later:
        place = bisect_right(earlier, begin)
        if place:
            longest = max(longest, min(earlier[place - 1] + span_s, begin + other_span_s) - begin)
    return longest


def duplicate_schedule(graph: Graph, inventory: Inventory, calendar: Calendar) -> Iterator[Finding]:
    """The same runs scheduled twice: equal schedules of one deployment, or of copies with equal flow and parameters."""
    groups: dict[tuple[str, ...], list[tuple[DeploymentNode, int, Schedule]]] = {}
    for name, node in sorted(inventory.nodes.items()):
        if node.paused:
            continue
        for index, schedule in enumerate(node.schedules):
            if schedule.active:
                given = {**_defaults(node), **node.parameters, **schedule.parameters}
                where = (name.split("/", 1)[0], str(node.pool), _text(node.job_variables), _text(given))
                groups.setdefault(where, []).append((node, index, schedule))
    for group in groups.values():
        switched_off: set[tuple[str, int]] = set()
        for one, other in combinations(group, 2):
            if {(node.name, index) for node, index, _ in (one, other)} & switched_off:
                continue
            extra = _extra(one, other, inventory.at_s)
            if extra is None:
                continue
            kept, (node, index, schedule) = (one if extra is other else other), extra
            alone = kept[0].name == node.name
            switched_off.add((node.name, index))
            also = "" if str(kept[2]) == str(schedule) else f" ({kept[2]} and {schedule})"
            yield Finding(
                rule="duplicate-schedule",
                subjects=tuple(sorted({node.name, kept[0].name})),
                evidence=f"{node.name} has the schedule {schedule} twice{also}"
                if alone
                else f"{kept[0].name} and {node.name} start the same flow with the same parameters at the same times",
                advice=f"switch {'one of them' if alone else 'the schedule of one of them'} off",
                cost_usd=node.mean_s / 3600 * inventory.prices.slot_usd_per_hour,
                fix=Fix(kind="pause-schedule", deployment=node.name, value=index, safe=alone),
            )


def _extra(
    one: tuple[DeploymentNode, int, Schedule], other: tuple[DeploymentNode, int, Schedule], at_s: float
) -> tuple[DeploymentNode, int, Schedule] | None:
    """Return the redundant one of two schedules, the second if they are equal; None if both are needed.

    Within a deployment a schedule is redundant if all its starts are starts of the other; between deployments only if
    all starts are equal.
    """
    schedules = (one[2], other[2])
    sizes = (0,) if all(schedule.daily for schedule in schedules) else (1, 2)
    for size in sizes:
        first, second = (
            {round(at) for at in schedule.starts_s(at_s, at_s + HORIZONS_S[size])} for schedule in schedules
        )
        if len(first) > 1 or len(second) > 1:
            break
    if one[0].name != other[0].name:
        return other if first and first == second else None
    if second and second <= first:
        return other
    return one if first and first <= second else None


def _defaults(node: DeploymentNode) -> dict[str, Any]:
    """Return the default values of the flow's parameters."""
    properties: Mapping[str, Mapping[str, Any]] = (node.schema or {}).get("properties", {})
    return {name: value["default"] for name, value in properties.items() if "default" in value}


def _text(values: Mapping[str, Any]) -> str:
    return repr(sorted(values.items()))
