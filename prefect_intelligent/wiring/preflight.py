"""What `doctor` looks at, on this machine and on the Prefect server."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prefect_intelligent import __version__
from prefect_intelligent.blocking.chain import findings
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import InvalidInputError, OrchestratorError, StoreError
from prefect_intelligent.settings import PoolSettings, Settings
from prefect_intelligent.steering.preflight import (
    PreflightResult,
    check_clock,
    check_deployments,
    check_idle_price,
    check_interval,
    check_regime,
    check_schedules,
    check_server,
    check_settings,
    check_steering,
    check_versions,
    check_waiting,
    check_workers,
)


def run_preflight(settings: Settings, pool: str) -> Iterator[PreflightResult]:
    """One result after the other; ends early where the rest cannot be looked at."""
    yield PreflightResult(level="fine", what=f"prefect-intelligent {__version__} on Python {platform.python_version()}")
    prefect = _installed("prefect")
    yield check_versions(prefect, _installed("fastapi"))
    if prefect is None:
        return
    from prefect_intelligent.prefect_client.api import PrefectApi, path
    from prefect_intelligent.prefect_client.lease import PrefectLease
    from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
    from prefect_intelligent.steering.adapters.schedules import read_unscheduled
    from prefect_intelligent.steering.kill_switch import read_switch
    from prefect_intelligent.wiring.blocking import pool_facts
    from prefect_intelligent.wiring.pool_records import pool_records
    from prefect_intelligent.wiring.regime import outside_regime

    try:
        api = PrefectApi()
        found = api.call("GET", "/admin/version", absent_ok=True)
        if found is None:  # Prefect Cloud has no such route; a wrong address has no pools either
            api.call("POST", "/work_pools/filter", {"limit": 1})
        yield check_server(prefect, None if found is None else str(found))
    except (OrchestratorError, InvalidInputError) as error:
        yield PreflightResult(level="problem", what=str(error), advice="start the server, or set PREFECT_API_URL to it")
        return
    orchestrator = PrefectOrchestrator(api, pool)
    held, queues = orchestrator.settings()
    yield from check_settings(held, queues, settings.pools.get(pool, PoolSettings()).worker_slots)
    try:
        api.call("PATCH", path("work_pools", pool), {})
        yield PreflightResult(level="fine", what="the pool may be written")
    except OrchestratorError as error:
        yield PreflightResult(
            level="problem", what=f"the pool cannot be written: {error}", advice="use a key that may write"
        )
    yield from check_deployments(orchestrator.deployments())
    for problem in orchestrator.problems:
        yield PreflightResult(
            level="problem", what=problem, advice="correct it in the decorator and deploy or run again"
        )
    now_s = api.now_s()
    facts = pool_facts(settings, api, pool)
    yield check_workers(facts)
    yield from check_waiting(findings(facts))
    if (clock := check_clock(api.skew_s)) is not None:
        yield clock
    yield check_idle_price(held.limit, settings.prices_of(pool))
    if (outside := check_regime(outside_regime(settings, pool, held.limit))) is not None:
        yield outside
    slow = check_interval(settings.interval_s, settings.pools.get(pool, PoolSettings()).poll_s)
    if slow is not None:
        yield slow
    scheduled = check_schedules(*read_unscheduled(api, pool, now_s))
    if scheduled is not None:
        yield scheduled
    try:
        records = pool_records(settings, api, pool)
        yield check_steering(read_switch(records, pool), led=PrefectLease(api, pool).taken())
        yield PreflightResult(level="fine", what=f"the history can be written: {mask_secrets(settings.history)}")
    except StoreError as error:
        yield PreflightResult(
            level="problem", what=mask_secrets(str(error)), advice="set history_url or data_dir to a place of yours"
        )


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
