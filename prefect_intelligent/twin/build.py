"""Build a world from its specification: names become numbers, specifications become rows of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.twin.model.world import (
    CONTENTION_GROUP_DTYPE,
    DEPLOYMENT_DTYPE,
    OUTAGE_DTYPE,
    POOL_DTYPE,
    PRICE_DTYPE,
    QUEUE_DTYPE,
    RECLAIM_DTYPE,
    RESOURCE_DTYPE,
    RUN_DTYPE,
    SETTINGS_DTYPE,
    WORKER_DTYPE,
    Table,
    World,
)
from prefect_intelligent.twin.spec import AFTER_WHEN, DeploymentSpec, PoolSpec, ResourceSpec, Runs

MAX_RESOURCES: Final = 62
"""Most resources of a world: a set of them is kept as the bits of one number."""
MAX_CHILDREN: Final = int(np.iinfo(np.int16).max)
"""Most children of a run, as their number is stored."""


def build_world(
    pools: Sequence[PoolSpec],
    deployments: Sequence[DeploymentSpec],
    runs: Runs,
    *,
    resources: Sequence[ResourceSpec] = (),
    seed: int = 0,
    start_s: float = 0.0,
) -> World:
    """One world (a batch of one) from its parts.

    Queues and resources are numbered by name, as in a snapshot. The lateness weight is that of the first pool.

    Raises:
        InvalidInputError: Names do not fit together, or a column holds a value out of range.
    """
    resources = sorted(resources, key=lambda resource: resource.name)
    width = max(len(pool.queues) for pool in pools)
    number = {
        queue.name: place * width + at
        for place, pool in enumerate(pools)
        for at, queue in enumerate(pool.queues_by_name)
    }
    for deployment in deployments:
        if deployment.queue not in number:
            raise UnknownNameError(f"queue of deployment {deployment.name!r}", deployment.queue, number)
    _check_columns(runs)
    used = _resources_used(deployments, resources)
    groups = sorted({(0, (0,) * len(resources)), *used})
    deployment_rows = _deployments(deployments, [groups.index(each) for each in used])
    table = _runs(runs, deployments, number)
    return World(
        settings=_settings(runs, seed, start_s, pools[0].prices.lateness_weight),
        runs=table,
        arrivals=_arrivals(table, _levels(runs), pools, width),
        edges=np.concatenate([_by_first(runs.edges), _by_first(runs.calls)])[None],
        deployments=deployment_rows[None],
        queues=_queues(pools, width, table)[None],
        pools=np.stack([_pool(pool, sum(len(each.workers) for each in pools[:at])) for at, pool in enumerate(pools)])[
            None
        ],
        prices=_prices(pools)[None],
        reclaims=_reclaims(pools)[None],
        resources=_resources(resources)[None],
        contention_groups=_contention_groups([bits for bits, _ in groups], deployment_rows, table)[None],
        workers=_workers(pools)[None],
        polled=_polled(pools, width)[None],
        outages=_outages(pools)[None],
        loads=np.array([slots for _, slots in groups], dtype=np.int64).reshape(1, len(groups), len(resources)),
    )


def _by_first(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The second runs of pairs, in the order of the first ones."""
    second: npt.NDArray[np.int64] = pairs[np.argsort(pairs[:, 0], kind="stable"), 1].astype(np.int64)
    return second


def _check_columns(runs: Runs) -> None:
    fits = {"work_s": (runs.work_s >= 0, "0 or more"), "p50_s": (runs.p50_s > 0, "above 0")}
    for name, (in_range, range_) in fits.items():
        column = getattr(runs, name)
        wrong = ~(np.isfinite(column) & in_range)
        if np.any(wrong):
            raise InvalidInputError(name, float(column[wrong][0]), f"durations must be seconds, {range_}")
    children, behind = runs.calls[:, 1], runs.edges[:, 1]
    if len(np.unique(children)) < len(children) or np.isin(children, behind).any():
        raise InvalidInputError("calls", runs.calls.tolist(), "a child has one parent, and no upstreams")
    if np.bincount(runs.calls[:, 0], minlength=1).max() > MAX_CHILDREN:
        raise InvalidInputError("calls", len(runs.calls), f"a run can call at most {MAX_CHILDREN} others")
    if not np.all(np.isfinite(runs.scheduled_s)):
        raise InvalidInputError("scheduled_s", "nan or inf", "every run needs the instant it is scheduled for")


def _settings(runs: Runs, seed: int, start_s: float, weight: float) -> Table:
    out = np.zeros(1, SETTINGS_DTYPE)
    out["seed"], out["start_s"], out["lateness_weight"] = seed, start_s, weight
    out["runs"] = len(runs.deployment)
    out["arrivals"] = len(runs.deployment) - len(np.unique(np.concatenate([runs.edges[:, 1], runs.calls[:, 1]])))
    return out


