"""`prefect-intelligent replay`: the pool's own history under several policies."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
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
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.analytics.run_metrics import RunReport
    from prefect_intelligent.policy.base import Policy
    from prefect_intelligent.replay.adapters.recording_file import Recording
    from prefect_intelligent.replay.replay import Rearranged, ReplayResult
    from prefect_intelligent.settings import Settings

_ADOPTED = ", adopted"
_DEFAULT = "prefect-default,edf,wspt,atc,general"


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
    from prefect_intelligent.local.progress import Progress

    with Progress("reading the history") as progress:
        from prefect_intelligent.replay.replay import REFERENCE, replay
        from prefect_intelligent.wiring.analytics import history_cost
        from prefect_intelligent.wiring.regime import pool_regime
        from prefect_intelligent.wiring.replay import (
            adopted,
            read_recording,
            recording_model,
            recording_of,
            write_page,
            write_recording,
        )
        from prefect_intelligent.wiring.steering import choose_policy, open_policy

        span_s, now_s = parse_span(last, what="--last"), time.time()
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
        other = adopted(played)
        found = replay(
            played.runs,
            model,
            compared,
            regime=regime,
            seed=seed,
            rearranged=None if other is None else _rearranged(settings, other, compared),
            tell=lambda name, share: progress(f"replaying {name}, {share:.0%}"),
        )
        cost = None
        if recording is None:
            cost = history_cost(settings, played.pool.name, played.runs, now_s - span_s, now_s)
        days = replayed_days(found[0]) if cost is None else cost.days
        if front:
            progress("replaying along the dial")
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
        context: dict[str, Any] = {"pool": played.pool.name, "runs": len(found[0].runs), "seed": seed, "days": days}
        context["history_usd_per_day"] = None if cost is None else cost.usd_per_day
        context["next"] = _next(played.pool.name, found)
        print_json({**context, "policies": [as_row(each, days) for each in found]})
    else:
        _show(played.pool.name, found, days, cost)
    return 0


def _rearranged(settings: Settings, recording: Recording, compared: Mapping[str, Policy]) -> Rearranged:
    """The policy in force, or else the last one compared, in the pool as `control adopt` would make it."""
    from prefect_intelligent.replay.replay import Rearranged
    from prefect_intelligent.wiring.regime import pool_regime
    from prefect_intelligent.wiring.replay import recording_model

    name = settings.policy if settings.policy in compared else list(compared)[-1]
    model = recording_model(settings, recording)
    return Rearranged(
        runs=recording.runs,
        pool=model,
        regime=pool_regime(settings, recording.pool.name, model.queues_by_name, recording.pool.limit),
        policies={name + _ADOPTED: compared[name]},
    )


def replayed_days(found: ReplayResult) -> float:
    """Days from the first scheduled start to the last end of a replay."""
    return max(1.0, float(found.runs["ended_s"].max() - found.runs["scheduled_s"].min())) / 86400.0


def as_row(found: ReplayResult, days: float) -> dict[str, Any]:
    """The figures of one policy over so many days, JSON-ready."""
    return {
        "policy": found.policy,
        "cost_usd": found.cost.total_usd,
        "usd_per_day": found.cost.total_usd / days,
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


def _best(found: Sequence[ReplayResult]) -> ReplayResult | None:
    """The policy that surely saves most; None if none is proven to save."""
    proven = [each for each in found if (each.saving_low_usd or 0.0) > 0]
    return max(proven, key=lambda each: each.saving_low_usd or 0.0, default=None)


def _next(pool: str, found: Sequence[ReplayResult]) -> str:
    """The command to go on with."""
    best = _best(found)
    named = f"--pool {shlex.quote(pool)}"
    if best is None:
        return f"prefect-intelligent recommend {named}"
    if best.policy.endswith(_ADOPTED):
        return f"prefect-intelligent control adopt {named}"
    return f"prefect-intelligent control run {named} --policy {shlex.quote(best.policy)} --mode shadow"


def _show(pool: str, found: Sequence[ReplayResult], days: float, cost: RunReport | None) -> None:
    """A table for people."""
    from prefect_intelligent.cli.formatting import say
    from prefect_intelligent.cli.tables import print_table

    title = f"{len(found[0].runs)} runs of work pool {pool} in {days:.1f} days, replayed; US dollars a day"
    rows = []
    for each in found:
        saving, interval = "-", "-"
        if each.saving_usd is not None and each.saving_low_usd is not None and each.saving_high_usd is not None:
            saving = f"{each.saving_usd / days:+.2f}"
            interval = f"{each.saving_low_usd / days:+.2f} to {each.saving_high_usd / days:+.2f}"
        rows.append(
            {
                "policy": each.policy,
                "cost": f"{each.cost.total_usd / days:.2f}",
                "saves": saving,
                "95 % interval": interval,
                "late": f"{each.late_runs}/{each.due_runs}",
                "p95 wait": describe_span(each.wait_p95_s),
                "late min": f"{each.weighted_late_minutes:.1f}",
            }
        )
    print_table(rows, title=title)
    if cost is not None:
        said = f"{cost.usd_per_day:.2f} a day"
        say(f"As it was, this history has cost {said}; {found[0].policy} is the twin's account of it.")
    best = _best(found)
    if best is None:
        say("No policy is proven better than today's settings on this history.")
    else:
        say(f"{best.policy} is better than today's settings: its interval lies above zero.")
    other = next((each for each in found if each.policy.endswith(_ADOPTED)), None)
    if other is not None and (best is None or best.policy != other.policy):
        say(f"{other.policy}: as it would be after `control adopt`, a queue for each deployment.")
    elif other is not None:
        say("That is after `control adopt`, which gives each deployment a queue; it shows first what it would do.")
    say(f"Next: {_next(pool, found)}")
