"""Pools and recordings as the twin models them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from prefect_intelligent.domain import Deployment, PoolSetting, QueueSetting, Snapshot, Terms
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.replay.adapters.recording_file import Recording, read_recording, write_recording
from prefect_intelligent.settings import PoolSettings, Settings
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.dedicated_queues import plan_adoption
from prefect_intelligent.twin.spec import PoolSpec
from prefect_intelligent.wiring.capacity import boot_s
from prefect_intelligent.wiring.history import has_history, open_runs
from prefect_intelligent.wiring.outlooks import open_outlooks
from prefect_intelligent.wiring.pool_records import pool_records, settings_given

if TYPE_CHECKING:
    from prefect_intelligent.replay.replay import ReplayResult

__all__ = [
    "Recording",
    "adopted",
    "given_limit",
    "observe_pool",
    "pool_model",
    "read_recording",
    "recording_model",
    "recording_of",
    "snapshot_model",
    "worked_model",
    "worker_slots",
    "write_page",
    "write_recording",
]

_DAY_S = 86400.0
_WORKERS_S = 2 * _DAY_S
"""Span over which workers are learned: long enough to see what each takes, short enough that they are those of now."""


def pool_model(
    settings: Settings, pool: PoolSetting, queues: tuple[QueueSetting, ...], slots: int | None = None
) -> PoolSpec:
    """How the twin models a pool: its settings in Prefect, with the prices and the behaviour of our settings.

    Args:
        settings: All settings.
        pool: Settings of the pool.
        queues: Settings of its queues.
        slots: Runs that its workers carry at once, where the settings do not say; None is unknown.
    """
    own = settings.pools.get(pool.name, PoolSettings())
    bounds = [limit for limit in (pool.limit, own.worker_slots or slots) if limit is not None]
    return PoolSpec(
        queues=queues,
        limit=min(bounds, default=None),
        most=own.worker_slots or slots,
        prices=settings.prices_of(pool.name),
        **_capacity(settings, pool.name, own),
        max_slots=max(own.most_slots or 0, pool.limit or 0, 64),
        poll_s=own.poll_s,
        prefetch_s=own.poll_s,
        startup_s=own.startup_s,
    )


def _capacity(settings: Settings, pool: str, own: PoolSettings) -> dict[str, Any]:
    """How slots come and go: what is scaled boots first, for claimed runs; a serverless slot is bought by each run."""
    if own.capacity == "scaled":
        try:
            return {"follows_demand": True, "claims_ahead": True, "boot_s": boot_s(settings, pool)}
        except StoreError:  # the twin is asked for a look ahead, which is no reason to fail
            return {"follows_demand": True, "claims_ahead": True}
    return {"owned": False} if own.capacity == "serverless" else {}


def snapshot_model(settings: Settings, snapshot: Snapshot, *, slots: int | None = None) -> PoolSpec:
    """How the twin models the pool of a snapshot; see `pool_model`."""
    return pool_model(settings, snapshot.pool, tuple(queue.setting for queue in snapshot.queues), slots)


def worked_model(settings: Settings, snapshot: Snapshot) -> PoolSpec:
    """The same, with what the history shows of its workers: how many runs they carry, and which queues each polls.

    Raises:
        StoreError: The history cannot be read.
    """
    from prefect_intelligent.replay.workers import TAKEN, learned_workers, takers

    model = snapshot_model(settings, snapshot, slots=worker_slots(settings, snapshot))
    if not has_history(settings):
        return model
    store, since_s = open_runs(settings), snapshot.at_s - _WORKERS_S
    taken_by = takers(store.event_frame(since_s=since_s, prefix=TAKEN)["payload"])
    if not taken_by:
        return model
    pool = snapshot.pool
    passages = store.passage_frame(pool.name, since_s=since_s)
    workers, _ = learned_workers(passages, taken_by, model.queues, pool.limit, model.poll_s)
    return replace(model, workers=workers)


def worker_slots(settings: Settings, snapshot: Snapshot) -> int | None:
    """Runs that the pool's workers carry at once, from the history of the last day; None if nothing shows it.

    Raises:
        StoreError: The history cannot be read.
    """
    from prefect_intelligent.replay.worker_slots import learned_slots

    if not has_history(settings):
        return learned_slots(snapshot, pd.DataFrame({"started_s": [], "ended_s": []}))
    return learned_slots(
        snapshot, open_runs(settings).run_frame(since_s=snapshot.at_s - _DAY_S, pool=snapshot.pool.name)
    )


def given_limit(settings: Settings, snapshot: Snapshot) -> int | None:
    """The limit that people have given the pool of a snapshot, which steering may have lowered; None is unlimited.

    Raises:
        StoreError: The history cannot be read.
    """
    if not has_history(settings):
        return snapshot.pool.limit
    api = PrefectApi()
    try:
        return settings_given(pool_records(settings, api, snapshot.pool.name), snapshot.pool, ())[0].limit
    finally:
        api.close()


def observe_pool(settings: Settings, pool: str) -> Snapshot:
    """One look at a pool, without steering it.

    Raises:
        OrchestratorError: Prefect cannot be asked; `UnknownNameError` if it has no such pool.
    """
    api = PrefectApi()
    try:
        prices, resources = settings.prices_of(pool), settings.shared_resources
        outlooks = open_outlooks(settings, pool)
        return PrefectOrchestrator(api, pool, prices=prices, resources=resources, outlooks=outlooks).observe()
    finally:
        api.close()


def recording_of(settings: Settings, pool: str, last_s: float) -> Recording:
    """The synced history of a pool, with the settings that people have given it.

    Args:
        settings: All settings.
        pool: Name of the work pool.
        last_s: How far back, seconds.

    Raises:
        InvalidInputError: There is no history yet.
        OrchestratorError: Prefect cannot be asked for the settings; `UnknownNameError` if it has no such pool.
        StoreError: The history cannot be read.
    """
    if not has_history(settings):
        raise InvalidInputError(
            "history", mask_secrets(settings.history), "there is none yet; run `prefect-intelligent sync`"
        )
    api = PrefectApi()
    try:
        held, queues = settings_given(pool_records(settings, api, pool), *PrefectOrchestrator(api, pool).settings())
    finally:
        api.close()
    own = settings.pools.get(pool, PoolSettings())
    return Recording(
        pool=held,
        queues=queues,
        prices=settings.prices_of(pool),
        poll_s=own.poll_s,
        startup_s=own.startup_s,
        runs=open_runs(settings).run_frame(since_s=SystemClock().now_s() - last_s, pool=pool),
    )


def recording_model(settings: Settings, recording: Recording) -> PoolSpec:
    """How the twin models the pool of a recording. Queues that have gone since come last, without a limit."""
    own = settings.pools.get(recording.pool.name, PoolSettings())
    there = {queue.name for queue in recording.queues}
    behind = max((queue.priority for queue in recording.queues), default=0) + 1
    gone = sorted(set(recording.runs["queue"].dropna().astype(str)) - there)
    return PoolSpec(
        queues=(*recording.queues, *(QueueSetting(name=name, priority=behind) for name in gone)),
        limit=recording.pool.limit,
        most=own.worker_slots,
        prices=recording.prices,
        max_slots=max(own.most_slots or 0, recording.pool.limit or 0, 64),
        poll_s=recording.poll_s,
        prefetch_s=recording.poll_s,
        startup_s=recording.startup_s,
    )


def adopted(recording: Recording) -> Recording | None:
    """The recording as it would be had `control adopt` been run before it.

    Returns:
        None if adoption would change nothing.
    """
    by = recording.runs.groupby(recording.runs["deployment"].astype(str), observed=True)
    last = by.agg({"queue": "last", "late_usd_per_hour": "median"}).fillna({"late_usd_per_hour": 0.0})
    deployments = [
        Deployment(name=str(name), queue=str(queue), terms=Terms(late_usd_per_hour=float(price)))
        for name, queue, price in last.itertuples()
    ]
    plan = plan_adoption(deployments, recording.queues, "deployment")
    shared = Counter(deployment.queue for deployment in deployments)
    if not any(shared[before] > 1 for _, before, _ in plan.assign):
        return None
    to = {name: ours for name, _, ours in plan.assign}
    queue = recording.runs["deployment"].astype(str).map(to).fillna(recording.runs["queue"].astype(str))
    runs = recording.runs.assign(queue=queue)
    return replace(recording, queues=(*recording.queues, *plan.create), runs=runs)


def write_page(path: Path, recording: Recording, found: Sequence[ReplayResult]) -> None:
    """Write a replay as a page of HTML with its pictures inside.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    from prefect_intelligent.replay.adapters import html_report

    html_report.write_page(path, recording, found)
