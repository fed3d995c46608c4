"""`prefect-intelligent eta`: when runs will start and end."""

from __future__ import annotations

import argparse
from typing import Any

from prefect_intelligent.cli.options import (
    add_config,
    add_json,
    add_pool,
    add_seed,
    chosen_pool,
    chosen_seed,
    print_json,
    read_settings,
)
from prefect_intelligent.errors import InvalidInputError, UnknownNameError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("flow_run", nargs="?", metavar="RUN", help="id of a flow run; without it all of the pool")
    parser.add_argument("--queue", metavar="NAME", help="only runs of this work queue")
    parser.add_argument("--policy", metavar="NAME|BUNDLE", help="who goes on deciding (default: the setting)")
    parser.add_argument("--futures", type=int, default=64, metavar="N", help="futures to sample (default: 64)")
    add_seed(parser, "the futures")
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print start and end of each run."""
    import numpy as np

    from prefect_intelligent.replay.eta import predict_run_times
    from prefect_intelligent.wiring.replay import observe_pool, pool_model
    from prefect_intelligent.wiring.steering import controller_config

    seed = chosen_seed(args)
    if args.futures < 1:
        raise InvalidInputError("--futures", args.futures, "must be 1 or more")
    loaded = read_settings(args, ("pool", "policy"))
    settings, pool = loaded.settings, chosen_pool(loaded)
    config = controller_config(settings, pool, "eta")
    snapshot = observe_pool(settings, pool)
    if args.queue is not None:
        snapshot.queue(args.queue)
    found = predict_run_times(
        snapshot,
        pool_model(settings, snapshot.pool, tuple(queue.setting for queue in snapshot.queues)),
        config.policy,
        config.guard,
        np.random.default_rng(seed),
        interval_s=settings.interval_s,
        futures=args.futures,
    )
    if args.flow_run is not None and args.flow_run not in {eta.run.id for eta in found}:
        raise UnknownNameError("run in this pool", args.flow_run, (eta.run.id for eta in found))
    rows = [
        {
            "run": eta.run.id,
            "deployment": eta.run.deployment,
            "queue": eta.run.queue,
            "phase": eta.run.phase.value,
            "due_s": eta.run.due_s,
            "start_p50_s": eta.start_p50_s,
            "start_p90_s": eta.start_p90_s,
            "end_p50_s": eta.end_p50_s,
            "end_p90_s": eta.end_p90_s,
            "late_probability": eta.late_probability,
        }
        for eta in found
        if args.flow_run in (None, eta.run.id) and args.queue in (None, eta.run.queue)
    ]
    if args.json:
        print_json({"pool": pool, "at_s": snapshot.at_s, "policy": config.policy.name, "runs": rows})
    else:
        _show(pool, rows)
    return 0


def _show(pool: str, rows: list[dict[str, Any]]) -> None:
    """A table for people, soonest end first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from prefect_intelligent.cli.formatting import console, instant

    if not rows:
        console.print(f"No run waits, runs or is scheduled in work pool {pool}.")
        return
    table = Table(title=f"Work pool {pool}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("deployment", "queue", "phase", "starts p50", "p90", "ends p50", "p90", "late"):
        table.add_column(heading, overflow="fold")
    for row in sorted(rows, key=lambda row: float(row["end_p50_s"])):
        moments = (row[name] for name in ("start_p50_s", "start_p90_s", "end_p50_s", "end_p90_s"))
        late = row["late_probability"]
        table.add_row(
            row["deployment"],
            row["queue"],
            row["phase"],
            *("-" if at_s is None else instant(at_s)[11:] for at_s in moments),
            "-" if late is None else f"{late:.0%}",
        )
    console.print(table)
