"""`prefect-intelligent eta`: when runs will start and end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, Seed, check_seed, print_json, settings_and_pool
from prefect_intelligent.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from prefect_intelligent.replay.eta import Eta


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
    from prefect_intelligent.wiring.eta import predict_runs

    check_seed(seed)
    if futures < 1:
        raise InvalidInputError("--futures", futures, "must be 1 or more")
    settings, name = settings_and_pool(config, pool, policy=policy)
    snapshot, deciding, found = predict_runs(settings, name, queue=queue, futures=futures, seed=seed)
    if flow_run is not None and flow_run not in {eta.run.id for eta in found}:
        raise UnknownNameError("run in this pool", flow_run, (eta.run.id for eta in found))
    rows = [eta_row(eta) for eta in found if flow_run in (None, eta.run.id) and queue in (None, eta.run.queue)]
    if as_json:
        print_json({"pool": name, "at_s": snapshot.at_s, "policy": deciding, "runs": rows})
    else:
        _show(name, rows)
        if snapshot.held_by_parents:
            print(f"Every slot of {name} is held by a parent that waits for another run of it: nothing starts.")
    return 0


def eta_row(eta: Eta) -> dict[str, Any]:
    """An estimate as it is printed as JSON; what is not in sight within a day is None."""
    instants = {name: getattr(eta, name) for name in ("start_p50_s", "start_p90_s", "end_p50_s", "end_p90_s")}
    return {
        "run": eta.run.id,
        "deployment": eta.run.deployment,
        "queue": eta.run.queue,
        "phase": eta.run.phase.value,
        "due_s": eta.run.due_s,
        **{name: at_s if at_s is not None and math.isfinite(at_s) else None for name, at_s in instants.items()},
        "late_probability": eta.late_probability,
    }


def _show(pool: str, rows: list[dict[str, Any]]) -> None:
    """A table for people, soonest end first."""
    from prefect_intelligent.cli.formatting import instant, say
    from prefect_intelligent.cli.tables import print_table

    if not rows:
        say(f"No run waits, runs or is scheduled in work pool {pool}.")
        return

    def clock(at_s: float | None) -> str:
        return "-" if at_s is None else instant(at_s)[11:]

    shown = [
        {
            "deployment": row["deployment"],
            "phase": row["phase"],
            "starts p50": clock(row["start_p50_s"]),
            "ends p50": clock(row["end_p50_s"]),
            "ends p90": clock(row["end_p90_s"]),
            "late": "-" if row["late_probability"] is None else f"{row['late_probability']:.0%}",
            "queue": row["queue"],
            "starts p90": clock(row["start_p90_s"]),
        }
        for row in sorted(rows, key=lambda row: math.inf if row["end_p50_s"] is None else float(row["end_p50_s"]))
    ]
    print_table(shown, title=f"Work pool {pool}")
