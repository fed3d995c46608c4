"""Rule `hung-run`: stop runs that take far too long or send no heartbeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "hung-run"
_PROOF_S: Final = 3600.0
"""How long the end of a stopped run's process is waited for."""
_SHORTEST_S: Final = 300.0
_BEYOND: Final = 2.0
"""Multiple of the 99.9 % quantile: the quantile alone would stop one healthy run in a thousand."""


def hung_run(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Stop runs beyond twice the 99.9 % quantile of their deployment's durations, or with missing heartbeats.

    For a deployment with fewer than twenty ended runs only heartbeats are checked: more than three must be missing, at
    the pace at which the run sent them. The measure lasts until the run's process is known to have ended, at most an
    hour.
    """
    for run in evidence.live:
        if run.started_s is None:
            continue
        key = f"{NAME} run:{run.run_id}"
        if key in measures:
            continue
        elapsed = evidence.now_s - run.started_s
        beats = None if run.heartbeats is None else run.heartbeats.not_before(run.started_s)
        why = None
        if beats is not None and beats.every_s is not None and beats.silent(evidence.now_s):
            pace = f"its heartbeats came every {describe_span(beats.every_s)}"
            why = f"no sign of life for {describe_span(evidence.now_s - beats.last_s)}, {pace}"
        elif elapsed > _SHORTEST_S:
            longest = evidence.longest_s(run.deployment)
            if longest is not None and elapsed > _BEYOND * longest:
                usual = f"99.9 % of the deployment's runs end within {describe_span(longest)}"
                why = f"runs for {describe_span(elapsed)}, {usual}"
        if why is not None:
            yield MeasureInForce(
                rule=NAME,
                subject=f"run:{run.run_id}",
                measure=Measure(
                    lever=Lever.STOP, deployments=(run.deployment,), runs=(run.run_id,), amount=run.started_s
                ),
                since_s=evidence.now_s,
                bad_since_s=evidence.now_s,
                wait_s=_PROOF_S,
                probability=0.99,
                why=f"{run.deployment}: {why}",
            )
    for entry in measures.values():
        if entry.rule == NAME and entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            yield entry.with_phase(
                MeasurePhase.OVER,
                evidence.now_s,
                "it was told to stop; whether its process has ended is not known",
                wait_s=DAY_S,
            )
