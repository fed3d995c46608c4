"""Runs that run out of memory get more of it, up to four times what they had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence, ran_out_of_memory
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "out-of-memory"
_MOST_STEPS: Final = 2
_LONGEST_S: Final = 30 * DAY_S


def out_of_memory(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Double the memory of a deployment when a run dies of too little, again if that was not enough.

    It stays until another version comes, which is taken to mend it; at four times the original a person is asked.
    """
    for name in watch.ended:
        last = watch.last(name)
        if last is None:
            continue
        held = standing.get(f"{NAME} deployment:{name}")
        active = held if held is not None and held.phase is not MeasurePhase.OVER else None
        if active is not None and last.version != active.measure.version:
            yield active.turned(MeasurePhase.OVER, watch.now_s, f"version {last.version} runs now", wait_s=DAY_S)
            continue
        if not (last.failed and ran_out_of_memory(last.cause)):
            continue
        if active is None:
            if held is not None and last.started_s <= held.since_s:
                continue
            yield _sized(name, last.version, last.cause, 1, watch.now_s, last.started_s)
        elif last.started_s > active.since_s and active.measure.lever is Lever.RESIZE:
            yield _sized(name, last.version, last.cause, active.count + 1, watch.now_s, active.bad_since_s)


def _sized(
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
