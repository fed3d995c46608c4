"""`prefect-intelligent alerts`: what needs a person; --send opens and resolves it, install has Prefect tell people."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError

if TYPE_CHECKING:
    from prefect_intelligent.analytics.pool_alerts import AlertFinder
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.steering import PoolController

_DONE = {"create": "created", "change": "changed", "keep": "is there already:", "delete": "deleted"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    add_pool(parser)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "install", "uninstall"),
        default="show",
        help="show (default); install automations that notify by --block, or remove those that we made",
    )
    parser.add_argument("--send", action="store_true", help="open and resolve them: record, and emit Prefect events")
    parser.add_argument(
        "--every", metavar="SPAN", help="with --send: look again and again, e.g. 60s, until interrupted"
    )
    parser.add_argument(
        "--block", action="append", default=[], metavar="TYPE/NAME", help="notification block of Prefect"
    )
    parser.add_argument("--pages-only", action="store_true", help="install: leave tickets out")
    parser.add_argument("--write", action="store_true", help="install, uninstall: do it; without it only show")


def run(args: argparse.Namespace) -> int:
    """Look; exit code 1 if something pages."""
    loaded = read_settings(args, ("pool",))
    pool = chosen_pool(loaded)
    if args.action != "show":
        return _arrange(args, pool)
    every_s = None if args.every is None else parse_span(args.every, what="--every")
    if every_s is not None and not (args.send and every_s >= 5.0):
        raise InvalidInputError("--every", args.every, "needs --send and at least 5s")
    from prefect_intelligent.wiring.alerts import open_alert_finder

    controller, finder = open_alert_finder(loaded.settings, pool)
    if every_s is None:
        return int(_look(args, loaded.settings, controller, finder))
    while True:
        try:
            _look(args, loaded.settings, controller, finder)
        except PrefectIntelligentError as error:  # a server that restarts must not end who watches it
            print(f"error: {error}; trying again", file=sys.stderr)
        time.sleep(every_s)


def _look(args: argparse.Namespace, settings: Settings, controller: PoolController, finder: AlertFinder) -> bool:
    """Look once; whether something pages."""
    from prefect_intelligent.analytics.alert_events import raise_alerts

    alerts = finder()
    opened: list[str] = []
    resolved: list[str] = []
    if args.send:
        opened, resolved = raise_alerts(
            alerts, controller.orchestrator, controller.history, time.time(), runbooks_url=settings.runbooks_url
        )
    pages = any(alert.severity == "page" for alert in alerts)
    if args.json:
        rows = [{**asdict(alert), "runbook": alert.runbook} for alert in alerts]
        print_json({"alerts": rows, "opened": opened, "resolved": resolved})
        return pages
    for alert in alerts:
        since = datetime.fromtimestamp(alert.since_s, UTC)
        more = f" (and {len(alert.folded)} more)" if alert.folded else ""
        print(f"{alert.severity:6} {alert.summary}{more}; since {since:%Y-%m-%d %H:%M}Z; {alert.runbook}")
    if not alerts:
        print("Nothing needs a person.")
    if args.send:
        print(f"{len(opened)} opened, {len(resolved)} resolved")
    return pages


def _arrange(args: argparse.Namespace, pool: str) -> int:
    """Write or remove the automations, or show what would be done."""
    from prefect_intelligent.wiring.analytics import arrange_notices, remove_notices

    if args.action == "install" and not args.block:
        raise InvalidInputError("--block", None, "name a notification block, e.g. --block slack-webhook/data-team")
    notices = (
        arrange_notices(pool, args.block, pages_only=args.pages_only, write=args.write)
        if args.action == "install"
        else remove_notices(pool, write=args.write)
    )
    if args.json:
        rows: list[dict[str, Any]] = [{"automation": n.name, "step": n.step, "body": n.body} for n in notices]
        print_json({"automations": rows, "written": args.write})
        return 0
    for notice in notices:
        print(f"{_DONE[notice.step]} {notice.name}" if args.write else f"would {notice.step} {notice.name}")
    if not notices:
        print("There is nothing of ours to remove.")
    elif not args.write:
        print("add --write to do it")
    return 0
