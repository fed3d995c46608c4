"""Sections of the dashboard and of the static report: a pool at one instant, as JSON values.

Each section is built independently, so that one that cannot be built (no history yet, a server that does not answer)
does not affect the others.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from prefect_intelligent.analytics.failure_signatures import FailureCause
from prefect_intelligent.analytics.root_cause import Upstream, group_by_root
from prefect_intelligent.domain import Run, RunPhase, Snapshot
from prefect_intelligent.quality.model import Severity

GANTT_RUNS: Final = 10_000
PHASES: Final = (RunPhase.RUNNING, RunPhase.PENDING, RunPhase.WAITING, RunPhase.UPCOMING)
"""The phase of a row of `gantt_rows` is an index of this tuple."""
AT_RISK: Final = 100
_WEIGHT: Final[Mapping[str, float]] = {Severity.CRITICAL: 4.0, Severity.MAJOR: 2.0, Severity.MINOR: 1.0}
_FAR_S: Final = 7 * 86400.0


def queue_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The queues in the order in which Prefect serves them."""
    rows = []
    for name in snapshot.order:
        queue = snapshot.queue(name)
        rows.append(
            {
                "name": name,
                "id": queue.setting.id,
                "priority": queue.setting.priority,
                "limit": queue.setting.limit,
                "paused": queue.setting.paused,
                "waiting": len(queue.waiting),
                "active": len(queue.active),
                "upcoming": len(queue.upcoming),
                "late": sum(run.slack_s(snapshot.at_s) < 0 for run in queue.waiting),
                "work_s": sum(run.estimate.p50_s for run in queue.waiting),
                "oldest_s": max((snapshot.at_s - run.scheduled_s for run in queue.waiting), default=0.0),
            }
        )
    return rows


def pool_row(snapshot: Snapshot) -> dict[str, Any]:
    """The pool as a whole."""
    waiting = sum(len(queue.waiting) for queue in snapshot.queues)
    accruing = sum(
        run.late_usd_per_hour
        for run in snapshot.runs(RunPhase.WAITING, RunPhase.PENDING, RunPhase.RUNNING)
        if run.due_s is not None and run.due_s < snapshot.at_s
    )
    return {
        "name": snapshot.pool.name,
        "limit": snapshot.pool.limit,
        "paused": snapshot.pool.paused,
        "active": snapshot.active,
        "waiting": waiting,
        "accruing_usd_per_hour": accruing,
        "slot_usd_per_hour": snapshot.prices.slot_usd_per_hour,
        "lateness_weight": snapshot.prices.lateness_weight,
    }


def expected_ends(snapshot: Snapshot) -> dict[str, float]:
    """Expected end of each active and waiting run, Unix seconds.

    Active runs end after the median of their estimate; then the queues are served strictly in their order, within the
    pool limit and the queue limits in force. A run that gets no slot (its queue is paused or has limit 0) has no entry.
    """
    now_s = snapshot.at_s
    slots = snapshot.pool.limit if snapshot.pool.limit is not None else 10**6
    ends: dict[str, float] = {}
    busy: list[tuple[float, str]] = []
    held: dict[str, list[float]] = {queue.name: [] for queue in snapshot.queues}
    for queue in snapshot.queues:
        for run in queue.active:
            end = now_s + run.remaining_s(now_s)
            ends[run.id] = end
            busy.append((end, queue.name))
            held[queue.name].append(end)
    if snapshot.pool.paused or slots == 0:
        return ends
    free_at = sorted(end for end, _ in busy)
    free_at = free_at[-slots:] if len(free_at) > slots else [now_s] * min(slots - len(free_at), 10_000) + free_at
    heapq.heapify(free_at)
    for name in snapshot.order:
        queue = snapshot.queue(name)
        limit = queue.setting.limit
        if queue.setting.paused or limit == 0:
            continue
        busy_in_queue = held[name]
        heapq.heapify(busy_in_queue)
        for run in queue.waiting:
            start = heapq.heappop(free_at)
            if limit is not None and len(busy_in_queue) >= limit:
                start = max(start, heapq.heappop(busy_in_queue))
            end = max(start, now_s) + run.estimate.p50_s
            ends[run.id] = end
            heapq.heappush(free_at, end)
            heapq.heappush(busy_in_queue, end)
    return ends


def gantt_rows(
    snapshot: Snapshot, ends: Mapping[str, float], limit: int = GANTT_RUNS
) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """Rows of a Gantt chart of the runs, and the lists of deployments and queues that they refer to.

    Returns:
        Run id to [deployment, queue, phase, start_s, expected end_s or None, due_s or None, failure probability in
        percent]: the first two are indices of the lists of names, the phase is an index of `PHASES`. The start of a
        waiting run is its expected start. Instants are whole seconds, rounded more coarsely the further away they are,
        so that most rows do not change between two updates.
    """
    now_s = snapshot.at_s
    deployments = {name: index for index, name in enumerate(sorted({run.deployment for run in snapshot.runs()}))}
    queues = {name: index for index, name in enumerate(snapshot.order)}
    rows: dict[str, list[Any]] = {}

    def rounded(at_s: float) -> int:
        distance = abs(at_s - now_s)
        step = 10 if distance < 1800 else 60 if distance < 4 * 3600 else 300
        return round(at_s / step) * step

    for run in snapshot.runs():
        if len(rows) >= limit:
            break
        end = ends.get(run.id)
        start = run.started_s if run.started_s is not None else run.scheduled_s
        if run.phase is RunPhase.WAITING and end is not None:
            start = max(now_s, end - run.estimate.p50_s)
        if end is None and run.phase is RunPhase.UPCOMING:
            end = run.scheduled_s + run.estimate.p50_s
        rows[run.id] = [
            deployments[run.deployment],
            queues[run.queue],
            PHASES.index(run.phase),
            rounded(start),
            None if end is None else rounded(end),
            None if run.due_s is None else round(run.due_s),
            round(100 * run.failure_probability),
        ]
    return rows, {"deployments": list(deployments), "queues": list(queues)}


