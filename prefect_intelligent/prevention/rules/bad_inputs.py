"""Rule `bad-input`: hold the readers of a deployment whose output is bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "bad-input"
_LONGEST_S: Final = 36 * 3600.0
_EXPIRED: Final = "held for as long as is allowed"


def bad_input(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Hold the readers of a deployment whose last run failed or whose output failed its quality checks.

    A failed run alone is not sufficient, because many readers work with the data of the day before: one reader must
    have failed since. The readers are released when the upstream deployment has completed, or after 36 hours.
    """
    readers: dict[str, list[str]] = {}
    for name, sources in evidence.upstream.items():
        for source in sources:
            readers.setdefault(source, []).append(name)
    for source, names in sorted(readers.items()):
        current = measures.get(f"{NAME} deployment:{source}")
        last = evidence.last(source)
        unhealthy = source in evidence.unhealthy
        bad = unhealthy or (last is not None and last.failed)
        if current is not None and current.phase is MeasurePhase.ON:
            if not bad:
                yield current.with_phase(MeasurePhase.OVER, evidence.now_s, f"{source} is healthy again", wait_s=DAY_S)
            elif evidence.now_s >= current.phase_ends_s:
                yield current.with_phase(MeasurePhase.OVER, evidence.now_s, _EXPIRED, wait_s=DAY_S)
            continue
        if not bad:
            continue
        if current is not None and current.why == _EXPIRED and evidence.now_s < current.phase_ends_s:
            continue
        since = _bad_since(evidence, source)
        failed = tuple(
            sorted(
                {name for name in names for run in evidence.since(name, since) if run.failed and run.started_s >= since}
            )
        )
        if not unhealthy and not failed:
            continue
        reason = "its output failed its checks" if unhealthy else f"its last run failed, and then {', '.join(failed)}"
        yield MeasureInForce(
            rule=NAME,
            subject=f"deployment:{source}",
            measure=Measure(lever=Lever.HOLD, deployments=tuple(sorted(names))),
            since_s=evidence.now_s,
            bad_since_s=since,
            wait_s=_LONGEST_S,
            probability=0.95 if unhealthy else 0.8,
            why=f"input from {source}: {reason}",
        )


def _bad_since(evidence: Evidence, source: str) -> float:
    """Return the end of the first run in the upstream's latest unbroken series of failures, Unix seconds."""
    since = evidence.now_s
    for run in reversed(evidence.ended.get(source, ())):
        if not run.failed:
            break
        since = run.ended_s
    return since
