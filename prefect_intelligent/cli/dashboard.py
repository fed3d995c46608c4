"""`prefect-intelligent dashboard`: a web page on the live pool."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from prefect_intelligent.dashboard.details import DetailReader
    from prefect_intelligent.dashboard.prefect_links import PrefectLinks
    from prefect_intelligent.dashboard.state import StateBuilder
    from prefect_intelligent.history.adapters.sql_runs import SqlRuns
    from prefect_intelligent.history.ports import HistoryStore
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.steering import PoolController

_MOST_PAST = 2000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def command(
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    host: Annotated[str, Parameter(metavar="HOST", help="address to listen on (default 127.0.0.1)")] = "127.0.0.1",
    port: Annotated[Int, Parameter(metavar="PORT", help="port (default 4280)")] = 4280,
    every: Annotated[float, Parameter(metavar="S", help="seconds between looks (default 2)")] = 2.0,
    token_file: Annotated[str | None, Parameter(metavar="FILE", help="file that holds the token to ask for")] = None,
    html: Annotated[
        Path | None, Parameter(metavar="FILE", help="write the page as it is now to a file, and end")
    ] = None,
    allow_actions: Annotated[
        bool, Parameter(help="let the page switch steering and acknowledge alerts; recorded")
    ] = False,
    audit: Annotated[bool, Parameter(help="print who did what on the page, and end")] = False,
) -> int:
    """Serve until interrupted."""
    if not 0 < port < 65536:
        raise InvalidInputError("--port", port, "must be 1 to 65535")
    if not 0.5 <= every <= 3600:
        raise InvalidInputError("--every", every, "must be 0.5 to 3600 seconds")
    settings, name = settings_and_pool(config, pool)
    if audit:
        return print_audit(settings, name, as_json=as_json)
    if html is not None:
        from prefect_intelligent.dashboard.export import write_page

        _, builder = open_builder(settings, name)
        builder()
        builder.wait()
        write_page(html, builder())
        return 0
    token = read_token(token_file)
    if token is None and host not in _LOOPBACK:
        token = secrets.token_urlsafe(24)
        print(f"Beyond this machine a token is needed; this one is for today: {token}", file=sys.stderr)
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("the dashboard", "dashboard") from error
    from prefect_intelligent.dashboard.app import DashboardConfig, create_app
    from prefect_intelligent.wiring.blocking import explain_why

    controller, builder = open_builder(settings, name)
    page = DashboardConfig(
        pool=name,
        build=builder,
        interval_s=every,
        token=token,
        actions=controller.history if allow_actions else None,
        details=open_details(settings, controller.history),
        look_back=builder.look_back,
        why=lambda run: explain_why(settings, run, estimate=False).lines,
    )
    print(f"http://{host}:{port}/", file=sys.stderr)
    uvicorn.run(create_app(page), host=host, port=port, log_level="warning", access_log=False)
    return 0


def open_builder(settings: Settings, pool: str) -> tuple[PoolController, StateBuilder]:
    """The pool, and what makes the state of its page."""
    from prefect_intelligent.dashboard.state import StateBuilder
    from prefect_intelligent.wiring.analytics import read_slots
    from prefect_intelligent.wiring.blocking import pool_findings
    from prefect_intelligent.wiring.history import open_runs
    from prefect_intelligent.wiring.pipeline_graph import awaited_deployments, open_graph
    from prefect_intelligent.wiring.steering import open_controller

    controller = open_controller(settings, pool, by="dashboard")
    runs = open_runs(settings)
    builder = StateBuilder(
        observe=controller.orchestrator.observe,
        read_runs=lambda since_s: runs.run_frame(since_s=since_s, pool=pool),
        history=controller.history,
        pool=pool,
        prices=settings.prices_of(pool),
        interval_s=settings.interval_s,
        graph=open_graph(settings, runs),
        budgets=settings.budgets_usd_per_day,
        slots=lambda: read_slots(runs, controller.history, pool),
        ended_runs=lambda since_s: runs.ended_runs(since_s=since_s, pool=pool, limit=_MOST_PAST),
        links=lambda: prefect_links(runs),
        awaited=lambda: awaited_deployments(runs),
        blocked=lambda: pool_findings(settings, controller.api, pool),
    )
    return controller, builder


def prefect_links(runs: SqlRuns) -> PrefectLinks:
    """Addresses of what is in the history, in the pages of the server of the profile."""
    from prefect_intelligent.dashboard.prefect_links import PrefectLinks
    from prefect_intelligent.prefect_client.connection import ui_address

    kept = runs.deployment_frame()
    ids = dict(zip(kept["name"].astype(str), kept["deployment_id"].astype(str), strict=True))
    return PrefectLinks(ui=ui_address(), deployments=ids)


def open_details(settings: Settings, history: HistoryStore) -> DetailReader:
    """What the pages of deployments, datasets and all pools show."""
    from prefect_intelligent.dashboard.details import DetailReader
    from prefect_intelligent.wiring.analytics import read_slots
    from prefect_intelligent.wiring.history import open_runs
    from prefect_intelligent.wiring.pipeline_graph import history_graph

    runs = open_runs(settings)
    return DetailReader(
        read_runs=lambda since_s: runs.run_frame(since_s=since_s),
        ended_runs=runs.ended_runs,
        history=history,
        prices_of=settings.prices_of,
        slots_of=lambda pool: read_slots(runs, history, pool),
        graph=lambda: history_graph(runs),
        links=lambda: prefect_links(runs),
    )


def print_audit(settings: Settings, pool: str, *, as_json: bool) -> int:
    """Every action taken on the page of a pool, oldest first."""
    from prefect_intelligent.history.reading import read_each
    from prefect_intelligent.wiring.history import open_history

    rows = read_each("audit", open_history(settings).records("audit", pool), _read_audit)
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        at = utc(row["at_s"])
        print(f"{at:%Y-%m-%d %H:%M:%S}  {row['by']}  {row['action']}  {row.get('alert', '')}".rstrip())
    if not rows:
        print("No action was taken on the dashboard.")
    return 0


def _read_audit(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"by": "?", **record, "at_s": float(record["at_s"]), "action": str(record["action"])}


def read_token(file: str | None) -> str | None:
    """The token in the file; None without a file.

    Raises:
        InvalidInputError: The file cannot be read or the token is too short to be one.
    """
    if file is None:
        return None
    try:
        with open(file, encoding="utf-8") as text:
            found = text.read().strip()
    except OSError as error:
        raise InvalidInputError("--token-file", file, f"cannot be read: {error.strerror}") from error
    if len(found) < 16:
        raise InvalidInputError("token", f"{len(found)} characters", "must have at least 16")
    return found
