"""A shared resource that fails under load gets fewer users at once."""

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
_SURE: Final = 1e-3
_LASTS_S: Final = 3 * DAY_S


def overload(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Limit how many runs of a group of deployments are at work at once, if they fail when many are and not when few.

    A group is what failed by the same cause within twelve hours (three failures, two deployments), and what declares a
    resource that all of these declare. A run that needed a second attempt is trouble too. After three days the limit
    is lifted, to see whether it is still needed.
    """
    for held in standing.values():
        if held.rule == NAME and held.phase is MeasurePhase.ON and watch.now_s >= held.waited_s:
            yield held.turned(MeasurePhase.OVER, watch.now_s, "lifted, to see whether it is still needed", wait_s=DAY_S)
    by_cause: dict[str, list[EndedRun]] = {}
    active = [s for s in standing.values() if s.phase is not MeasurePhase.OVER]
    for run in watch.failures(watch.now_s - _WINDOW_S):
        if run.cause is not None and not any(s.explains(run) for s in active):
            by_cause.setdefault(run.cause, []).append(run)
    for cause, failed in sorted(by_cause.items()):
        names = {run.deployment for run in failed}
        if len(failed) < _LEAST or len(names) < 2 or _on_one_host(watch, failed):
            continue
        shared = set.intersection(*(set(watch.resources.get(name, ())) for name in names))
        members = tuple(sorted(names | {name for name, uses in watch.resources.items() if shared & set(uses)}))
        subject = f"resource:{'+'.join(sorted(shared))}" if shared else f"cause:{cause}"
        held_now = standing.get(f"{NAME} {subject}")
        if held_now is not None and held_now.phase is not MeasurePhase.OVER:
            continue
        since = min(run.started_s for run in failed)
        found = _knee(watch, members, cause, since)
        if found is None:
            continue
        most, share_above, share_below = found
        yield MeasureInForce(
            rule=NAME,
            subject=subject,
            measure=Measure(lever=Lever.SHARE, deployments=members, amount=float(most), causes=(cause,)),
            since_s=watch.now_s,
            bad_since_s=since,
            wait_s=_LASTS_S,
            probability=share_above,
            why=f"{cause}: {share_above:.0%} fail with more than {most} at once, {share_below:.0%} with fewer",
        )


def _on_one_host(watch: Evidence, failed: list[EndedRun]) -> bool:
    """Whether most failures come from one of several hosts, which explains them better than load does."""
    since = min(run.started_s for run in failed) - _WINDOW_S
    used = {run.host for name in {run.deployment for run in failed} for run in watch.since(name, since)}
    hosts = Counter(run.host for run in failed if run.host is not None)
    return len(used) > 1 and max(hosts.values(), default=0) > 0.6 * len(failed)


def _knee(watch: Evidence, members: tuple[str, ...], cause: str, since_s: float) -> tuple[int, float, float] | None:
    """(most at once, share of failures above, share below), or None if failures do not depend on it."""
    runs = sorted((run for name in members for run in watch.since(name, since_s)), key=lambda run: run.started_s)
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
        if chance < _SURE and (best is None or chance < best[0]):
            best = (chance, most, sum(high) / len(high), sum(low) / len(low))
    return None if best is None else best[1:]
