"""`prefect-intelligent prevent`: act before runs fail, by rules with budgets; shadow unless told otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from prefect_intelligent.cli.options import Config, Json, Pool, print_json, settings_and_pool
from prefect_intelligent.cli.tables import print_table
from prefect_intelligent.domain import parse_span
from prefect_intelligent.domain.secrets import mask_secrets
from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError, StoreError

if TYPE_CHECKING:
    from prefect_intelligent.prevention.measures import RuleSettings
    from prefect_intelligent.settings import Settings

_MOST_SCORES = 20


def command(
    action: Annotated[
        Literal["run", "status", "scores", "undo"],
        Parameter(
            name="ACTION",
            help="run: one pass of all rules (default); status: measures in force; scores: what they were worth; "
            "undo MEASURE: by its name in status, e.g. 'stale-runs deployment:etl/daily'",
        ),
    ] = "run",
    measure: Annotated[
        str | None, Parameter(name="MEASURE", help="undo: its rule and subject, as status shows it")
    ] = None,
    /,
    *,
    config: Config = None,
    as_json: Json = False,
    pool: Pool = None,
    last: Annotated[str | None, Parameter(metavar="SPAN", help="history looked at (default 14d, scores 30d)")] = None,
    write: Annotated[bool, Parameter(help="also do what rules in shadow would only record")] = False,
    every: Annotated[
        str | None,
        Parameter(metavar="SPAN", help="with run: go on, a pass in each span (e.g. 5m), until stopped"),
    ] = None,
) -> int:
    """Do it; exit code 1 if a measure is in force."""
    from prefect_intelligent.wiring.prevention import rule_settings

    span = last or ("30d" if action == "scores" else "14d")

    def once() -> int:
        settings, name = settings_and_pool(config, pool)
        terms = rule_settings(settings, write=write)
        since_s = time.time() - parse_span(span, what="--last")
        if action == "undo":
            return _undo(settings, name, measure, as_json=as_json)
        if action == "scores":
            return _scores(settings, name, since_s, as_json=as_json)
        return _pass(settings, name, since_s, terms if action == "run" else None, as_json=as_json)

    if every is None or action != "run":
        return once()
    pause_s = parse_span(every, what="--every")
    while True:
        try:
            once()
        except (OrchestratorUnavailableError, StoreError) as error:  # the next pass tries again
            print(f"{mask_secrets(str(error))}; trying again in {every}", file=sys.stderr, flush=True)
        time.sleep(pause_s)


def _pass(
    settings: Settings, pool: str, since_s: float, terms: Mapping[str, RuleSettings] | None, *, as_json: bool
) -> int:
    """One pass of all rules, if there are terms, and what is in force."""
    from prefect_intelligent.prevention.engine import prevent, read_measures
    from prefect_intelligent.prevention.measures import MeasurePhase
    from prefect_intelligent.wiring.history import open_history, open_runs
    from prefect_intelligent.wiring.pool_records import switch_position
    from prefect_intelligent.wiring.prevention import look, open_prevention_actions
    from prefect_intelligent.wiring.steering import open_controller

    steps, mended = [], []
    history = open_history(settings)
    if terms is not None and switch_position(settings, pool) == "off":
        print(f"Steering of work pool {pool} is switched off: no rule is evaluated.", file=sys.stderr)
    elif terms is not None:
        runs = open_runs(settings).run_frame(since_s=since_s, pool=pool)
        controller = open_controller(settings, pool, by="prevent")
        mended = list(controller.orchestrator.mend_claims())
        steps = prevent(
            look(settings, controller, runs),
            history,
            open_prevention_actions(settings),
            pool,
            settings=terms,
            emit=controller.orchestrator.emit,
        )
        if runs.empty and not as_json:
            print("Not enough data: the history has no run of this pool; run `prefect-intelligent sync` first.")
    standing = [s for s in read_measures(history, pool).values() if s.phase is not MeasurePhase.OVER]
    if as_json:
        print_json({"steps": steps, "mended": mended, "standing": [s.to_record() for s in standing]})
        return int(bool(standing))
    for line in mended:
        print(line)
    for step in steps:
        note = f" ({step['note']})" if step["note"] else ""
        print(f"{step['rule']}: {step['lever']}, {step['from']} -> {step['to']}: {step['why']}{note}")
    for held in standing:
        done = "" if held.written else ", only recorded"
        print(f"in force: {held.rule} {held.subject}: {held.measure.lever} ({held.phase}{done}): {held.why}")
    if not standing:
        print("No measure is in force.")
    return int(bool(standing))


def _undo(settings: Settings, pool: str, key: str | None, *, as_json: bool) -> int:
    """Undo one measure."""
    from prefect_intelligent.prevention.engine import undo_measure
    from prefect_intelligent.wiring.history import open_history
    from prefect_intelligent.wiring.prevention import open_prevention_actions

    if key is None:
        raise InvalidInputError("MEASURE", None, "name one, as `prefect-intelligent prevent status` shows it")
    done = undo_measure(open_history(settings), open_prevention_actions(settings), pool, key, time.time())
    if as_json:
        print_json({"undone": key, "count": done})
    else:
        print(f"{key}: undone, {done} as before")
    return 0


def _scores(settings: Settings, pool: str, since_s: float, *, as_json: bool) -> int:
    from prefect_intelligent.prevention.engine import KIND
    from prefect_intelligent.prevention.evidence import read_evidence
    from prefect_intelligent.prevention.scores import score_measures, summarise
    from prefect_intelligent.wiring.history import open_history, open_runs

    runs = open_runs(settings).run_frame(since_s=since_s, pool=pool)
    evidence = read_evidence(runs, time.time(), kept=len(runs))
    records = open_history(settings).records(KIND, pool, since_s)
    scores = score_measures(records, evidence, settings.prices_of(pool))
    summary = summarise(scores)
    if as_json:
        print_json({"rules": summary, "measures": [asdict(score) for score in scores]})
        return 0
    if not scores:
        print("Not enough data: no measure has begun in this span.")
        return 0
    counted = ("measures", "done", "right", "false", "open")
    print_table(
        [
            {
                "rule": name,
                **{key: f"{row[key] or 0.0:.0f}" for key in counted},
                "saved": f"{row['saved_usd'] or 0.0:.2f}",
                "wasted": f"{row['wasted_usd'] or 0.0:.2f}",
            }
            for name, row in summary.items()
        ]
    )
    if len(scores) > _MOST_SCORES:
        print(f"The last {_MOST_SCORES} of {len(scores)} measures; --json has all:")
    for score in scores[-_MOST_SCORES:]:
        usd = "" if score.saved_usd is None else f", {score.saved_usd:+.2f} USD"
        done = "" if score.written else " (only recorded)"
        print(f"{score.verdict:5} {score.rule} {score.subject}{done}: {score.why}{usd}")
    return 0
