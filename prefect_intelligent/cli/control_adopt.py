"""`control adopt`: lanes for deployments that share a work queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.errors import ConflictError

if TYPE_CHECKING:
    from prefect_intelligent.steering.dedicated_queues import Adoption

_POLL_WAIT_S = 60.0
"""Workers poll every 15 seconds unless told otherwise."""


def command(
    *,
    pool: Pool = None,
    config: Config = None,
    by: Annotated[
        Literal["deployment", "value"],
        Parameter(help="a queue per deployment, or per class of lateness price (default: deployment)"),
    ] = "deployment",
    apply: Annotated[bool, Parameter(help="do it; without this it is only shown")] = False,
    force: Annotated[bool, Parameter(help="also where no worker seems to poll the new queues")] = False,
    as_json: Json = False,
) -> int:
    """Show or make the lanes."""
    from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
    from prefect_intelligent.wiring.steering import open_controller, worker_is_online

    controller = open_controller(*settings_and_pool(config, pool))
    orchestrator, clock = controller.orchestrator, controller.clock
    adoption = plan_adoption(orchestrator.deployments(), orchestrator.settings()[1], by, clock.now_s())
    if apply and (adoption.create or adoption.assign):
        if adoption.unpolled is not None and not force:
            raise ConflictError(
                f"{adoption.unpolled}; start the workers without --work-queue, or name the new queues too "
                f"({', '.join(queue.name for queue in adoption.create)}), or use --force"
            )
        wait_s = _POLL_WAIT_S if not force and worker_is_online(controller) else 0.0
        adopt(orchestrator, controller.history, clock, adoption, wait_s=wait_s)
    if as_json:
        print_json(
            {
                "pool": orchestrator.pool,
                "written": apply,
                "create": [
                    {"queue": queue.name, "priority": queue.priority, "limit": queue.limit} for queue in adoption.create
                ],
                "assign": [dict(zip(("deployment", "from", "to"), move, strict=True)) for move in adoption.assign],
                "stay": [
                    {"queue": queue.name, "limit": queue.limit, "paused": queue.paused, "deployments": list(names)}
                    for queue, names in adoption.stay
                ],
                "unpolled": adoption.unpolled,
            }
        )
        return 0
    _print(adoption, apply=apply)
    return 0


def _print(adoption: Adoption, *, apply: bool) -> None:
    from prefect_intelligent.cli import formatting

    def say(line: str) -> None:
        formatting.console.print(line, soft_wrap=True, markup=False)

    for queue in adoption.create:
        limit = "without a limit" if queue.limit is None else f"limit {queue.limit}"
        say(f"  new work queue {queue.name}, priority {queue.priority}, {limit}")
    for deployment, before, lane in adoption.assign:
        say(f"  deployment {deployment}: {before} -> {lane}")
    for queue, names in adoption.stay:
        why = "it is paused" if queue.paused else f"its limit of {queue.limit} holds for what is in it together"
        say(f"  {', '.join(names)} stay in {queue.name}: {why}")
    if adoption.unpolled is not None:
        say(f"  {adoption.unpolled}")
    if not adoption.create and not adoption.assign:
        say("Nothing to do: what can be told apart has its lane.")
    elif apply:
        say("Done. `control restore` takes it back. Runs that exist already keep the queue they have.")
    else:
        say("Nothing was written. Add --apply to do it; Prefect makes scheduled future runs anew then.")
    if adoption.assign:
        say(
            "A deploy sends a deployment to the work queue that its source names (work_queue_name), or to the pool's "
            "default one: put the lane there, or adopt again after it."
        )
