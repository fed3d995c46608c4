"""In which hours an overloaded pool cannot keep up, from the twin: the scheduled runs of a day, played on its slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.pipelines.conflicts import Calendar, overloaded
from prefect_intelligent.pipelines.deployments import Congestion, DeploymentNode, Inventory, PoolFacts
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs, build_world

WAITED_S: Final = 300.0
"""A run that waits longer than this for a slot has met a pool that does not keep up."""
_DAY_S: Final = 86_400.0
_MOST_RUNS: Final = 20_000


def overloaded_hours(graph: Graph, inventory: Inventory) -> Inventory:
    """The inventory with what the twin says of every pool that has more work scheduled than it can do.

    Every run takes its mean duration. The day with the most work is played; one with more than 20,000 runs until there.
    """
    calendar = Calendar(graph, inventory)
    pools = {place[0]: overload for place, overload in overloaded(inventory, calendar).items()}
    seen = {name: _play(inventory, calendar, inventory.pools[name], pools[name].day) for name in sorted(pools)}
    return replace(inventory, congestion=seen)


def _play(inventory: Inventory, calendar: Calendar, pool: PoolFacts, day: int) -> Congestion:
    began_s = inventory.at_s + day * _DAY_S
    steps, starts = [], []
    for _, step in sorted(inventory.steps.items()):
        due = _starts_s(step, calendar, began_s) if step.pool == pool.name else np.empty(0)
        if len(due):
            steps.append(step)
            starts.append(due)
    deployment = np.repeat(np.arange(len(steps)), [len(each) for each in starts])
    scheduled_s = np.concatenate(starts)
    order = np.argsort(scheduled_s, kind="stable")[:_MOST_RUNS]
    deployment, scheduled_s = deployment[order].astype(np.int64), scheduled_s[order]
    count = len(order)
    work_s = np.maximum(1.0, np.array([step.mean_s for step in steps]))[deployment]
    behind = max(pool.priorities.values(), default=0) + 1
    names = sorted({step.queue or "default" for step in steps} | set(pool.priorities))
    queues = tuple(
        QueueSetting(name=name, priority=pool.priorities.get(name, behind), limit=pool.queue_limits.get(name))
        for name in names
    )
    runs = Runs(
        deployment=deployment,
        scheduled_s=scheduled_s,
        known_s=np.full(count, -np.inf),
        work_s=work_s,
        p50_s=work_s,
        spread=np.zeros(count),
        due_s=np.full(count, np.inf),
        due_within_s=np.full(count, np.inf),
        outcome_source=np.full(count, COMPLETES, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    model = PoolSpec(queues=queues, limit=pool.limit, max_slots=max(pool.limit or 0, 64), startup_s=0.0)
    specs = [DeploymentSpec(name=step.name, queue=step.queue or "default", limit=step.limit) for step in steps]
    twin = Twin(build_world([model], specs, runs))
    twin.finish()
    waited_s = twin.state.runs["first_claimed_s"][0, :count] - scheduled_s
    late = scheduled_s[waited_s > WAITED_S] + day * _DAY_S
    return Congestion(
        hours=tuple(sorted({int(hour) for hour in late // 3600.0})), longest_wait_s=float(waited_s.max(initial=0.0))
    )


def _starts_s(step: DeploymentNode, calendar: Calendar, began_s: float) -> np.ndarray:
    """Starts within the day, seconds from its begin: scheduled, or as something scheduled leads to them."""
    if step.active_schedules:
        starts = [at_s for s in step.active_schedules for at_s in s.starts_s(began_s, began_s + _DAY_S)]
    else:
        led = calendar.led(step.name)
        starts = [] if led is None else [at_s + led.mean_s for at_s in led.starts]
    found = np.asarray(starts) - began_s
    return np.sort(found[(found >= 0.0) & (found < _DAY_S)])
