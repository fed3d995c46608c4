"""`prefect-intelligent prevent`: act before runs fail, by rules with budgets; shadow unless told otherwise."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict

from prefect_intelligent.cli.options import add_config, add_json, add_pool, chosen_pool, print_json, read_settings
from prefect_intelligent.domain import parse_span
from prefect_intelligent.errors import OrchestratorUnavailableError, StoreError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_config(parser)
    add_json(parser)
    add_pool(parser)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("run", "status", "scores"),
        default="run",
        help="run: one pass of all rules (default); status: measures in force; scores: what they were worth",
    )
    parser.add_argument("--last", default=None, metavar="SPAN", help="history looked at (default 14d, scores 30d)")
    parser.add_argument("--write", action="store_true", help="also do what rules in shadow would only record")
    parser.add_argument("--every", metavar="SPAN", help="with run: go on, a pass in each span (e.g. 5m), until stopped")


def run(args: argparse.Namespace) -> int:
    """Do it; exit code 1 if a measure is in force."""
    if args.every is None or args.action != "run":
        return _once(args)
    pause_s = parse_span(args.every, what="--every")
    while True:
        try:
            _once(args)
        except (OrchestratorUnavailableError, StoreError) as error:  # the next pass tries again
            print(f"{error}; trying again in {args.every}", file=sys.stderr, flush=True)
        time.sleep(pause_s)


def _once(args: argparse.Namespace) -> int:
    from prefect_intelligent.prevention.engine import prevent, read_measures
    from prefect_intelligent.prevention.measures import MeasurePhase
    from prefect_intelligent.wiring.history import open_history, open_runs
    from prefect_intelligent.wiring.prevention import look, open_prevention_actions, rule_settings
    from prefect_intelligent.wiring.steering import open_controller

    loaded = read_settings(args, ("pool",))
    settings, pool = loaded.settings, chosen_pool(loaded)
    terms = rule_settings(settings, write=args.write)
    since_s = time.time() - parse_span(args.last or ("30d" if args.action == "scores" else "14d"), what="--last")
    if args.action == "scores":
        return _scores(args, since_s)
    steps = []
    history = open_history(settings)
    if args.action == "run":
        runs = open_runs(settings).run_frame(since_s=since_s, pool=pool)
        controller = open_controller(settings, pool, by="prevent")
        steps = prevent(
            look(controller, runs),
            history,
            open_prevention_actions(settings),
            pool,
            settings=terms,
            emit=controller.orchestrator.emit,
        )
        if runs.empty and not args.json:
            print("Not enough data: the history has no run of this pool; run `prefect-intelligent sync` first.")
    standing = [s for s in read_measures(history, pool).values() if s.phase is not MeasurePhase.OVER]
    if args.json:
        print_json({"steps": steps, "standing": [s.to_record() for s in standing]})
        return int(bool(standing))
    for step in steps:
        note = f" ({step['note']})" if step["note"] else ""
        print(f"{step['rule']}: {step['lever']}, {step['from']} -> {step['to']}: {step['why']}{note}")
    for held in standing:
        done = "" if held.written else ", only recorded"
        print(f"in force: {held.rule} {held.subject}: {held.measure.lever} ({held.phase}{done}): {held.why}")
    if not standing:
        print("No measure is in force.")
    return int(bool(standing))


def _scores(args: argparse.Namespace, since_s: float) -> int:
    from prefect_intelligent.prevention.engine import KIND
    from prefect_intelligent.prevention.evidence import read_evidence
    from prefect_intelligent.prevention.scores import score_measures, summarise
    from prefect_intelligent.wiring.history import open_history, open_runs

    loaded = read_settings(args, ("pool",))
    pool = chosen_pool(loaded)
    runs = open_runs(loaded.settings).run_frame(since_s=since_s, pool=pool)
    evidence = read_evidence(runs, time.time(), kept=len(runs))
    records = open_history(loaded.settings).records(KIND, pool, since_s)
    scores = score_measures(records, evidence, loaded.settings.prices_of(pool))
    summary = summarise(scores)
    if args.json:
        print_json({"rules": summary, "measures": [asdict(score) for score in scores]})
        return 0
    if not scores:
        print("Not enough data: no measure has begun in this span.")
        return 0
    print(f"{'rule':16} {'measures':>8} {'done':>5} {'right':>6} {'false':>6} {'open':>5} {'saved':>9} {'wasted':>9}")
    for name, row in summary.items():
        counts = (row[key] or 0.0 for key in ("measures", "done", "right", "false", "open"))
        numbers = " ".join(f"{value:{width}.0f}" for value, width in zip(counts, (8, 5, 6, 6, 5), strict=True))
        print(f"{name:16} {numbers} {row['saved_usd'] or 0.0:9.2f} {row['wasted_usd'] or 0.0:9.2f}")
    for score in scores[-20:]:
        usd = "" if score.saved_usd is None else f", {score.saved_usd:+.2f} USD"
        done = "" if score.written else " (only recorded)"
        print(f"{score.verdict:5} {score.rule} {score.subject}{done}: {score.why}{usd}")
    return 0
