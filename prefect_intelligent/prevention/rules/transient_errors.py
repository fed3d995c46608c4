"""Rules `passing-trouble` and `bad-hour`: more retries for transient errors, and another hour for runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from prefect_intelligent.prevention.causes import is_transient
from prefect_intelligent.prevention.evidence import EndedRun, Evidence, LiveRun, binomial_tail, smoothed_rate
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

PATIENCE: Final = "passing-trouble"
HOUR: Final = "bad-hour"
_HOUR_S: Final = 3600.0
_WINDOW_S: Final = 3 * DAY_S
_HOURS_WINDOW_S: Final = 14 * DAY_S
_MORE_RETRIES: Final = 2
_SIGNIFICANCE: Final = 1e-3


def passing_trouble(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Add two retries, with longer pauses, for a deployment with three transient errors in three days.

    Only if no two consecutive runs failed. The measure ends after three days.
    """
    for entry in measures.values():
        if entry.rule == PATIENCE and entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            yield entry.with_phase(MeasurePhase.OVER, evidence.now_s, "the time is up", wait_s=_HOUR_S)
    others = [s for s in measures.values() if s.rule != PATIENCE and s.phase is not MeasurePhase.OVER]
    for name, runs in evidence.ended.items():
        current = measures.get(f"{PATIENCE} deployment:{name}")
        if current is not None and current.phase is not MeasurePhase.OVER:
            continue
        recent = evidence.since(name, evidence.now_s - _WINDOW_S)
        failed = [
            run for run in recent if run.failed and is_transient(run.cause) and not any(s.explains(run) for s in others)
        ]
        if len(failed) < 3 or runs[-1].failed or any(a.failed and b.failed for a, b in pairwise(recent)):
            continue
        yield MeasureInForce(
            rule=PATIENCE,
            subject=f"deployment:{name}",
            measure=Measure(
                lever=Lever.PATIENCE,
                deployments=(name,),
                amount=float(_MORE_RETRIES),
                causes=tuple(sorted({run.cause for run in failed if run.cause})),
            ),
            since_s=evidence.now_s,
            bad_since_s=failed[0].started_s,
            wait_s=_WINDOW_S,
            probability=len(failed) / len(recent),
            why=f"{name}: {len(failed)} of {len(recent)} runs failed by what passes, e.g. {failed[-1].cause}",
        )


def bad_hour(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Postpone waiting runs to the end of an hour of the day in which their deployment keeps failing.

    Runs must have failed in that hour on three of the last fourteen days, significantly more often than in other hours.
    A run that would miss its deadline is not postponed.
    """
    for entry in measures.values():
        if entry.rule == HOUR and entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            yield entry.with_phase(MeasurePhase.OVER, evidence.now_s, "the hour is over", wait_s=_HOUR_S)
    hour = int(evidence.now_s // _HOUR_S) % 24
    until = (evidence.now_s // _HOUR_S + 1) * _HOUR_S
    waiting: dict[str, list[LiveRun]] = {}
    for run in evidence.live:
        if run.started_s is None and run.scheduled_s < until and (run.due_s is None or run.due_s > until + _HOUR_S):
            waiting.setdefault(run.deployment, []).append(run)
    for name, runs in sorted(waiting.items()):
        subject = f"deployment:{name} hour:{hour}"
        current = measures.get(f"{HOUR} {subject}")
        if current is not None and evidence.now_s < current.phase_ends_s:
            continue
        past = evidence.since(name, evidence.now_s - _HOURS_WINDOW_S)
        inside = [run for run in past if int(run.started_s // _HOUR_S) % 24 == hour]
        outside = [run for run in past if int(run.started_s // _HOUR_S) % 24 != hour]
        failed = [run for run in inside if run.failed]
        if len(_days(failed)) < 3 or len(outside) < 10:
            continue
        rate = smoothed_rate(sum(run.failed for run in outside), len(outside))
        if (
            len(failed) / len(inside) < max(0.5, 3 * rate)
            or binomial_tail(len(failed), len(inside), rate) > _SIGNIFICANCE
        ):
            continue
        yield MeasureInForce(
            rule=HOUR,
            subject=subject,
            measure=Measure(
                lever=Lever.POSTPONE,
                deployments=(name,),
                amount=until - evidence.now_s,
                runs=tuple(run.run_id for run in runs),
            ),
            since_s=evidence.now_s,
            bad_since_s=evidence.now_s,
            wait_s=until - evidence.now_s,
            probability=len(failed) / len(inside),
            why=f"{name}: {len(failed)} of {len(inside)} runs between {hour}:00 and {hour + 1}:00 UTC failed, "
            f"{rate:.0%} at other times",
        )


def _days(runs: list[EndedRun]) -> set[int]:
    return {int(run.started_s // DAY_S) for run in runs}
