"""Rule `flaky-host`: avoid a host on which runs fail that complete elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.domain.spans import describe_span
from prefect_intelligent.prevention.evidence import EndedRun, Evidence, binomial_tail, smoothed_rate
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "flaky-host"
_WINDOWS_S: Final = (3 * 3600.0, 12 * 3600.0)
_LEAST_SHARE: Final = 0.3
_EVERYWHERE: Final = 0.2
_LONGEST_S: Final = DAY_S
_LEAST_TROUBLE: Final = 3
_SIGNIFICANCE: Final = 1e-4
_PROBES: Final = 3


def flaky_host(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Avoid a host with significantly more trouble than others: in 30 % of runs, of three deployments or more.

    Trouble is a failure or a second attempt. The host is compared with the same deployments on other hosts within three
    and within twelve hours. After six hours the host is used again; trouble in its first three runs doubles the wait.
    """
    avoided = {s.measure.host: s for s in measures.values() if s.rule == NAME and s.phase is not MeasurePhase.OVER}
    for host, old in avoided.items():
        if old.phase is MeasurePhase.ON and evidence.now_s >= old.phase_ends_s:
            yield old.with_phase(MeasurePhase.PROBING, evidence.now_s, f"host {host} is tried again")
        elif old.phase is MeasurePhase.PROBING:
            yield from _probed(old, evidence)
    suspects = {
        run.host
        for run in evidence.failures(evidence.now_s - _WINDOWS_S[-1])
        if run.host is not None and run.host not in avoided
    }
    others = tuple(s for s in measures.values() if s.rule != NAME)
    for host in sorted(suspects):
        earlier = measures.get(f"{NAME} host:{host}")
        for window_s in _WINDOWS_S:
            found = _suspect(
                evidence, host, max(evidence.now_s - window_s, earlier.since_s if earlier else 0.0), others
            )
            if found is not None:
                yield found
                break


def _suspect(
    evidence: Evidence, host: str, since_s: float, others: tuple[MeasureInForce, ...]
) -> MeasureInForce | None:
    here, there = _runs_on(evidence, host, since_s, others)
    trouble = [run for run in here if _had_trouble(run)]
    if len(trouble) < _LEAST_TROUBLE or len({run.deployment for run in trouble}) < _LEAST_TROUBLE:
        return None
    elsewhere = smoothed_rate(sum(map(_had_trouble, there)), len(there))
    share = len(trouble) / len(here)
    if share < max(_LEAST_SHARE, 3 * elsewhere) or binomial_tail(len(trouble), len(here), elsewhere) > _SIGNIFICANCE:
        return None
    return MeasureInForce(
        rule=NAME,
        subject=f"host:{host}",
        measure=Measure(lever=Lever.AVOID, deployments=tuple(sorted(evidence.ended)), host=host),
        since_s=evidence.now_s,
        bad_since_s=min(run.started_s for run in trouble),
        wait_s=6 * 3600.0,
        probability=share,
        why=f"host {host}: {len(trouble)} of {len(here)} runs had trouble, elsewhere {elsewhere:.0%}",
    )


def _probed(old: MeasureInForce, evidence: Evidence) -> Iterator[MeasureInForce]:
    since = [
        run
        for name in evidence.ended
        for run in evidence.since(name, old.since_s)
        if run.host == old.measure.host and run.started_s >= old.since_s
    ]
    if any(map(_had_trouble, since)):
        wait = min(2 * old.wait_s, _LONGEST_S)
        why = f"host {old.measure.host} still fails: avoided for {describe_span(wait)}"
        yield old.with_phase(MeasurePhase.ON, evidence.now_s, why, wait_s=wait, count=old.count + 1)
    elif len(since) >= _PROBES:
        yield old.with_phase(MeasurePhase.OVER, evidence.now_s, f"host {old.measure.host} works again", wait_s=DAY_S)


def _runs_on(
    evidence: Evidence, host: str, since_s: float, others: tuple[MeasureInForce, ...]
) -> tuple[list[EndedRun], list[EndedRun]]:
    """Return runs on the host, and runs of the same deployments elsewhere.

    Runs whose trouble another rule covers and deployments with trouble on all hosts are left out.
    """
    here: list[EndedRun] = []
    there: list[EndedRun] = []
    for name in evidence.ended:
        own = [r for r in evidence.since(name, since_s) if not (_had_trouble(r) and any(s.explains(r) for s in others))]
        on_host = [run for run in own if run.host == host]
        off_host = [run for run in own if run.host is not None and run.host != host]
        if on_host and sum(map(_had_trouble, off_host)) <= _EVERYWHERE * len(off_host):
            here += on_host
            there += off_host
    return here, there


def _had_trouble(run: EndedRun) -> bool:
    return run.failed or run.attempts > 1
