"""`prefect-intelligent what-if`: what a change of settings would do."""

from __future__ import annotations

import argparse
from dataclasses import asdict

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
from prefect_intelligent.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=VALUE",
        help="pool.limit=N, QUEUE.limit=N or QUEUE.priority=N; 'none' is unlimited; may be repeated",
    )
    parser.add_argument("--hours", type=float, default=4.0, metavar="H", help="how long new runs come (default: 4)")
    parser.add_argument("--futures", type=int, default=64, metavar="N", help="futures to sample (default: 64)")
    add_seed(parser, "the futures")
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the money and lateness of both sides. Nothing is written to Prefect."""
    from prefect_intelligent.replay.eta import what_if
    from prefect_intelligent.wiring.replay import observe_pool, pool_model

    changes = dict(_change(text) for text in args.set)
    seed = chosen_seed(args)
    if args.futures < 1:
        raise InvalidInputError("--futures", args.futures, "must be 1 or more")
    if not 0 <= args.hours <= 24 * 366:
        raise InvalidInputError("--hours", args.hours, "must be a number of hours, 0 to a year")
    loaded = read_settings(args, ("pool",))
    settings, pool = loaded.settings, chosen_pool(loaded)
    snapshot = observe_pool(settings, pool)
    model = pool_model(settings, snapshot.pool, tuple(queue.setting for queue in snapshot.queues))
    found = what_if(snapshot, model, changes, seed, futures=args.futures, horizon_s=args.hours * 3600.0)
    if args.json:
        print_json({"pool": pool, "changes": changes, "futures": args.futures, "seed": seed, **asdict(found)})
        return 0
    said = ", ".join(f"{name} = {'none' if value is None else value}" for name, value in changes.items())
    print(f"{said} in {args.futures} futures of the next {args.hours:g} h:")
    print(f"  cost       {found.cost_usd:10.2f} -> {found.changed_usd:.2f} USD")
    print(f"  late runs  {found.late_runs:10.1f} -> {found.changed_late_runs:.1f}")
    interval = f"{found.saving_low_usd:.2f} to {found.saving_high_usd:.2f} in nine of ten futures"
    print(f"  saves      {found.saving_usd:10.2f} USD ({interval})")
    return 0


def _change(text: str) -> tuple[str, int | None]:
    """One `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError("--set", text, "write NAME=VALUE, e.g. pool.limit=6")
    if value.strip().lower() == "none":
        return name.strip(), None
    try:
        number = int(value)
    except ValueError as error:
        raise InvalidInputError(name, value, "must be a whole number, or 'none' for unlimited") from error
    if number < 0:
        raise InvalidInputError(name, value, "must be 0 or more, or 'none' for unlimited")
    return name.strip(), number
