"""Rule `stale-runs`: cancel runs that have waited until they are worth nothing, where their owner asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prefect_intelligent.domain import Terms
from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.domain.stale import StaleRuns
from prefect_intelligent.prevention.evidence import Evidence, WaitingRun
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "stale-runs"
_MOST: Final = 1000
"""Runs that one measure remembers, for its undoing."""


def stale_runs(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Cancel what a deployment's terms say: `stale` ("latest only", "cancel after SPAN") and `most_waiting`.

    Nothing is cancelled of a deployment whose terms say nothing, no run that has begun before, and none that another
    run waits for. What a person has brought back is left alone for a day.
    """
    waiting: dict[str, list[WaitingRun]] = {}
    for run in evidence.waiting:
        waiting.setdefault(run.deployment, []).append(run)
    for name, runs in sorted(waiting.items()):
        terms = evidence.terms.get(name)
        if terms is None:
            continue
        subject = f"deployment:{name}"
        old = measures.get(f"{NAME} {subject}")
        dealt_with = old is not None and (old.written or old.phase is MeasurePhase.OVER)
        known = set(old.measure.runs) if old is not None and dealt_with else set()
        found = [run for run in stale(runs, terms, evidence.now_s) if run.run_id not in known]
        if not found:
            continue
        standing = old if old is not None and old.phase is MeasurePhase.ON else None
        kept = () if standing is None else standing.measure.runs
        oldest = min(run.scheduled_s for run in found)
        yield MeasureInForce(
            rule=NAME,
            subject=subject,
            measure=Measure(
                lever=Lever.CANCEL,
                deployments=(name,),
                runs=tuple(dict.fromkeys((*kept, *(run.run_id for run in found))))[-_MOST:],
            ),
            since_s=evidence.now_s,
            bad_since_s=evidence.now_s if standing is None else standing.bad_since_s,
            wait_s=DAY_S,
            probability=0.0,
            why=f"{name}: {len(found)} of {len(runs)} waiting runs are stale by its terms ({_said(terms)}), the oldest "
            f"for {describe_span(evidence.now_s - oldest)}",
        )
    for entry in measures.values():
        if entry.rule == NAME and entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            yield entry.with_phase(MeasurePhase.OVER, evidence.now_s, "a day has passed", wait_s=0.0)


def stale(runs: Sequence[WaitingRun], terms: Terms, now_s: float) -> list[WaitingRun]:
    """Which of the due runs of a deployment its owner wants cancelled, oldest first."""
    rule = StaleRuns.parse(terms.stale)
    mine = sorted(
        (run for run in runs if not run.begun and not run.awaited), key=lambda run: (run.scheduled_s, run.run_id)
    )
    latest = {run.parameters: run.run_id for run in mine}
    found = {
        run.run_id
        for run in mine
        if (rule.latest_only and latest[run.parameters] != run.run_id)
        or (rule.after_s is not None and now_s - run.scheduled_s > rule.after_s)
    }
    left = [run for run in mine if run.run_id not in found]
    if terms.most_waiting is not None:
        found |= {run.run_id for run in left[: max(0, len(left) - terms.most_waiting)]}
    return [run for run in mine if run.run_id in found]


def _said(terms: Terms) -> str:
    words = [] if terms.stale == "keep" else [terms.stale]
    return ", ".join([*words, *([] if terms.most_waiting is None else [f"at most {terms.most_waiting} waiting"])])
