"""A circuit breaker per deployment: after failures in a row it is held, then probed, then let go or held again.

While it probes, one run at a time may start (half-open). Waiting doubles with every failed probe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "keeps-failing"
OPEN_AFTER: Final = 3
FIRST_WAIT_S: Final = 1800.0
LONGEST_WAIT_S: Final = 3 * 3600.0
LONGEST_WAIT_OF_SOURCE_S: Final = 3600.0
"""Of a deployment that others read from: they wait with it."""


def keeps_failing(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Hold a deployment whose last three runs failed by nothing that another rule takes care of."""
    for held in standing.values():
        if held.rule != NAME:
            continue
        name = held.measure.deployments[0]
        if held.phase is MeasurePhase.ON and watch.now_s >= held.waited_s:
            why = f"held for {held.wait_s / 60:.0f} min: one run may start, to see whether it works"
            yield held.turned(MeasurePhase.PROBING, watch.now_s, why)
        elif held.phase is MeasurePhase.PROBING:
            tried = [run for run in watch.since(name, held.since_s) if run.started_s >= held.since_s]
            if not tried:
                continue
            if tried[-1].failed:
                read = any(name in sources for sources in watch.upstream.values())
                wait = min(2.0 * held.wait_s, LONGEST_WAIT_OF_SOURCE_S if read else LONGEST_WAIT_S)
                why = f"the probe failed: held for {wait / 60:.0f} min"
                yield held.turned(MeasurePhase.ON, watch.now_s, why, wait_s=wait, count=held.count + 1)
            else:
                yield held.turned(MeasurePhase.OVER, watch.now_s, "the probe completed: it works again", wait_s=DAY_S)
    others = [s for s in standing.values() if s.rule != NAME and s.phase is not MeasurePhase.OVER]
    for name, runs in watch.ended.items():
        if len(runs) < OPEN_AFTER or not runs[-1].failed:
            continue
        held_now = standing.get(f"{NAME} deployment:{name}")
        if held_now is not None and held_now.phase is not MeasurePhase.OVER:
            continue
        since = 0.0 if held_now is None else held_now.since_s
        last = [run for run in runs[-OPEN_AFTER:] if run.ended_s > since]
        if len(last) < OPEN_AFTER or not all(run.failed and not any(s.explains(run) for s in others) for run in last):
            continue
        yield MeasureInForce(
            rule=NAME,
            subject=f"deployment:{name}",
            measure=Measure(lever=Lever.HOLD, deployments=(name,)),
            since_s=watch.now_s,
            bad_since_s=last[0].started_s,
            wait_s=FIRST_WAIT_S,
            probability=0.9,
            why=f"{name}: the last {OPEN_AFTER} runs failed, {last[-1].cause or 'without a message'}",
        )
