"""`prefect-intelligent control`: run the controller, look at it, stop it, go back."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    Config,
    Json,
    Pool,
    add,
    add_module,
    print_json,
    settings_and_pool,
    subcommands,
)

command = subcommands("control")

add_module(command, "run", "Steer a work pool until stopped.", "control_run")


@add(command, "status", "Show who steers, the last decision, and what people have pinned.")
def _status(*, pool: Pool = None, config: Config = None, as_json: Json = False) -> int:
    from prefect_intelligent.history.reading import read_latest
    from prefect_intelligent.steering.baseline import read_baseline
    from prefect_intelligent.steering.controller_state import load_state
    from prefect_intelligent.steering.decision_record import KIND, read_decision
    from prefect_intelligent.steering.kill_switch import read_switch, who_steers
    from prefect_intelligent.steering.manual_overrides import describe
    from prefect_intelligent.wiring.steering import open_controller

    controller = open_controller(*settings_and_pool(config, pool))
    name, now_s = controller.orchestrator.pool, controller.clock.now_s()
    last = read_latest(controller.history, KIND, name, read_decision)
    holds = load_state(controller.history, name).known.overrides
    switch, led = read_switch(controller.history, name), controller.lease.taken()
    status = {
        "pool": name,
        "led": led,
        "switch": switch,
        "steering": who_steers(switch, led=led),
        "last_decision": None if last is None else {k: v for k, v in last.items() if k not in ("memory", "queues")},
        "age_s": None if last is None else now_s - last["at_s"],
        "held_by_people": [
            {"queue": queue, "setting": which, "value": hold.value, "until_s": hold.until_s}
            for (queue, which), hold in holds.items()
        ],
        "values_to_put_back": len(read_baseline(controller.history, name)),
    }
    if as_json:
        print_json(status)
        return 0
    from prefect_intelligent.cli import formatting

    formatting.say(f"Work pool {name}: {status['steering']}.")
    if last is None:
        formatting.say("There is no decision yet.")
    else:
        formatting.say(f"Last decision, {formatting.ago(now_s - last['at_s'])}, by {last['by']} with {last['policy']}:")
        formatting.say("  " + formatting.headline(last))
    for key, hold in holds.items():
        until = formatting.instant(hold.until_s)
        formatting.say(f"A person set the {describe(key)} to {formatting.limit(hold.value)}; left alone until {until}")
    return 0


add_module(command, "restore", "Put back every value that steering has changed.", "control_restore")
add_module(command, "adopt", "Give deployments work queues of their own.", "control_adopt")


@add(command, "release", "Let the controller take over again what a person has set.")
def _release(
    *,
    pool: Pool = None,
    config: Config = None,
    queue: Annotated[tuple[str, ...], Parameter(metavar="NAME", help="only of this queue; repeatable")] = (),
    pool_limit: Annotated[bool, Parameter(help="only of the pool limit")] = False,
) -> int:
    from prefect_intelligent.steering.controller_state import request_release
    from prefect_intelligent.wiring.steering import open_controller

    controller = open_controller(*settings_and_pool(config, pool))
    queues = [*queue, *([""] if pool_limit else [])]
    request_release(controller.history, controller.orchestrator.pool, queues, time.time())
    print("The next decision may change it again.")
    return 0


@add(command, "free-slots", "Free slots of a deployment's limit that are taken though no run holds them.")
def _free_slots(
    deployment: Annotated[str, Parameter(name="DEPLOYMENT", help='"flow/deployment"')], /, *, as_json: Json = False
) -> int:
    from prefect_intelligent.wiring.blocking import free_slots

    freed = free_slots(deployment)
    if as_json:
        print_json({"deployment": deployment, "freed": freed})
    else:
        print(f"{freed} freed" if freed else "Every slot that is taken is held by a run.")
    return 0


@add(command, "off", "Stop every write to the pool, by controllers and hooks, until `on`.")
def _off(*, pool: Pool = None, config: Config = None) -> int:
    return _switch(config, pool, on=False)


@add(command, "on", "Allow writes to the pool again.")
def _on(*, pool: Pool = None, config: Config = None) -> int:
    return _switch(config, pool, on=True)


def _switch(config: str | None, pool: str | None, *, on: bool) -> int:
    from prefect_intelligent.steering.kill_switch import set_switch
    from prefect_intelligent.wiring.steering import open_controller

    controller = open_controller(*settings_and_pool(config, pool))
    name, by = controller.orchestrator.pool, f"{getpass.getuser()} on the command line"
    set_switch(controller.history, name, "on" if on else "off", time.time(), by)
    print(f"Steering of work pool {name} is {'on' if on else 'off; settings stay as they are'}.")
    return 0