def at_risk_rows(snapshot: Snapshot, ends: Mapping[str, float]) -> list[dict[str, Any]]:
    """Runs that will be late with a probability of at least .2, highest expected cost of an hour's lateness first."""
    found: list[tuple[float, float, dict[str, Any]]] = []
    for run in snapshot.runs(RunPhase.WAITING, RunPhase.PENDING, RunPhase.RUNNING):
        if run.due_s is None or run.due_s - snapshot.at_s > _FAR_S:
            continue
        end = ends.get(run.id)
        chance = lateness_probability(run, end, snapshot.at_s)
        if chance >= 0.2:
            row = {
                "id": run.id,
                "deployment": run.deployment,
                "queue": run.queue,
                "phase": str(run.phase),
                "due_s": run.due_s,
                "eta_s": end,
                "chance": chance,
                "usd_per_hour": run.late_usd_per_hour,
            }
            found.append((-chance * run.late_usd_per_hour, run.due_s, row))
    found.sort(key=lambda item: (item[0], item[1], item[2]["id"]))
    return [row for _, _, row in found[:AT_RISK]]


def lateness_probability(run: Run, end_s: float | None, now_s: float) -> float:
    """Probability that the run ends after its due instant: lognormal around the expected end, 0 to 1."""
    if run.due_s is None:
        return 0.0
    if end_s is None or run.due_s <= now_s:
        return 1.0
    sigma = max(0.1, run.estimate.sigma)
    left = max(1.0, end_s - now_s)
    z = math.log((run.due_s - now_s) / left) / sigma
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def decision_rows(records: Sequence[Mapping[str, Any]], limit: int = 20) -> list[dict[str, Any]]:
    """The last decisions, newest first: instant, outcome, changes, and the reasons of what was changed or planned.

    Decisions in a row that changed and planned nothing, alike in all but the instant, are one row: `times` says
    how many, `since_s` since when.
    """
    rows: list[dict[str, Any]] = []
    for record in reversed(records):
        changed = {change[0] for change in record.get("applied") or record.get("planned") or ()}
        queues = [
            {"name": queue["name"], "reasons": list(queue["reasons"])}
            for queue in record.get("queues", ())
            if queue.get("reasons") and queue["name"] in changed
        ]
        pool = record.get("pool_limit") or {}
        row = {
            "mode": record["mode"],
            "policy": record["policy"],
            "outcome": record["outcome"],
            "changes": [list(change) for change in record.get("applied", ())],
            "planned": [list(change) for change in record.get("planned", ())],
            "reasons": [*record.get("reasons", ()), *(pool.get("reasons", ()) if None in changed else ())],
            "queues": queues,
        }
        if rows and not row["changes"] and not row["planned"] and all(rows[-1][name] == row[name] for name in row):
            rows[-1]["times"] += 1
            rows[-1]["since_s"] = record["at_s"]
            continue
        if len(rows) == limit:
            break
        rows.append({"at_s": record["at_s"], "since_s": record["at_s"], "times": 1, **row})
    return rows


def quality_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The last result of the quality gate for each dataset."""
    last: dict[str, Mapping[str, Any]] = {}
    for record in records:
        last[str(record.get("dataset", "?"))] = record
    return [
        {
            "dataset": name,
            "run": record.get("producer"),
            "outcome": str(record["outcome"]),
            "checks": len(_checks(record)),
            "failed": [str(check["name"]) for check in _checks(record) if check["outcome"] == "failed"][:5],
            "quarantined": record.get("quarantined", 0),
            "at_s": record["at_s"],
        }
        for name, record in sorted(last.items())
    ]


def _checks(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = record["first"]["checks"]
    return found


def quality_shares(
    records: Sequence[Mapping[str, Any]], writers: Mapping[str, Sequence[str]]
) -> dict[str, tuple[float, int]]:
    """Deployment to the severity-weighted share of the checks on its outputs that passed, and their number.

    The last result of each dataset is used.

    Args:
        records: Records of the quality gate.
        writers: Dataset to the deployments that write it.
    """
    last = {str(record["dataset"]): record for record in records}
    found: dict[str, list[tuple[float, bool]]] = {}
    for dataset, record in last.items():
        checks = [
            (_WEIGHT.get(str(check["severity"]), 1.0), check["outcome"] == "passed")
            for check in _checks(record)
            if check["outcome"] in ("passed", "failed")
        ]
        for name in writers.get(dataset, ()) if checks else ():
            found.setdefault(name, []).extend(checks)
    return {
        name: (sum(weight for weight, passed in checks if passed) / sum(weight for weight, _ in checks), len(checks))
        for name, checks in found.items()
    }


def cause_rows(causes: Sequence[FailureCause], upstream: Upstream) -> list[dict[str, Any]]:
    """Causes of failure; `deployments` are those furthest upstream, `downstream` those that fail because of them."""
    rows = []
    for cause in causes:
        by_root = group_by_root(cause.deployments, upstream)
        rows.append(
            {
                **asdict(cause),
                "deployments": list(by_root),
                "downstream": sorted({name for names in by_root.values() for name in names}),
            }
        )
    return rows
