"""Rule `keeps-failing`: a circuit breaker per deployment.

After consecutive failures the deployment is held (open), then one run at a time may start as a probe (half-open), then
it is released or held again. The hold doubles with every failed probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "keeps-failing"
OPEN_AFTER: Final = 3
FIRST_WAIT_S: Final = 1800.0
LONGEST_WAIT_S: Final = 3 * 3600.0
LONGEST_WAIT_OF_SOURCE_S: Final = 3600.0
"""For a deployment that others read from, because they wait with it."""


def keeps_failing(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Hold a deployment whose last three runs failed with no failure that another rule covers."""
    for entry in measures.values():
        if entry.rule != NAME:
            continue
        name = entry.measure.deployments[0]
        if entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            why = f"held for {describe_span(entry.wait_s)}: one run may start, to see whether it works"
            yield entry.with_phase(MeasurePhase.PROBING, evidence.now_s, why)
        elif entry.phase is MeasurePhase.PROBING:
            tried = [run for run in evidence.since(name, entry.since_s) if run.started_s >= entry.since_s]
            if not tried:
                continue
            if tried[-1].failed:
                read = any(name in sources for sources in evidence.upstream.values())
                wait = min(2.0 * entry.wait_s, LONGEST_WAIT_OF_SOURCE_S if read else LONGEST_WAIT_S)
                why = f"the probe failed: held for {describe_span(wait)}"
                yield entry.with_phase(MeasurePhase.ON, evidence.now_s, why, wait_s=wait, count=entry.count + 1)
            else:
                yield entry.with_phase(
                    MeasurePhase.OVER, evidence.now_s, "the probe completed: it works again", wait_s=DAY_S
                )
    others = [s for s in measures.values() if s.rule != NAME and s.phase is not MeasurePhase.OVER]
    for name, runs in evidence.ended.items():
        if len(runs) < OPEN_AFTER or not runs[-1].failed:
            continue
        current = measures.get(f"{NAME} deployment:{name}")
        if current is not None and current.phase is not MeasurePhase.OVER:
            continue
        since = 0.0 if current is None else current.since_s
        last = [run for run in runs[-OPEN_AFTER:] if run.ended_s > since]
        if len(last) < OPEN_AFTER or not all(run.failed and not any(s.explains(run) for s in others) for run in last):
            continue
        yield MeasureInForce(
            rule=NAME,
            subject=f"deployment:{name}",
            measure=Measure(lever=Lever.HOLD, deployments=(name,)),
            since_s=evidence.now_s,
            bad_since_s=last[0].started_s,
            wait_s=FIRST_WAIT_S,
            probability=0.9,
            why=f"{name}: the last {OPEN_AFTER} runs failed, {last[-1].cause or 'without a message'}",
        )
