"""`prefect-intelligent eta`: when runs will start and end."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, Seed, check_seed, print_json, settings_and_pool
from prefect_intelligent.errors import InvalidInputError, UnknownNameError


def command(
    flow_run: Annotated[str | None, Parameter(name="RUN", help="id of a flow run; without it all of the pool")] = None,
    /,
    *,
    queue: Annotated[str | None, Parameter(metavar="NAME", help="only runs of this work queue")] = None,
    policy: Annotated[
        str | None, Parameter(metavar="NAME|BUNDLE", help="who goes on deciding (default: the setting)")
    ] = None,
    futures: Annotated[Int, Parameter(metavar="N", help="futures to sample (default: 64)")] = 64,
    seed: Annotated[Seed, Parameter(help="of the futures (default: 0)")] = 0,
    pool: Pool = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print start and end of each run."""
    import numpy as np

    from prefect_intelligent.replay.eta import predict_run_times
    from prefect_intelligent.wiring.regime import pool_regime
    from prefect_intelligent.wiring.replay import given_limit, observe_pool, snapshot_model, worker_slots
    from prefect_intelligent.wiring.steering import open_policy

    check_seed(seed)
    if futures < 1:
        raise InvalidInputError("--futures", futures, "must be 1 or more")
    settings, name = settings_and_pool(config, pool, policy=policy)
    snapshot = observe_pool(settings, name)
    if queue is not None:
        snapshot.queue(queue)
    model = snapshot_model(settings, snapshot, slots=worker_slots(settings, snapshot))
    deciding = open_policy(settings, settings.policy)
    found = predict_run_times(
        snapshot,
        model,
        deciding,
        pool_regime(settings, name, model.queues_by_name, given_limit(settings, snapshot)),
        np.random.default_rng(seed),
        futures=futures,
    )
    if flow_run is not None and flow_run not in {eta.run.id for eta in found}:
        raise UnknownNameError("run in this pool", flow_run, (eta.run.id for eta in found))
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
        if flow_run in (None, eta.run.id) and queue in (None, eta.run.queue)
    ]
    if as_json:
        print_json({"pool": name, "at_s": snapshot.at_s, "policy": deciding.name, "runs": rows})
    else:
        _show(name, rows)
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
