"""`control restore`: back to what people had set."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.errors import ConflictError


def command(
    *,
    pool: Pool = None,
    config: Config = None,
    dry_run: Annotated[bool, Parameter(help="only show what would be written")] = False,
    force: Annotated[bool, Parameter(help="also while a controller leads the pool")] = False,
    as_json: Json = False,
) -> int:
    """Put everything back and say what that was."""
    from prefect_intelligent.prevention.engine import key_prefix, undo_prevention
    from prefect_intelligent.steering.dedicated_queues import after_removal, plan_removal, plan_undo
    from prefect_intelligent.steering.restore import plan_restoration, restore, retry
    from prefect_intelligent.wiring.prevention import open_prevention_actions
    from prefect_intelligent.wiring.steering import lease_s, open_controller

    settings, name = settings_and_pool(config, pool)
    controller = open_controller(settings, name)
    leads = dry_run or force or controller.lease.acquire()
    if not leads:
        raise ConflictError(
            f"a controller leads work pool {name!r}: stop it first, wait {lease_s(settings):.0f} s after it was "
            "killed, or use --force"
        )
    try:
        clock = controller.clock
        undo = retry(clock, lambda: plan_undo(controller.orchestrator, controller.history))
        lanes = retry(clock, lambda: plan_removal(controller.orchestrator, controller.history))
        if dry_run:
            found = plan_restoration(controller.orchestrator, controller.history)
            measures = [key for key in open_prevention_actions(settings).in_force() if key.startswith(key_prefix(name))]
        else:
            by = f"{getpass.getuser()} on the command line"
            found = restore(controller.orchestrator, controller.history, controller.clock, by=by)
            lanes = after_removal(
                lanes, retry(clock, lambda: plan_removal(controller.orchestrator, controller.history))
            )
            actions = open_prevention_actions(settings)
            measures = retry(clock, lambda: list(undo_prevention(controller.history, actions, name, clock.now_s())))
    finally:
        controller.lease.release()
    rows = [(c.queue, c.field, c.before, c.after) for c in found.changes]
    if as_json:
        print_json(
            {
                "pool": name,
                "written": not dry_run,
                "changes": [dict(zip(("queue", "setting", "before", "after"), row, strict=True)) for row in rows],
                "deployments": [list(move) for move in undo],
                "deleted": [lane.name for lane in lanes if lane.stays is None],
                "stays": {lane.name: lane.stays for lane in lanes if lane.stays is not None},
                "gone": list(found.gone),
                "remade": list(found.remade),
                "measures": measures,
            }
        )
        return 0
    from prefect_intelligent.cli import formatting

    verb = "would be put back" if dry_run else "put back"
    for row in rows:
        formatting.say("  " + formatting.change(row))
    for deployment, lane, before in undo:
        formatting.say(f"  deployment {deployment}: {lane} -> {before}")
    deleted = [lane.name for lane in lanes if lane.stays is None]
    for lane in deleted:
        formatting.say(f"  work queue {lane}: deleted")
    for key in measures:
        formatting.say(f"  {key}")
    counted = [(rows, "value"), (undo, "deployment"), (deleted, "dedicated queue"), (measures, "measure")]
    counts = ", ".join(_count(things, noun) for things, noun in counted if things)
    formatting.say(f"{counts} {verb}." if counts else "Nothing to put back.")
    for line in found.remade:
        formatting.console.print(line, soft_wrap=True)
    for queue in lanes:
        if queue.stays is not None:
            formatting.console.print(f"Work queue {queue.name} stays: {queue.stays}.", soft_wrap=True)
    if found.gone:
        formatting.say(f"Queues that no longer exist: {', '.join(found.gone)}")
    return 0


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