def _runs(runs: Runs, deployments: Sequence[DeploymentSpec], number: Mapping[str, int]) -> Table:
    n = len(runs.deployment)
    table = np.zeros((1, n), RUN_DTYPE)
    for name in ("scheduled_s", "known_s", "work_s", "p50_s", "spread", "due_s", "due_within_s"):
        table[name][0] = getattr(runs, name)
    table["deployment"][0], table["outcome_source"][0] = runs.deployment, runs.outcome_source
    table["queue"][0] = np.array([number[d.queue] for d in deployments], dtype=np.int64)[runs.deployment]
    table["upstreams"][0] = np.bincount(runs.edges[:, 1], minlength=n) + np.bincount(runs.calls[:, 1], minlength=n)
    table["edges"][0] = (count := np.bincount(runs.edges[:, 0], minlength=n))
    table["first_edge"][0] = np.cumsum(count) - count
    table["calls"][0] = (count := np.bincount(runs.calls[:, 0], minlength=n))
    table["first_call"][0] = len(runs.edges) + np.cumsum(count) - count
    table["parent"][0] = -1
    table["parent"][0][runs.calls[:, 1]] = runs.calls[:, 0]
    return table


def _levels(runs: Runs) -> npt.NDArray[np.int64]:
    """How many runs come one after another before each; on and behind a cycle, which never runs, any number."""
    level = np.zeros(len(runs.deployment), dtype=np.int64)
    first, then = np.concatenate([runs.edges, runs.calls]).T
    for _ in range(len(level)):
        before = level.copy()
        np.maximum.at(level, then, level[first] + 1)
        if (level == before).all():
            break
    return level


def _arrivals(table: Table, levels: npt.NDArray[np.int64], pools: Sequence[PoolSpec], width: int) -> Table:
    """Runs without upstreams by the instant they come within reach of a poll; then the others, last ones first."""
    runs = table[0]
    prefetch = np.array([pool.prefetch_s for pool in pools])[runs["queue"] // width]
    reach = np.maximum(runs["scheduled_s"] - prefetch, np.minimum(runs["known_s"], runs["scheduled_s"]))
    order = np.lexsort((np.where(levels > 0, -levels, reach), levels > 0))
    return order[None].astype(np.int64)


def _resources_used(
    deployments: Sequence[DeploymentSpec], resources: Sequence[ResourceSpec]
) -> list[tuple[int, tuple[int, ...]]]:
    """The set of resources of each deployment as bits, and how many slots of each resource a run holds."""
    if len(resources) > MAX_RESOURCES:
        raise InvalidInputError("resources", len(resources), f"at most {MAX_RESOURCES} in one world")
    place = {resource.name: number for number, resource in enumerate(resources)}
    found = []
    for deployment in deployments:
        for name in deployment.resources:
            if name not in place:
                raise UnknownNameError(f"resource of deployment {deployment.name!r}", name, place)
        bits = sum(1 << place[name] for name in set(deployment.resources))
        found.append((bits, tuple(deployment.resources.count(resource.name) for resource in resources)))
    return found


def _deployments(deployments: Sequence[DeploymentSpec], groups: Sequence[int]) -> Table:
    out = np.zeros(len(deployments), DEPLOYMENT_DTYPE)
    out["limit_group"] = _limit_groups(deployments)
    for row, spec, group in zip(out, deployments, groups, strict=True):
        lost = 1.0 - (1.0 - spec.fails ** (spec.retries + 1)) * (1.0 - spec.crashes ** (spec.crash_retries + 1))
        row["failure_probability"] = lost if spec.failure_probability is None else spec.failure_probability
        row["timeout_s"] = np.inf if spec.timeout_s is None else spec.timeout_s
        row["limit"] = np.inf if spec.limit is None else spec.limit
        row["contention_group"] = group
        for name in ("late_usd_per_hour", "failure_usd", "fails", "crashes", "retries", "crash_retries"):
            row[name] = getattr(spec, name)
        for name in ("retry_delay_s", "retry_backoff", "retry_in_process", "cancels_new", "calls_at"):
            row[name] = getattr(spec, name)
        row["after_when"] = AFTER_WHEN.index(spec.after_when)
    return out


def _limit_groups(deployments: Sequence[DeploymentSpec]) -> list[int]:
    """The row in which the runs are counted that share a deployment's limit: that of the first deployment with it."""
    first: dict[str, int] = {}
    rows = []
    for row, spec in enumerate(deployments):
        rows.append(row if spec.limit_group is None else first.setdefault(spec.limit_group, row))
        if deployments[rows[-1]].limit != spec.limit:
            raise InvalidInputError(
                f"limit of deployment {spec.name!r}", spec.limit, f"all of group {spec.limit_group!r} share one number"
            )
    return rows


def _contention_groups(groups: Sequence[int], deployments: Table, runs: Table) -> Table:
    """One row per distinct set of resources, with its share of the array of executing heaps."""
    out = np.zeros(len(groups), CONTENTION_GROUP_DTYPE)
    out["resources"] = groups
    count = np.bincount(deployments["contention_group"][runs[0]["deployment"]], minlength=len(groups))
    out["heap_start"] = np.cumsum(count) - count
    return out


def _queues(pools: Sequence[PoolSpec], width: int, table: Table) -> Table:
    out = np.zeros(len(pools) * width, QUEUE_DTYPE)
    out["priority"] = np.inf  # of padding: served last
    out["pool"] = np.repeat(np.arange(len(pools)), width)
    for place, pool in enumerate(pools):
        for at, queue in enumerate(pool.queues_by_name):
            row = out[place * width + at]
            row["present"], row["paused"], row["priority"] = 1, queue.paused, queue.priority
            row["limit"] = np.inf if queue.limit is None else queue.limit
    count = np.bincount(table[0]["queue"], minlength=len(out))
    out["heap_start"] = np.cumsum(count) - count
    return out


def _workers(pools: Sequence[PoolSpec]) -> Table:
    found = [(place, worker) for place, pool in enumerate(pools) for worker in pool.workers]
    out = np.zeros(len(found), WORKER_DTYPE)
    for row, (place, worker) in zip(out, found, strict=True):
        row["limit"], row["pool"] = np.inf if worker.limit is None else worker.limit, place
    return out


def _polled(pools: Sequence[PoolSpec], width: int) -> Table:
    """Which worker polls which queue."""
    rows = []
    for place, pool in enumerate(pools):
        for worker in pool.workers:
            row = np.zeros(len(pools) * width, np.int8)
            for at, queue in enumerate(pool.queues_by_name):
                row[place * width + at] = not worker.queues or queue.name in worker.queues
            rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, len(pools) * width), np.int8)


