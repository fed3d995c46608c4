"""Runs whose input is known to be bad wait until it is healthy again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "bad-input"
_LONGEST_S: Final = 36 * 3600.0


def bad_input(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Hold what reads from a deployment whose last run failed, or whose output failed its quality checks.

    A failed run alone is not enough (many readers do well with yesterday's data): one reader must have failed since.
    They are let go when the upstream has completed, or after a day and a half.
    """
    readers: dict[str, list[str]] = {}
    for name, sources in watch.upstream.items():
        for source in sources:
            readers.setdefault(source, []).append(name)
    for source, names in sorted(readers.items()):
        held = standing.get(f"{NAME} deployment:{source}")
        last = watch.last(source)
        unhealthy = source in watch.unhealthy
        bad = unhealthy or (last is not None and last.failed)
        if held is not None and held.phase is MeasurePhase.ON:
            if not bad:
                yield held.turned(MeasurePhase.OVER, watch.now_s, f"{source} is healthy again", wait_s=DAY_S)
            elif watch.now_s >= held.waited_s:
                yield held.turned(MeasurePhase.OVER, watch.now_s, "held for as long as is allowed", wait_s=DAY_S)
            continue
        if not bad:
            continue
        if held is not None and held.why == "held for as long as is allowed" and watch.now_s < held.waited_s:
            continue
        since = _bad_since(watch, source)
        failed = tuple(
            sorted(
                {name for name in names for run in watch.since(name, since) if run.failed and run.started_s >= since}
            )
        )
        if not unhealthy and not failed:
            continue
        reason = "its output failed its checks" if unhealthy else f"its last run failed, and then {', '.join(failed)}"
        yield MeasureInForce(
            rule=NAME,
            subject=f"deployment:{source}",
            measure=Measure(lever=Lever.HOLD, deployments=tuple(sorted(names))),
            since_s=watch.now_s,
            bad_since_s=since,
            wait_s=_LONGEST_S,
            probability=0.95 if unhealthy else 0.8,
            why=f"input from {source}: {reason}",
        )


def _bad_since(watch: Evidence, source: str) -> float:
    """The end of the first of the failures in a row that the upstream's past ends with."""
    since = watch.now_s
    for run in reversed(watch.ended.get(source, ())):
        if not run.failed:
            break
        since = run.ended_s
    return since
