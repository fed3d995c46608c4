"""`prefect-intelligent recommend`: what would save money, shown by a replay of the pool's own history."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Int, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.domain import Change, parse_span
from prefect_intelligent.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from prefect_intelligent.settings import Settings
    from prefect_intelligent.wiring.steering import PoolController

_MEMORY_PRICE = "aws-us-east-1/fargate"


def command(
    action: Annotated[
        Literal["show", "apply", "undo", "score"],
        Parameter(
            name="ACTION",
            help="show (default), apply N, undo, or score what was applied last: promised and real saving",
        ),
    ] = "show",
    number: Annotated[Int | None, Parameter(name="N", help="number of the recommendation to apply")] = None,
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    last: Annotated[str, Parameter(metavar="SPAN", help="history that is replayed (default 14d)")] = "14d",
    usage: Annotated[
        Path | None, Parameter(metavar="FILE", help="OTLP JSON of a collector: memory used by runs")
    ] = None,
    write: Annotated[bool, Parameter(help="apply for real; without it only what would be written")] = False,
) -> int:
    """Show, apply, undo or score."""
    from prefect_intelligent.local.progress import Progress

    with Progress("asking Prefect"):
        from prefect_intelligent.wiring.steering import open_controller

        settings, name = settings_and_pool(config, pool)
        span_s = parse_span(last, what="--last")
        controller = open_controller(settings, name, by="recommend")
    try:
        if action == "show":
            return _show(settings, controller, last, span_s, usage, as_json=as_json)
        if action == "score":
            return _score(settings, controller, as_json=as_json)
        if action == "apply":
            return _apply(controller, number, write=write, as_json=as_json)
        return _undo(controller, as_json=as_json)
    except ModuleNotFoundError as error:
        raise MissingExtraError("replaying history", "twin") from error


def _past(settings: Settings, controller: PoolController, since_s: float) -> Any:
    """What is replayed."""
    from prefect_intelligent.recommendations.model import ReplayInput
    from prefect_intelligent.settings import PoolSettings
    from prefect_intelligent.wiring.history import open_runs
    from prefect_intelligent.wiring.pipeline_graph import history_graph, scheduled_deployments, unread
    from prefect_intelligent.wiring.pool_records import settings_given

    name = controller.orchestrator.pool
    pool, queues = settings_given(controller.history, *controller.orchestrator.settings())
    store = open_runs(settings)
    runs = store.run_frame(since_s=since_s, pool=name)
    return ReplayInput(
        runs=runs,
        pool=pool,
        queues=queues,
        prices=settings.prices_of(name),
        unread=unread(history_graph(store), runs),
        most_slots=settings.pools.get(name, PoolSettings()).most_slots,
        scheduled=scheduled_deployments(store),
    )


def _show(
    settings: Settings, controller: PoolController, last: str, span_s: float, usage: Path | None, *, as_json: bool
) -> int:
    from prefect_intelligent.local.progress import Progress

    pool = controller.orchestrator.pool
    with Progress("reading the history") as progress:
        import numpy as np

        from prefect_intelligent.recommendations.evaluate import KIND, recommend
        from prefect_intelligent.wiring.analytics import history_cost

        now_s, rng = time.time(), np.random.default_rng(0)
        past = _past(settings, controller, now_s - span_s)
        cost = history_cost(settings, pool, past.runs, now_s - span_s, now_s)
        progress(f"replaying {len(past.runs)} runs, with one change each")
        found = recommend(past, rng)
    if usage is not None:
        from prefect_intelligent.recommendations.memory_rightsizing import rightsize
        from prefect_intelligent.twin.cloud_prices import slot_prices
        from prefect_intelligent.wiring.history import open_runs
        from prefect_intelligent.wiring.pipeline_graph import memory_of

        gb = [slot_prices(_MEMORY_PRICE, gb=size).slot_usd_per_hour for size in (1.0, 2.0)]
        peaks, asked = memory_of(usage, open_runs(settings))
        found += rightsize(past.runs, peaks, asked, gb[1] - gb[0], rng)
        found.sort(key=lambda one: -one.saving_usd_per_day)
    rows = [one.row() for one in found]
    controller.history.append(KIND, pool, now_s, {"rows": rows, "last": last})
    if as_json:
        print_json({"usd_per_day": cost.usd_per_day, "days": cost.days, "recommendations": rows})
        return 0
    print(f"The last {last} of work pool {pool} have cost ${cost.usd_per_day:.2f} a day over {cost.days:.1f} days.")
    for number, row in enumerate(rows, 1):
        low, high = row["interval"]
        print(f"{number}. {row['title']}: saves ${row['saving_usd_per_day']:.2f} a day (${low:.2f} to ${high:.2f})")
        print(f"   {row['evidence']}")
        if row["by_hand"]:
            print(f"   By hand: {row['by_hand']}.")
    if not rows:
        print("Nothing that was tried would have saved money.")
    able = next((number for number, row in enumerate(rows, 1) if not row["by_hand"]), None)
    if able is not None:
        print(f"Next: prefect-intelligent recommend apply {able} --pool {shlex.quote(pool)}   (shows; --write does it)")
    return 0


def _apply(controller: PoolController, number: int | None, *, write: bool, as_json: bool) -> int:
    from prefect_intelligent.history.reading import read_latest
    from prefect_intelligent.recommendations.apply import (
        apply_recommendation,
        deployments_to_move,
        queues_to_create,
        settings_to_change,
    )
    from prefect_intelligent.recommendations.evaluate import KIND

    rows = read_latest(controller.history, KIND, controller.orchestrator.pool, lambda kept: list(kept["rows"])) or []
    if number is None or not 1 <= number <= len(rows):
        raise InvalidInputError("number", number, f"must be 1 to {len(rows)}; run `recommend` first")
    row = rows[number - 1]
    wanted = settings_to_change(row, controller.orchestrator)
    lanes, moves = queues_to_create(row, controller.orchestrator), deployments_to_move(row, controller.orchestrator)
    if write:
        wanted = apply_recommendation(row, controller.orchestrator, controller.history, controller.clock)
    if as_json:
        done = "written" if write else "would_write"
        print_json({done: [_row(change) for change in wanted], "queues": lanes, "moves": moves})
        return 0
    done = "written:" if write else "would write"
    for name in lanes:
        print(f"{done} new queue {name}")
    for change in wanted:
        print(f"{done} {_text(change)}")
    for name, before, after in moves:
        print(f"{done} queue of {name} {before} -> {after}")
    if not (wanted or lanes or moves):
        print("nothing to write: it already holds")
    elif not write:
        print("add --write to do it")
    return 0


def _undo(controller: PoolController, *, as_json: bool) -> int:
    from prefect_intelligent.recommendations.apply import undo_last

    done = undo_last(controller.orchestrator, controller.history, controller.clock)
    if as_json:
        print_json({"written": [_row(change) for change in done]})
        return 0
    for change in done:
        print(f"written: {_text(change)}")
    if not done:
        print("no setting had to be written")
    return 0


def _score(settings: Settings, controller: PoolController, *, as_json: bool) -> int:
    """Promised against real saving of what was applied last."""
    import numpy as np

    from prefect_intelligent.recommendations.apply import SCORED, last_applied, rescore

    record = last_applied(controller.orchestrator.pool, controller.history)
    found = rescore(_past(settings, controller, float(record["at_s"])), record, np.random.default_rng(0))
    row = {
        "title": record["title"],
        "promised_usd_per_day": record["saving_usd_per_day"],
        "real_usd_per_day": round(found.saving_usd_per_day, 4),
        "interval": [round(bound, 4) for bound in found.interval],
        "days": found.days,
    }
    controller.history.append(SCORED, controller.orchestrator.pool, time.time(), row)
    if as_json:
        print_json(row)
        return 0
    low, high = row["interval"]
    print(f"{row['title']}: promised ${row['promised_usd_per_day']:.2f} a day,")
    print(f"saved ${row['real_usd_per_day']:.2f} a day (${low:.2f} to ${high:.2f}) over {row['days']} days")
    return 0


def _text(change: Change) -> str:
    subject = "pool" if change.queue is None else f"queue {change.queue}"
    before, after = ("none" if value is None else value for value in (change.before, change.after))
    return f"{subject} {change.field} {before} -> {after}"


def _row(change: Change) -> dict[str, object]:
    return {"queue": change.queue, "field": change.field, "before": change.before, "after": change.after}
