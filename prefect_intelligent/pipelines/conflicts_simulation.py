"""Hours in which an overloaded pool cannot keep up: the scheduled runs of a day, simulated in the twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.pipelines.conflicts import Calendar, overloaded
from prefect_intelligent.pipelines.deployments import Congestion, DeploymentNode, Inventory, PoolFacts
from prefect_intelligent.pipelines.graph import Graph
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

WAITED_S: Final = 300.0
"""Hours in which a run waits longer than this for a slot are reported, seconds."""
_DAY_S: Final = 86_400.0
_MOST_RUNS: Final = 20_000


def overloaded_hours(graph: Graph, inventory: Inventory) -> Inventory:
    """Return the inventory with the simulated congestion of every pool that has more work scheduled than capacity.

    Every run takes its mean duration. The day with the most work is simulated, at most its first 20,000 runs.
    """
    calendar = Calendar(graph, inventory)
    pools = {scope[0]: overload for scope, overload in overloaded(inventory, calendar).items()}
    found = {name: _simulate(inventory, calendar, inventory.pools[name], pools[name].day) for name in sorted(pools)}
    return replace(inventory, congestion=found)


def _simulate(inventory: Inventory, calendar: Calendar, pool: PoolFacts, day: int) -> Congestion:
    began_s = inventory.at_s + day * _DAY_S
    nodes, starts = [], []
    for _, node in sorted(inventory.nodes.items()):
        due = _starts_s(node, calendar, began_s) if node.pool == pool.name else np.empty(0)
        if len(due):
            nodes.append(node)
            starts.append(due)
    deployment = np.repeat(np.arange(len(nodes)), [len(each) for each in starts])
    scheduled_s = np.concatenate(starts)
    order = np.argsort(scheduled_s, kind="stable")[:_MOST_RUNS]
    deployment, scheduled_s = deployment[order].astype(np.int64), scheduled_s[order]
    count = len(order)
    work_s = np.maximum(1.0, np.array([node.mean_s for node in nodes]))[deployment]
    last_priority = max(pool.priorities.values(), default=0) + 1
    names = sorted({node.queue or "default" for node in nodes} | set(pool.priorities))
    queues = tuple(
        QueueSetting(name=name, priority=pool.priorities.get(name, last_priority), limit=pool.queue_limits.get(name))
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
    spec = PoolSpec(queues=queues, limit=pool.limit, max_slots=max(pool.limit or 0, 64), startup_s=0.0)
    deployments = [DeploymentSpec(name=node.name, queue=node.queue or "default", limit=node.limit) for node in nodes]
    twin = Twin(build_world([spec], deployments, runs))
    twin.finish()
    waited_s = twin.state.runs["first_claimed_s"][0, :count] - scheduled_s
    late = scheduled_s[waited_s > WAITED_S] + day * _DAY_S
    return Congestion(
        hours=tuple(sorted({int(hour) for hour in late // 3600.0})), longest_wait_s=float(waited_s.max(initial=0.0))
    )


def _starts_s(node: DeploymentNode, calendar: Calendar, began_s: float) -> np.ndarray:
    """Return starts within the day, seconds since its begin: scheduled, or derived from an upstream schedule."""
    if node.active_schedules:
        starts = [at_s for s in node.active_schedules for at_s in s.starts_s(began_s, began_s + _DAY_S)]
    else:
        derived = calendar.derived_starts(node.name)
        starts = [] if derived is None else [at_s + derived.mean_s for at_s in derived.starts]
    found = np.asarray(starts) - began_s
    return np.sort(found[(found >= 0.0) & (found < _DAY_S)])
