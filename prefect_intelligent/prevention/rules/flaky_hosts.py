"""A host on which runs fail that complete elsewhere is avoided, and tried again later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import EndedRun, Evidence, binomial_tail, smoothed_rate
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "flaky-host"
_WINDOWS_S: Final = (3 * 3600.0, 12 * 3600.0)
_LEAST_SHARE: Final = 0.3
_EVERYWHERE: Final = 0.2
_LONGEST_S: Final = DAY_S
_LEAST_TROUBLE: Final = 3
_SURE: Final = 1e-4
_TRIED: Final = 3


def flaky_host(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Avoid a host where three runs in ten, of three deployments or more, had trouble that chance does not explain.

    Trouble is a failure or a second attempt; it is compared with the same deployments on other hosts within three and
    within twelve hours. After six hours the host is tried again; trouble among its first three runs doubles the wait.
    """
    held = {s.measure.host: s for s in standing.values() if s.rule == NAME and s.phase is not MeasurePhase.OVER}
    for host, old in held.items():
        if old.phase is MeasurePhase.ON and watch.now_s >= old.waited_s:
            yield old.turned(MeasurePhase.PROBING, watch.now_s, f"host {host} is tried again")
        elif old.phase is MeasurePhase.PROBING:
            yield from _tried(old, watch)
    suspects = {
        run.host
        for run in watch.failures(watch.now_s - _WINDOWS_S[-1])
        if run.host is not None and run.host not in held
    }
    others = tuple(s for s in standing.values() if s.rule != NAME)
    for host in sorted(suspects):
        past = standing.get(f"{NAME} host:{host}")
        for window_s in _WINDOWS_S:
            found = _suspect(watch, host, max(watch.now_s - window_s, past.since_s if past else 0.0), others)
            if found is not None:
                yield found
                break


def _suspect(watch: Evidence, host: str, since_s: float, others: tuple[MeasureInForce, ...]) -> MeasureInForce | None:
    here, there = _runs_on(watch, host, since_s, others)
    trouble = [run for run in here if _troubled(run)]
    if len(trouble) < _LEAST_TROUBLE or len({run.deployment for run in trouble}) < _LEAST_TROUBLE:
        return None
    elsewhere = smoothed_rate(sum(map(_troubled, there)), len(there))
    share = len(trouble) / len(here)
    if share < max(_LEAST_SHARE, 3 * elsewhere) or binomial_tail(len(trouble), len(here), elsewhere) > _SURE:
        return None
    return MeasureInForce(
        rule=NAME,
        subject=f"host:{host}",
        measure=Measure(lever=Lever.AVOID, deployments=tuple(sorted(watch.ended)), host=host),
        since_s=watch.now_s,
        bad_since_s=min(run.started_s for run in trouble),
        wait_s=6 * 3600.0,
        probability=share,
        why=f"host {host}: {len(trouble)} of {len(here)} runs had trouble, elsewhere {elsewhere:.0%}",
    )


def _tried(old: MeasureInForce, watch: Evidence) -> Iterator[MeasureInForce]:
    since = [
        run
        for name in watch.ended
        for run in watch.since(name, old.since_s)
        if run.host == old.measure.host and run.started_s >= old.since_s
    ]
    if any(map(_troubled, since)):
        wait = min(2 * old.wait_s, _LONGEST_S)
        why = f"host {old.measure.host} still fails: avoided for {wait / 3600:.0f} h"
        yield old.turned(MeasurePhase.ON, watch.now_s, why, wait_s=wait, count=old.count + 1)
    elif len(since) >= _TRIED:
        yield old.turned(MeasurePhase.OVER, watch.now_s, f"host {old.measure.host} works again", wait_s=DAY_S)


def _runs_on(
    watch: Evidence, host: str, since_s: float, others: tuple[MeasureInForce, ...]
) -> tuple[list[EndedRun], list[EndedRun]]:
    """Runs on the host and runs of the same deployments elsewhere.

    Left out are runs whose trouble another rule explains, and deployments that have trouble everywhere.
    """
    here: list[EndedRun] = []
    there: list[EndedRun] = []
    for name in watch.ended:
        own = [r for r in watch.since(name, since_s) if not (_troubled(r) and any(s.explains(r) for s in others))]
        on_host = [run for run in own if run.host == host]
        off_host = [run for run in own if run.host is not None and run.host != host]
        if on_host and sum(map(_troubled, off_host)) <= _EVERYWHERE * len(off_host):
            here += on_host
            there += off_host
    return here, there


def _troubled(run: EndedRun) -> bool:
    return run.failed or run.attempts > 1
