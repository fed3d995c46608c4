"""`prefect-intelligent fleet`: process workers on this machine, as many as the pool can use."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.errors import OrchestratorError

if TYPE_CHECKING:
    from prefect_intelligent.capacity.adapters.local_fleet import LocalFleet

_SLICE_S: Final = 0.25


def command(
    *,
    pool: Pool = None,
    least: Annotated[Int, Parameter(metavar="N", help="fewest workers (default: 0)")] = 0,
    most: Annotated[Int, Parameter(metavar="N", help="most workers (default: 8)")] = 8,
    slots_each: Annotated[Int, Parameter(metavar="N", help="runs that one worker carries at once (default: 1)")] = 1,
    keep: Annotated[
        float, Parameter(metavar="S", help="seconds for which a worker that nobody needs is kept (default: 30)")
    ] = 30.0,
    interval: Annotated[float, Parameter(metavar="S", help="seconds between two looks (default: 2)")] = 2.0,
    leave: Annotated[bool, Parameter(help="at the end, leave the workers as they are")] = False,
    status: Annotated[bool, Parameter(help="show the workers and end; starts and drains nothing")] = False,
    drain: Annotated[bool, Parameter(help="ask every worker to end when its runs are over, and end")] = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Start and drain workers until SIGTERM or SIGINT.

    As many are kept as the pool can use under its limit, between `--least` and `--most`. Only idle workers are asked to
    end, and one that has got a run meanwhile ends after it. At the end all are asked, unless --leave; a supervisor that
    is killed leaves them, and the next one takes them over.
    """
    from prefect_intelligent.capacity.desired_slots import desired_slots
    from prefect_intelligent.capacity.fleet_plan import FleetBounds
    from prefect_intelligent.errors import InvalidInputError
    from prefect_intelligent.wiring.capacity import boot_s, check_process_pool, open_fleet, open_fleet_folder
    from prefect_intelligent.wiring.steering import open_controller

    bounds = FleetBounds(least=least, most=most, slots_each=slots_each, keep_s=keep)
    if not interval > 0:
        raise InvalidInputError("--interval", interval, "must be above 0 seconds")
    settings, name = settings_and_pool(config, pool)
    controller = open_controller(settings, name, by="fleet")
    check_process_pool(controller.orchestrator)
    fleet = open_fleet(settings, controller.api, name, bounds)
    if status:
        members = fleet.members()
        if as_json:
            workers = [{field: getattr(member, field) for field in member.__slots__} for member in members]
            print_json(_figures(fleet, name) | {"members": workers})
            return 0
        for member in members:
            doing = (
                f"{member.busy} of {member.slots} slots in use" if member.busy else f"idle for {member.idle_s:.0f} s"
            )
            print(f"{member.name}: {doing}{', drains' if member.draining else ''}")
        print(f"{len(members)} workers of pool {name}")
        return 0
    if drain:
        print(f"{fleet.drain_all()} workers of pool {name} end when their runs are over")
        return 0
    alone = open_fleet_folder(settings, controller.api, name).lock("supervisor")
    if not alone.take():
        print(f"another supervisor keeps the fleet of pool {name}", file=sys.stderr)
        return 1
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: stop.append(n))
    tell = _Teller(as_json=as_json)
    soon_s, wanted = boot_s(settings, name, controller.history), None
    while not stop:
        try:
            snapshot = controller.orchestrator.observe()
            wanted = desired_slots(snapshot, pool_limit=snapshot.pool.limit, soon_s=soon_s)
        except OrchestratorError as error:  # the fleet stays as it was wanted last
            tell.problem(str(error))
        if wanted is not None:
            fleet.want(name, wanted)
            tell(_figures(fleet, name) | {"wanted_slots": wanted})
        until = time.monotonic() + interval
        while not stop and time.monotonic() < until:
            time.sleep(_SLICE_S)
    if not leave:
        left = fleet.drain_all()
        if left and not as_json:
            print(f"{left} workers end when their runs are over.", flush=True)
    fleet.close()
    alone.release()
    return 0


def _figures(fleet: LocalFleet, pool: str) -> dict[str, Any]:
    members = fleet.members()
    return {
        "pool": pool,
        "workers": len(members),
        "slots": fleet.present(pool),
        "busy": sum(member.busy for member in members),
        "draining": sum(member.draining for member in members),
    }


class _Teller:
    """Prints what has changed."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told: dict[str, Any] = {}
        self._problem = ""

    def __call__(self, figures: dict[str, Any]) -> None:
        self._problem = ""
        if figures == self._told:
            return
        self._told = figures
        if self._as_json:
            print(json.dumps(figures), flush=True)
            return
        print(
            "{pool}: {wanted_slots} slots wanted, {slots} there; {workers} workers, {busy} runs, "
            "{draining} workers drain".format(**figures),
            flush=True,
        )

    def problem(self, text: str) -> None:
        """Said once."""
        if text != self._problem:
            print(text, file=sys.stderr, flush=True)
        self._problem = text