def _outages(pools: Sequence[PoolSpec]) -> Table:
    workers = [worker for pool in pools for worker in pool.workers]
    events = [(at_s, back_s, number) for number, worker in enumerate(workers) for at_s, back_s in worker.outages]
    return np.array(events, dtype=OUTAGE_DTYPE)


def _pool(pool: PoolSpec, first_worker: int) -> Table:
    row = np.zeros((), POOL_DTYPE)
    row["first_worker"], row["workers"] = first_worker, len(pool.workers)
    row["limit"] = np.inf if pool.limit is None else pool.limit
    row["most"] = np.inf if pool.most is None else pool.most
    row["room"] = np.inf if pool.room is None else pool.room
    row["idle_fraction"], row["min_billing_s"] = pool.prices.idle_fraction, pool.prices.min_billing_s
    for name in ("owned", "node_slots", "max_slots", "min_slots", "boot_s", "cooldown_s", "node_min_billing_s"):
        row[name] = getattr(pool, name)
    for name in ("follows_demand", "claims_ahead", "poll_s", "poll_jitter", "poll_batch", "prefetch_s", "overshoot"):
        row[name] = getattr(pool, name)
    for name in ("startup_s", "startup_spread", "slot_wait_s", "late_after_s", "late_loop_s"):
        row[name] = getattr(pool, name)
    return row


def _prices(pools: Sequence[PoolSpec]) -> Table:
    most = max(len(pool.spot_prices) for pool in pools)
    out = np.zeros((len(pools), most + 1), PRICE_DTYPE)
    out["at_s"] = np.inf
    for row, pool in zip(out, pools, strict=True):
        row[0] = (-np.inf, pool.prices.slot_usd_per_hour)
        row[1 : len(pool.spot_prices) + 1] = sorted(pool.spot_prices)
    return out


def _reclaims(pools: Sequence[PoolSpec]) -> Table:
    events = sorted((at_s, share, place) for place, pool in enumerate(pools) for at_s, share in pool.reclaims)
    return np.array(events, dtype=RECLAIM_DTYPE)


def _resources(resources: Sequence[ResourceSpec]) -> Table:
    out = np.zeros(len(resources), RESOURCE_DTYPE)
    for row, spec in zip(out, resources, strict=True):
        row["capacity"], row["slowdown"], row["failure"] = spec.capacity, spec.slowdown, spec.failure
    return out
