"""What a pool costs and how long its runs wait at the instant of a decision, by the one objective."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.domain.objective import busy_usd, idle_usd, lateness_usd, weighted_late_minutes
from prefect_intelligent.domain.runs import RunPhase


def current_cost_rate(snapshot: Snapshot) -> Mapping[str, float]:
    """Figures of a snapshot to follow over time; a run counts as late from its due instant on.

    Returns:
        `capacity_usd_per_hour`: slots held, and unused ones under the pool's limit.
        `lateness_usd_per_hour`: what the runs that are late now add each hour.
        `cost_usd_per_hour`: the sum of the two.
        `lateness_usd`: what the late runs have cost so far.
        `weighted_late_min`: the same in minutes, weighted by each run's price over the mean price of all live runs.
        `mean_wait_s`, `longest_wait_s`: of the waiting runs.
    """
    prices, at_s = snapshot.prices, snapshot.at_s
    waiting = tuple(snapshot.runs(RunPhase.WAITING))
    live = (*waiting, *(run for queue in snapshot.queues for run in queue.active))
    late = [run for run in live if run.due_s is not None and run.due_s < at_s]
    idle = max(0, (snapshot.pool.limit or 0) - snapshot.active)
    capacity = snapshot.active * busy_usd(3600.0, prices.slot_usd_per_hour, 0.0)
    capacity += idle_usd(idle * 3600.0, prices.slot_usd_per_hour, prices.idle_fraction)
    so_far = sum(
        lateness_usd(at_s - run.due_s, run.late_usd_per_hour, prices.lateness_weight)
        for run in late
        if run.due_s is not None
    )
    rate = sum(lateness_usd(3600.0, run.late_usd_per_hour, prices.lateness_weight) for run in late)
    priced = [run.late_usd_per_hour for run in live if run.due_s is not None]
    mean_price = sum(priced) / len(priced) if priced else 0.0
    waits = [max(0.0, at_s - run.scheduled_s) for run in waiting]
    return {
        "capacity_usd_per_hour": capacity,
        "lateness_usd_per_hour": rate,
        "cost_usd_per_hour": capacity + rate,
        "lateness_usd": so_far,
        "weighted_late_min": weighted_late_minutes(so_far, mean_price, prices.lateness_weight),
        "mean_wait_s": sum(waits) / len(waits) if waits else 0.0,
        "longest_wait_s": max(waits, default=0.0),
    }
