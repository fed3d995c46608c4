"""`control adopt`: lanes for deployments that share a work queue."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool


def command(
    *,
    pool: Pool = None,
    config: Config = None,
    by: Annotated[
        Literal["deployment", "value"],
        Parameter(help="a queue per deployment, or per class of lateness price (default: deployment)"),
    ] = "deployment",
    apply: Annotated[bool, Parameter(help="do it; without this it is only shown")] = False,
    as_json: Json = False,
) -> int:
    """Show or make the lanes."""
    from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
    from prefect_intelligent.wiring.steering import open_controller

    controller = open_controller(*settings_and_pool(config, pool))
    adoption = plan_adoption(controller.orchestrator.deployments(), controller.orchestrator.settings()[1], by)
    if apply and (adoption.create or adoption.assign):
        adopt(controller.orchestrator, controller.history, controller.clock, adoption)
    if as_json:
        print_json(
            {
                "pool": controller.orchestrator.pool,
                "written": apply,
                "create": [{"queue": queue.name, "priority": queue.priority} for queue in adoption.create],
                "assign": [dict(zip(("deployment", "from", "to"), move, strict=True)) for move in adoption.assign],
            }
        )
        return 0
    from prefect_intelligent.cli import formatting

    for queue in adoption.create:
        formatting.console.print(f"  new work queue {queue.name}, priority {queue.priority}")
    for deployment, before, lane in adoption.assign:
        formatting.console.print(f"  deployment {deployment}: {before} -> {lane}")
    if not adoption.create and not adoption.assign:
        formatting.console.print("Every deployment of the pool has its lane.")
    elif apply:
        formatting.console.print(
            "Done. `control restore` takes it back. Runs that exist already keep the queue they have."
        )
    else:
        formatting.console.print(
            "Nothing was written. Add --apply to do it; Prefect makes scheduled future runs anew then."
        )
    return 0
