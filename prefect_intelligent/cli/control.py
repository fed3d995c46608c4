"""`prefect-intelligent control`: run the controller, look at it, stop it, go back."""

from __future__ import annotations

import argparse
import getpass
import time
from typing import Any

from prefect_intelligent.cli import control_adopt, control_restore, control_run
from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.controller_state import load_state, request_release
from prefect_intelligent.steering.decision_record import KIND, read_decision
from prefect_intelligent.steering.kill_switch import read_switch, set_switch
from prefect_intelligent.steering.manual_overrides import describe
from prefect_intelligent.wiring.steering import open_controller


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str, run: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        add_pool(sub)
        add_config(sub)
        sub.set_defaults(act=run)
        return sub

    control_run.configure(add("run", "Steer a work pool until stopped.", control_run.run))
    status = add("status", "Show who leads, the last decision, and what people have pinned.", _status)
    add_json(status)
    control_restore.configure(add("restore", "Put back every value that steering has changed.", control_restore.run))
    control_adopt.configure(add("adopt", "Give deployments work queues of their own.", control_adopt.run))
    give_back = add("release", "Let the controller take over again what a person has set.", _release)
    give_back.add_argument(
        "--queue", action="append", default=[], metavar="NAME", help="only of this queue; repeatable"
    )
    give_back.add_argument("--pool-limit", action="store_true", help="only of the pool limit")
    add("off", "Stop every write to the pool, by controllers and hooks, until `on`.", _turn_off)
    add("on", "Allow writes to the pool again.", _turn_on)


def run(args: argparse.Namespace) -> int:
    """Do what the sub-command says."""
    code: int = args.act(args)
    return code


def _status(args: argparse.Namespace) -> int:
    loaded = read_settings(args, ("pool",))
    controller = open_controller(loaded.settings, chosen_pool(loaded))
    pool, now_s = controller.orchestrator.pool, controller.clock.now_s()
    last = read_latest(controller.history, KIND, pool, read_decision)
    holds = load_state(controller.history, pool).known.overrides
    status = {
        "pool": pool,
        "led": controller.lease.taken(),
        "switch": read_switch(controller.history, pool),
        "last_decision": None if last is None else {k: v for k, v in last.items() if k not in ("memory", "queues")},
        "age_s": None if last is None else now_s - last["at_s"],
        "held_by_people": [
            {"queue": queue, "setting": which, "value": hold.value, "until_s": hold.until_s}
            for (queue, which), hold in holds.items()
        ],
        "values_to_put_back": len(read_baseline(controller.history, pool)),
    }
    if args.json:
        print_json(status)
        return 0
    from prefect_intelligent.cli import formatting

    formatting.console.print(f"Work pool {pool}: {'a controller leads' if status['led'] else 'no controller leads'}")
    if status["switch"] != "on":
        formatting.console.print(f"Steering is switched off ({status['switch']}); `control on` allows it again.")
    if last is None:
        formatting.console.print("There is no decision yet.")
    else:
        formatting.console.print(
            f"Last decision, {formatting.ago(now_s - last['at_s'])}, by {last['by']} with {last['policy']}:"
        )
        formatting.console.print("  " + formatting.headline(last), soft_wrap=True)
    for key, hold in holds.items():
        formatting.console.print(
            f"A person set the {describe(key)} to {formatting.limit(hold.value)}; "
            f"left alone until {formatting.instant(hold.until_s)}"
        )
    return 0


def _release(args: argparse.Namespace) -> int:
    loaded = read_settings(args, ("pool",))
    controller = open_controller(loaded.settings, chosen_pool(loaded))
    queues = [*args.queue, *([""] if args.pool_limit else [])]
    request_release(controller.history, controller.orchestrator.pool, queues, time.time())
    print("The next decision may change it again.")
    return 0


def _turn_off(args: argparse.Namespace) -> int:
    return _turn(args, on=False)


def _turn_on(args: argparse.Namespace) -> int:
    return _turn(args, on=True)


def _turn(args: argparse.Namespace, *, on: bool) -> int:
    loaded = read_settings(args, ("pool",))
    controller = open_controller(loaded.settings, chosen_pool(loaded))
    pool = controller.orchestrator.pool
    set_switch(controller.history, pool, "on" if on else "off", time.time(), f"{getpass.getuser()} on the command line")
    print(f"Steering of work pool {pool} is {'on' if on else 'off; settings stay as they are'}.")
    return 0
