"""`control adopt`: lanes for deployments that share a work queue."""

from __future__ import annotations

import argparse

from prefect_intelligent.cli.options import add_json, chosen_pool, print_json, read_settings
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
from prefect_intelligent.wiring.steering import open_controller


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--by",
        choices=("deployment", "value"),
        default="deployment",
        help="a queue per deployment, or per class of lateness price (default: deployment)",
    )
    parser.add_argument("--apply", action="store_true", help="do it; without this it is only shown")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show or make the lanes; exit code 1 if nothing is left to adopt and nothing was asked to be written."""
    loaded = read_settings(args, ("pool",))
    controller = open_controller(loaded.settings, chosen_pool(loaded))
    adoption = plan_adoption(controller.orchestrator.deployments(), controller.orchestrator.settings()[1], args.by)
    if args.apply and (adoption.create or adoption.assign):
        adopt(controller.orchestrator, controller.history, controller.clock, adoption)
    if args.json:
        print_json(
            {
                "pool": controller.orchestrator.pool,
                "written": args.apply,
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
    elif args.apply:
        formatting.console.print(
            "Done. `control restore` takes it back. Runs that exist already keep the queue they have."
        )
    else:
        formatting.console.print(
            "Nothing was written. Add --apply to do it; Prefect makes scheduled future runs anew then."
        )
    return 0
