"""Rule `out-of-memory`: raise the memory of a deployment, up to four times the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.causes import ran_out_of_memory
from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "out-of-memory"
_MOST_STEPS: Final = 2
_LONGEST_S: Final = 30 * DAY_S


def out_of_memory(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Double the memory of a deployment when a run fails for lack of it, and once more if that is not enough.

    The measure ends when another version runs, which is assumed to fix the cause; at four times the original an alert
    is raised instead.
    """
    for name in evidence.ended:
        last = evidence.last(name)
        if last is None:
            continue
        current = measures.get(f"{NAME} deployment:{name}")
        active = current if current is not None and current.phase is not MeasurePhase.OVER else None
        if active is not None and last.version != active.measure.version:
            yield active.with_phase(MeasurePhase.OVER, evidence.now_s, f"version {last.version} runs now", wait_s=DAY_S)
            continue
        if not (last.failed and ran_out_of_memory(last.cause)):
            continue
        if active is None:
            if current is not None and last.started_s <= current.since_s:
                continue
            yield _resized(name, last.version, last.cause, 1, evidence.now_s, last.started_s)
        elif last.started_s > active.since_s and active.measure.lever is Lever.RESIZE:
            yield _resized(name, last.version, last.cause, active.count + 1, evidence.now_s, active.bad_since_s)


def _resized(
    name: str, version: str | None, cause: str | None, step: int, now_s: float, bad_since_s: float
) -> MeasureInForce:
    times = 2.0 ** min(step, _MOST_STEPS)
    lever = Lever.RESIZE if step <= _MOST_STEPS else Lever.ALERT
    more = f"{times:.0f} times the memory" if lever is Lever.RESIZE else f"{times:.0f} times the memory is not enough"
    return MeasureInForce(
        rule=NAME,
        subject=f"deployment:{name}",
        measure=Measure(
            lever=lever, deployments=(name,), amount=times, version=version, causes=(cause,) if cause else ()
        ),
        since_s=now_s,
        bad_since_s=bad_since_s,
        wait_s=_LONGEST_S,
        count=step,
        probability=0.9,
        why=f"{name} ran out of memory: {more}",
    )
