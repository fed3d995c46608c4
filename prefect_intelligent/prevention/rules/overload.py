"""Rule `overload`: limit the concurrent users of a shared resource that fails under load."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import EndedRun, Evidence, binomial_tail, smoothed_rate
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "overload"
_WINDOW_S: Final = 12 * 3600.0
_LEAST: Final = 3
_SIGNIFICANCE: Final = 1e-3
_LASTS_S: Final = 3 * DAY_S


def overload(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Limit the active runs of a group of deployments that fail when many are active and not when few are.

    A group is the deployments with the same failure message within twelve hours (three failures, two deployments), and
    those that declare a resource which all of these declare. A second attempt counts as a failure. The limit is lifted
    after three days, to test whether it is still needed.
    """
    for entry in measures.values():
        if entry.rule == NAME and entry.phase is MeasurePhase.ON and evidence.now_s >= entry.phase_ends_s:
            yield entry.with_phase(
                MeasurePhase.OVER, evidence.now_s, "lifted, to see whether it is still needed", wait_s=DAY_S
            )
    by_cause: dict[str, list[EndedRun]] = {}
    active = [s for s in measures.values() if s.phase is not MeasurePhase.OVER]
    for run in evidence.failures(evidence.now_s - _WINDOW_S):
        if run.cause is not None and not any(s.explains(run) for s in active):
            by_cause.setdefault(run.cause, []).append(run)
    for cause, failed in sorted(by_cause.items()):
        names = {run.deployment for run in failed}
        if len(failed) < _LEAST or len(names) < 2 or _on_one_host(evidence, failed):
            continue
        shared = set.intersection(*(set(evidence.resources.get(name, ())) for name in names))
        members = tuple(sorted(names | {name for name, uses in evidence.resources.items() if shared & set(uses)}))
        subject = f"resource:{'+'.join(sorted(shared))}" if shared else f"cause:{cause}"
        current = measures.get(f"{NAME} {subject}")
        if current is not None and current.phase is not MeasurePhase.OVER:
            continue
        since = min(run.started_s for run in failed)
        found = _concurrency_limit(evidence, members, cause, since)
        if found is None:
            continue
        most, share_above, share_below = found
        yield MeasureInForce(
            rule=NAME,
            subject=subject,
            measure=Measure(lever=Lever.SHARE, deployments=members, amount=float(most), causes=(cause,)),
            since_s=evidence.now_s,
            bad_since_s=since,
            wait_s=_LASTS_S,
            probability=share_above,
            why=f"{cause}: {share_above:.0%} fail with more than {most} at once, {share_below:.0%} with fewer",
        )


def _on_one_host(evidence: Evidence, failed: list[EndedRun]) -> bool:
    """Return whether most failures come from one of several hosts, which explains them better than load."""
    since = min(run.started_s for run in failed) - _WINDOW_S
    used = {run.host for name in {run.deployment for run in failed} for run in evidence.since(name, since)}
    hosts = Counter(run.host for run in failed if run.host is not None)
    return len(used) > 1 and max(hosts.values(), default=0) > 0.6 * len(failed)


def _concurrency_limit(
    evidence: Evidence, members: tuple[str, ...], cause: str, since_s: float
) -> tuple[int, float, float] | None:
    """Return (limit, failure rate above, failure rate up to it); None if failures do not depend on concurrency."""
    runs = sorted((run for name in members for run in evidence.since(name, since_s)), key=lambda run: run.started_s)
    ends = sorted(run.ended_s for run in runs)
    levels = []
    for place, run in enumerate(runs):
        at_once = place + 1 - bisect_right(ends, run.started_s)
        levels.append((at_once, run.cause == cause if run.failed else run.attempts > 1))
    best: tuple[float, int, float, float] | None = None
    for most in range(1, max((level for level, _ in levels), default=1)):
        low = [failed for level, failed in levels if level <= most]
        high = [failed for level, failed in levels if level > most]
        below = smoothed_rate(sum(low), len(low))
        if len(low) < 4 or not any(high) or sum(high) / len(high) < 2.5 * below:
            continue
        chance = binomial_tail(sum(high), len(high), below)
        if chance < _SIGNIFICANCE and (best is None or chance < best[0]):
            best = (chance, most, sum(high) / len(high), sum(low) / len(low))
    return None if best is None else best[1:]
