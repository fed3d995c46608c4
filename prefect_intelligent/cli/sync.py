"""`prefect-intelligent sync`: copy what the server remembers into the history, before it forgets."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, print_json, read_settings
from prefect_intelligent.domain.instants import utc
from prefect_intelligent.domain.secrets import mask_secrets


def command(
    *,
    config: Config = None,
    as_json: Json = False,
    task_runs: Annotated[bool, Parameter(help="copy task runs too (many more rows)")] = False,
    no_events: Annotated[bool, Parameter(help="leave out events and changes of state")] = False,
) -> int:
    """Copy, and say how much there was."""
    from prefect_intelligent.history.sync import sync
    from prefect_intelligent.prefect_client.clock import SystemClock
    from prefect_intelligent.wiring.history import open_runs, open_source

    settings = read_settings(config).settings
    source = open_source()
    source.queues()  # a server that does not answer is noticed before a file is made
    store = open_runs(settings)

    def progress(runs: int, at_s: float) -> None:
        print(f"\r{runs} runs, up to {utc(at_s):%Y-%m-%d %H:%M}Z ", end="", file=sys.stderr)

    quiet = as_json or not sys.stderr.isatty()
    copied = sync(
        source,
        store,
        SystemClock(),
        task_runs=task_runs,
        events=not no_events,
        progress=None if quiet else progress,
    )
    if not quiet:
        print(file=sys.stderr)
    if as_json:
        print_json({**asdict(copied), "runs_per_s": copied.runs_per_s, "history": mask_secrets(settings.history)})
        return 0
    print(
        f"{copied.runs} ended runs, {copied.live_runs} live runs, {copied.task_runs} task runs, "
        f"{copied.events} events, {copied.deployments} deployments, {copied.queue_changes} changed settings "
        f"in {copied.seconds:.1f} s ({copied.runs_per_s:.0f} runs/s)"
    )
    return 0
