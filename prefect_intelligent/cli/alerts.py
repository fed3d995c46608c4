"""`prefect-intelligent alerts`: what needs a person; --send opens and resolves it, install has Prefect tell people."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.domain import parse_span
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError

if TYPE_CHECKING:
    from prefect_intelligent.analytics.pool_alerts import AlertFinder
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.steering import PoolController

_DONE = {"create": "created", "change": "changed", "keep": "is there already:", "delete": "deleted"}


def command(
    action: Annotated[
        Literal["show", "install", "uninstall"],
        Parameter(
            name="ACTION",
            help="show (default); install automations that notify by --block, or remove those that we made",
        ),
    ] = "show",
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    send: Annotated[bool, Parameter(help="open and resolve them: record, and emit Prefect events")] = False,
    every: Annotated[
        str | None,
        Parameter(metavar="SPAN", help="with --send: look again and again, e.g. 60s, until interrupted"),
    ] = None,
    block: Annotated[tuple[str, ...], Parameter(metavar="TYPE/NAME", help="notification block of Prefect")] = (),
    pages_only: Annotated[bool, Parameter(help="install: leave tickets out")] = False,
    write: Annotated[bool, Parameter(help="install, uninstall: do it; without it only show")] = False,
) -> int:
    """Look; exit code 1 if something pages."""
    from prefect_intelligent.wiring.analytics import open_alert_finder

    settings, name = settings_and_pool(config, pool)
    if action != "show":
        return _arrange(name, action, block, pages_only=pages_only, write=write, as_json=as_json)
    every_s = None if every is None else parse_span(every, what="--every")
    if every_s is not None and not (send and every_s >= 5.0):
        raise InvalidInputError("--every", every, "needs --send and at least 5s")
    controller, finder = open_alert_finder(settings, name)
    if every_s is None:
        return int(_look(settings, controller, finder, send=send, as_json=as_json))
    while True:
        try:
            _look(settings, controller, finder, send=send, as_json=as_json)
        except PrefectIntelligentError as error:  # a server that restarts must not end who watches it
            print(f"error: {error}; trying again", file=sys.stderr)
        time.sleep(every_s)


def _look(settings: Settings, controller: PoolController, finder: AlertFinder, *, send: bool, as_json: bool) -> bool:
    """Look once; whether something pages."""
    from prefect_intelligent.analytics.alert_events import raise_alerts

    alerts = finder()
    opened: list[str] = []
    resolved: list[str] = []
    if send:
        opened, resolved = raise_alerts(
            alerts, controller.orchestrator, controller.history, time.time(), runbooks_url=settings.runbooks_url
        )
    pages = any(alert.severity == "page" for alert in alerts)
    if as_json:
        rows = [{**asdict(alert), "runbook": alert.runbook} for alert in alerts]
        print_json({"alerts": rows, "opened": opened, "resolved": resolved})
        return pages
    for alert in alerts:
        since = utc(alert.since_s)
        more = f" (and {len(alert.folded)} more)" if alert.folded else ""
        print(f"{alert.severity:6} {alert.summary}{more}; since {since:%Y-%m-%d %H:%M}Z; {alert.runbook}")
    if not alerts:
        print("Nothing needs a person.")
    if send:
        print(f"{len(opened)} opened, {len(resolved)} resolved")
    return pages


def _arrange(pool: str, action: str, blocks: Sequence[str], *, pages_only: bool, write: bool, as_json: bool) -> int:
    """Write or remove the automations, or show what would be done."""
    from prefect_intelligent.wiring.analytics import install_notifications, remove_notifications

    if action == "install" and not blocks:
        raise InvalidInputError("--block", None, "name a notification block, e.g. --block slack-webhook/data-team")
    changes = (
        install_notifications(pool, blocks, pages_only=pages_only, write=write)
        if action == "install"
        else remove_notifications(pool, write=write)
    )
    if as_json:
        rows: list[dict[str, Any]] = [{"automation": n.name, "step": n.step, "body": n.body} for n in changes]
        print_json({"automations": rows, "written": write})
        return 0
    for change in changes:
        print(f"{_DONE[change.step]} {change.name}" if write else f"would {change.step} {change.name}")
    if not changes:
        print("There is nothing of ours to remove.")
    elif not write:
        print("add --write to do it")
    return 0
