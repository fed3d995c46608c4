"""`prefect-intelligent predict`: learn from the history, then foretell the live runs of a pool."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, chosen_pool, print_json, read_settings
from prefect_intelligent.cli.tables import print_table
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_intelligent.settings import Settings

_MOST_ROWS = 50


def command(
    action: Annotated[
        Literal["show", "train", "drift"],
        Parameter(
            name="ACTION",
            help="show: forecasts of live runs (default); train: learn from the history; "
            "drift: does what was learned hold",
        ),
    ] = "show",
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    track: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=(0, 1),
            metavar="[URI]",
            help="with train: log and register it in MLflow, at URI or its default",
        ),
    ] = None,
    last: Annotated[str, Parameter(metavar="SPAN", help="history that is used (default 90d)")] = "90d",
) -> int:
    """Train, look for drift, or show forecasts."""
    loaded = read_settings(config, pool=pool)
    since_s = time.time() - parse_span(last, what="--last")
    if action == "train":
        return _train(loaded.settings, since_s, track, as_json=as_json)
    if action == "drift":
        return _drift(loaded.settings, since_s, as_json=as_json)
    return _show(loaded.settings, chosen_pool(loaded), since_s, as_json=as_json)


def _show(settings: Settings, pool: str, since_s: float, *, as_json: bool) -> int:
    from prefect_intelligent.domain import RunPhase
    from prefect_intelligent.forecasting.forecaster import Forecaster
    from prefect_intelligent.forecasting.live_forecasts import forecast_live_runs
    from prefect_intelligent.prefect_client.heartbeats import read_heartbeats
    from prefect_intelligent.wiring.forecasting import forecaster_folder
    from prefect_intelligent.wiring.history import open_runs
    from prefect_intelligent.wiring.pipeline_graph import forecast_context
    from prefect_intelligent.wiring.steering import open_controller

    folder = forecaster_folder(settings)
    if not (folder / "forecaster.json").exists():
        raise InvalidInputError("forecaster", str(folder), "there is none yet: run `prefect-intelligent predict train`")
    forecaster = Forecaster.load(folder)
    controller = open_controller(settings, pool, by="predict")
    snapshot = controller.orchestrator.observe()
    beats = read_heartbeats(controller.api, [run.id for run in snapshot.runs(RunPhase.RUNNING)])
    past = open_runs(settings).run_frame(since_s=since_s, parameters=True)
    rows = forecast_live_runs(forecaster, past, snapshot, heartbeats=beats, context=forecast_context(settings))
    if as_json:
        print_json(rows)
        return 0
    shown = [
        {
            "deployment": row["deployment"],
            "fails": f"{row['failure_probability']:.1%}",
            "p50": f"{row['p50_s']:.0f} s",
            "p90": f"{row['p90_s']:.0f} s",
            "why": "; ".join(row["reasons"]) or "-",
        }
        for row in rows[:_MOST_ROWS]
    ]
    print_table(shown, text="why")
    if len(rows) > _MOST_ROWS:
        print(f"{len(rows) - _MOST_ROWS} more, less likely to fail; --json has them.")
    if not rows:
        print("No run waits and none is scheduled.")
    return 0


def _train(settings: Settings, since_s: float, track: list[str] | None, *, as_json: bool) -> int:
    from prefect_intelligent.local.progress import Progress

    uri = track[0] if track else None
    with Progress("learning from the history"):
        from prefect_intelligent.wiring.forecasting import retrain_forecaster

        facts = retrain_forecaster(settings, since_s=since_s, track=track is not None, uri=uri)
    if as_json:
        print_json(facts)
        return 0
    took = f"kept in {facts['folder']}" if facts["serves"] else "not taken over: the one that serves does better"
    print(f"learned from {facts['runs']:.0f} runs, {facts['failed']:.0f} of them failed; {took}")
    figures = {name: value for name, value in facts["figures"].items() if name != "test_failed_share"}
    if figures:
        shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        print(f"on the newest fifth, when learned from the rest: {shown}")
    if "version" in facts:
        print(f"MLflow: version {facts['version']}, alias {facts['alias']}, run {facts['run_id']}")
    return 0


def _drift(settings: Settings, since_s: float, *, as_json: bool) -> int:
    """Exit code 1 if it should be trained again."""
    from prefect_intelligent.wiring.forecasting import look_for_drift

    found = look_for_drift(settings, since_s=since_s)
    if as_json:
        print_json(found.to_record())
        return int(found.retrain)
    for reason in found.reasons:
        print(reason)
    print("run `prefect-intelligent predict train`" if found.retrain else f"{found.runs} runs since the training")
    return int(found.retrain)
