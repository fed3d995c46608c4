"""`prefect-intelligent sync`: copy what the server remembers into the history, before it forgets."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from prefect_intelligent.cli.options import add_config, add_json, print_json, read_settings
from prefect_intelligent.history.sync import sync


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    parser.add_argument("--task-runs", action="store_true", help="copy task runs too (many more rows)")
    parser.add_argument("--no-events", action="store_true", help="leave out events and changes of state")


def run(args: argparse.Namespace) -> int:
    """Copy, and say how much there was."""
    from prefect_intelligent.prefect_client.clock import SystemClock
    from prefect_intelligent.wiring.history import open_runs, open_source

    settings = read_settings(args).settings
    source = open_source()
    source.queues()  # a server that does not answer is noticed before a file is made
    store = open_runs(settings)

    def progress(runs: int, at_s: float) -> None:
        print(f"\r{runs} runs, up to {datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}Z ", end="", file=sys.stderr)

    quiet = args.json or not sys.stderr.isatty()
    copied = sync(
        source,
        store,
        SystemClock(),
        task_runs=args.task_runs,
        events=not args.no_events,
        progress=None if quiet else progress,
    )
    if not quiet:
        print(file=sys.stderr)
    if args.json:
        print_json({**asdict(copied), "runs_per_s": copied.runs_per_s, "history": settings.history})
        return 0
    print(
        f"{copied.runs} ended runs, {copied.live_runs} live runs, {copied.task_runs} task runs, "
        f"{copied.events} events, {copied.deployments} deployments, {copied.queue_changes} changed settings "
        f"in {copied.seconds:.1f} s ({copied.runs_per_s:.0f} runs/s)"
    )
    return 0
