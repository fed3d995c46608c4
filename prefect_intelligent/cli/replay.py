"""`prefect-intelligent replay`: the pool's own history under several policies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.policy import Policy
    from prefect_intelligent.replay.replay import ReplayResult
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.replay import Recording

_DEFAULT = "prefect-default,static,edf,wspt,atc,atc+lookahead"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--last", default="14d", metavar="SPAN", help="how much history (default: 14d)")
    parser.add_argument(
        "--policies", default=_DEFAULT, metavar="A,B,...", help=f"rules and bundles to compare (default: {_DEFAULT})"
    )
    parser.add_argument("--recording", type=Path, metavar="FILE", help="replay this recording instead of the history")
    parser.add_argument("--save", type=Path, metavar="FILE", help="also save what is replayed as a recording")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with pictures")
    parser.add_argument(
        "--front", action="store_true", help="also play the policy in force along the dial, for the dashboard's front"
    )
    add_seed(parser, "polls, start-up times and intervals")
    add_pool(parser)
    add_config(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line per policy."""
    from prefect_intelligent.replay.replay import REFERENCE, replay
    from prefect_intelligent.wiring.replay import (
        read_recording,
        recording_model,
        recording_of,
        write_page,
        write_recording,
    )
    from prefect_intelligent.wiring.steering import choose_policy, controller_config

    span_s, seed = parse_span(args.last, what="--last"), chosen_seed(args)
    for flag, path in (("--save", args.save), ("--html", args.html)):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidInputError(flag, str(path), "its folder does not exist")
    names = list(dict.fromkeys([REFERENCE, *(name.strip() for name in args.policies.split(",") if name.strip())]))
    policies = {name: choose_policy(name) for name in names}
    loaded = read_settings(args, ("pool",))
    settings = loaded.settings
    if args.recording is not None:
        recording = read_recording(args.recording)
    else:
        recording = recording_of(settings, chosen_pool(loaded), span_s)
    if args.save is not None:
        write_recording(args.save, recording)
    config = controller_config(settings, recording.pool.name, "replay")
    found = replay(
        recording.runs,
        recording_model(recording),
        policies,
        guard=config.guard,
        interval_s=settings.interval_s,
        seed=seed,
    )
    if args.front:
        _keep_front(settings, args, policies, recording)
    if args.html is not None:
        write_page(args.html, recording, found)
    if args.json:
        context = {"pool": recording.pool.name, "runs": len(found[0].runs), "seed": seed}
        print_json({**context, "policies": [as_row(each) for each in found]})
    else:
        _show(recording.pool.name, found)
    return 0


def _keep_front(
    settings: Settings, args: argparse.Namespace, policies: dict[str, Policy], recording: Recording
) -> None:
    """Play the policy in force at several positions of the dial and keep what came of it."""
    import time

    from prefect_intelligent.replay.tradeoff_curve import KIND, tradeoff_curve
    from prefect_intelligent.wiring.history import open_history
    from prefect_intelligent.wiring.replay import recording_model
    from prefect_intelligent.wiring.steering import controller_config

    pool = recording.pool.name
    config = controller_config(settings, pool, "replay")
    points = tradeoff_curve(
        recording.runs,
        recording_model(recording),
        policies | {settings.policy: config.policy},
        settings.policy,
        guard=config.guard,
        interval_s=settings.interval_s,
        seed=args.seed,
    )
    note = f"Replay of the last {args.last}; lateness at its plain price"
    open_history(settings).append(KIND, pool, time.time(), {"points": points, "note": note})


def as_row(found: ReplayResult) -> dict[str, Any]:
    """The figures of one policy, JSON-ready."""
    return {
        "policy": found.policy,
        "cost_usd": found.cost.total_usd,
        "capacity_usd": found.cost.capacity_usd,
        "lateness_usd": found.cost.lateness_usd,
        "failure_usd": found.cost.failure_usd,
        "weighted_late_minutes": found.weighted_late_minutes,
        "late_runs": found.late_runs,
        "miss_share": found.miss_share,
        "wait_p50_s": found.wait_p50_s,
        "wait_p95_s": found.wait_p95_s,
        "saving_usd": found.saving_usd,
        "saving_low_usd": found.saving_low_usd,
        "saving_high_usd": found.saving_high_usd,
    }


def _show(pool: str, found: tuple[ReplayResult, ...]) -> None:
    """A table for people."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from prefect_intelligent.cli.formatting import console

    title = f"{len(found[0].runs)} runs of work pool {pool}, replayed"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("policy")
    for heading in ("cost USD", "late min (weighted)", "late runs", "p95 wait s", "saves USD (95 % interval)"):
        table.add_column(heading, justify="right")
    for each in found:
        saving = "-"
        if each.saving_usd is not None:
            saving = f"{each.saving_usd:+.2f} ({each.saving_low_usd:+.2f} to {each.saving_high_usd:+.2f})"
        minutes, wait = f"{each.weighted_late_minutes:.1f}", f"{each.wait_p95_s:.0f}"
        table.add_row(
            each.policy, f"{each.cost.total_usd:.2f}", minutes, f"{each.late_runs}/{each.due_runs}", wait, saving
        )
    console.print(table)
    best = max(
        (each for each in found if each.saving_low_usd is not None),
        key=lambda each: each.saving_low_usd or 0.0,
        default=None,
    )
    if best is None or (best.saving_low_usd or 0.0) <= 0:
        console.print("No policy is proven better than today's settings on this history.")
    else:
        console.print(f"{best.policy} is better than today's settings: its interval lies above zero.")
