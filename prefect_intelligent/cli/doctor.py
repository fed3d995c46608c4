"""`prefect-intelligent doctor`: what would keep steering from working."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from prefect_intelligent import __version__
from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError, OrchestratorError, StoreError
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.preflight import (
    PreflightResult,
    check_deployments,
    check_server,
    check_settings,
    check_versions,
    check_workers,
)

_STYLES = {"fine": "green", "note": "yellow", "problem": "red"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was looked at; exit code 1 if there is a problem."""
    loaded = read_settings(args, ("pool",))
    findings = list(_findings(loaded.settings, chosen_pool(loaded)))
    if args.json:
        print_json({"findings": [{"level": f.level, "what": f.what, "advice": f.advice} for f in findings]})
    else:
        from rich.text import Text

        from prefect_intelligent.cli import formatting

        for finding in findings:
            line = Text.assemble((f"{finding.level:<8}", _STYLES[finding.level]), finding.what)
            formatting.console.print(line, soft_wrap=True)
            if finding.advice:
                formatting.console.print(f"        -> {finding.advice}", soft_wrap=True, highlight=False)
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _findings(settings: Settings, pool: str) -> Iterator[PreflightResult]:
    yield PreflightResult(level="fine", what=f"prefect-intelligent {__version__} on Python {platform.python_version()}")
    prefect = _installed("prefect")
    yield check_versions(prefect, _installed("fastapi"))
    if prefect is None:
        return
    from prefect_intelligent.history.adapters.sql_records import open_history
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator

    try:
        api = PrefectApi()
        yield check_server(prefect, str(api.call("GET", "/admin/version")))
    except (OrchestratorError, InvalidInputError) as error:
        yield PreflightResult(level="problem", what=str(error), advice="start the server, or set PREFECT_API_URL to it")
        return
    orchestrator = PrefectOrchestrator(api, pool)
    held, queues = orchestrator.settings()
    yield from check_settings(held, queues)
    try:
        api.call("PATCH", f"/work_pools/{pool}", {})
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
    workers = api.call("POST", f"/work_pools/{pool}/workers/filter", {"limit": 200})
    seen = [unix_s(worker["last_heartbeat_time"]) for worker in workers]
    yield check_workers([time.time() - at_s for at_s in seen])
    try:
        open_history(settings.history)
        yield PreflightResult(level="fine", what=f"the history can be written: {settings.history}")
    except StoreError as error:
        yield PreflightResult(
            level="problem", what=str(error), advice="set history_url or data_dir to a place of yours"
        )


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
