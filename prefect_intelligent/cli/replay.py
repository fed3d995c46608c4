"""`prefect-intelligent replay`: the pool's own history under several policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prefect_intelligent.cli.options import (
    Config,
    Json,
    Pool,
    Seed,
    check_seed,
    chosen_pool,
    print_json,
    read_settings,
)
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.replay.replay import ReplayResult

_DEFAULT = "prefect-default,static,edf,wspt,atc,atc+lookahead"


def command(
    *,
    last: Annotated[str, Parameter(metavar="SPAN", help="how much history (default: 14d)")] = "14d",
    policies: Annotated[
        str, Parameter(metavar="A,B,...", help=f"rules and bundles to compare (default: {_DEFAULT})")
    ] = _DEFAULT,
    recording: Annotated[
        Path | None, Parameter(metavar="FILE", help="replay this recording instead of the history")
    ] = None,
    save: Annotated[Path | None, Parameter(metavar="FILE", help="also save what is replayed as a recording")] = None,
    html: Annotated[Path | None, Parameter(metavar="FILE", help="also write a page with pictures")] = None,
    front: Annotated[
        bool, Parameter(help="also play the policy in force along the dial, for the dashboard's front")
    ] = False,
    seed: Annotated[Seed, Parameter(help="of polls, start-up times and intervals (default: 0)")] = 0,
    pool: Pool = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print one line per policy."""
    from prefect_intelligent.replay.replay import REFERENCE, replay
    from prefect_intelligent.wiring.regime import pool_regime
    from prefect_intelligent.wiring.replay import (
        read_recording,
        recording_model,
        recording_of,
        write_page,
        write_recording,
    )
    from prefect_intelligent.wiring.steering import choose_policy, open_policy

    span_s = parse_span(last, what="--last")
    check_seed(seed)
    for flag, path in (("--save", save), ("--html", html)):
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidInputError(flag, str(path), "its folder does not exist")
    names = list(dict.fromkeys([REFERENCE, *(name.strip() for name in policies.split(",") if name.strip())]))
    compared = {name: choose_policy(name) for name in names}
    loaded = read_settings(config, pool=pool)
    settings = loaded.settings
    played = read_recording(recording) if recording else recording_of(settings, chosen_pool(loaded), span_s)
    if save is not None:
        write_recording(save, played)
    model = recording_model(settings, played)
    regime = pool_regime(settings, played.pool.name, model.queues_by_name, played.pool.limit)
    found = replay(played.runs, model, compared, regime=regime, seed=seed)
    if front:
        import time

        from prefect_intelligent.replay.tradeoff_curve import KIND, tradeoff_curve
        from prefect_intelligent.wiring.history import open_history

        points = tradeoff_curve(
            played.runs,
            model,
            compared | {settings.policy: open_policy(settings, settings.policy)},
            settings.policy,
            regime=regime,
            seed=seed,
        )
        note = f"Replay of the last {last}; lateness at its plain price"
        open_history(settings).append(KIND, played.pool.name, time.time(), {"points": points, "note": note})
    if html is not None:
        write_page(html, played, found)
    if as_json:
        context = {"pool": played.pool.name, "runs": len(found[0].runs), "seed": seed}
        print_json({**context, "policies": [as_row(each) for each in found]})
    else:
        _show(played.pool.name, found)
    return 0


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
