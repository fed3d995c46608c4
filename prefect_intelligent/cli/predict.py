"""`prefect-intelligent predict`: learn from the history, then foretell the live runs of a pool."""

from __future__ import annotations

import argparse
import time

from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    add_pool(parser)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "train", "drift"),
        default="show",
        help="show: forecasts of live runs (default); train: learn from the history; drift: does what was learned hold",
    )
    parser.add_argument(
        "--track",
        nargs="?",
        const="",
        metavar="URI",
        help="with train: log and register it in MLflow, at URI or its default",
    )
    parser.add_argument("--last", default="90d", metavar="SPAN", help="history that is used (default 90d)")


def run(args: argparse.Namespace) -> int:
    """Train, look for drift, or show forecasts."""
    from prefect_intelligent.domain import RunPhase
    from prefect_intelligent.forecasting.forecaster import Forecaster
    from prefect_intelligent.forecasting.live_forecasts import forecast_live_runs
    from prefect_intelligent.prefect_client.heartbeats import last_heartbeats
    from prefect_intelligent.wiring.history import open_runs
    from prefect_intelligent.wiring.pipeline_graph import forecast_context
    from prefect_intelligent.wiring.steering import open_controller

    loaded = read_settings(args, ("pool",))
    settings = loaded.settings
    since_s = time.time() - parse_span(args.last, what="--last")
    folder = settings.folder / "forecaster"
    if args.action == "train":
        return _train(args, since_s)
    if args.action == "drift":
        return _drift(args, since_s)
    pool = chosen_pool(loaded)
    if not (folder / "forecaster.json").exists():
        raise InvalidInputError("forecaster", str(folder), "there is none yet: run `prefect-intelligent predict train`")
    forecaster = Forecaster.load(folder)
    controller = open_controller(settings, pool, by="predict")
    snapshot = controller.orchestrator.observe()
    beats = last_heartbeats(controller.api, [run.id for run in snapshot.runs(RunPhase.RUNNING)])
    past = open_runs(settings).run_frame(since_s=since_s)
    rows = forecast_live_runs(forecaster, past, snapshot, heartbeats=beats, context=forecast_context(settings))
    if args.json:
        print_json(rows)
        return 0
    for row in rows[:50]:
        print(
            f"{row['failure_probability']:6.1%}  {row['p50_s']:8.0f} s  {row['p90_s']:8.0f} s  {row['deployment']}  "
            f"{'; '.join(row['reasons'])}"
        )
    if not rows:
        print("No run waits and none is scheduled.")
    return 0


def _train(args: argparse.Namespace, since_s: float) -> int:
    from prefect_intelligent.wiring.forecasting import retrain_forecaster

    settings = read_settings(args, ("pool",)).settings
    facts = retrain_forecaster(settings, since_s=since_s, track=args.track is not None, uri=args.track or None)
    if args.json:
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


def _drift(args: argparse.Namespace, since_s: float) -> int:
    """Exit code 1 if it should be trained again."""
    from prefect_intelligent.wiring.forecasting import look_for_drift

    found = look_for_drift(read_settings(args, ("pool",)).settings, since_s=since_s)
    if args.json:
        print_json(found.to_record())
        return int(found.retrain)
    for reason in found.reasons:
        print(reason)
    print("run `prefect-intelligent predict train`" if found.retrain else f"{found.runs} runs since the training")
    return int(found.retrain)
