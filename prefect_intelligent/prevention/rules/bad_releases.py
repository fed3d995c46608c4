"""Rule `bad-release`: roll back a version that fails where its predecessors did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence, binomial_tail, smoothed_rate
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "bad-release"
_BEFORE: Final = 10
_SIGNIFICANCE: Final = 1e-3
_LONGEST_S: Final = 30 * DAY_S


def bad_release(evidence: Evidence, measures: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Roll back when the newest version fails significantly more often, with messages that are new.

    Ten runs of earlier versions are required. The measure ends when a run executes a version that was not known then.
    """
    for name, runs in evidence.ended.items():
        if not runs:
            continue
        last = runs[-1]
        current = measures.get(f"{NAME} deployment:{name}")
        if current is not None and current.phase is not MeasurePhase.OVER:
            known = {current.measure.version, *(run.version for run in runs if run.ended_s < current.since_s)}
            if last.version not in known:
                yield current.with_phase(
                    MeasurePhase.OVER, evidence.now_s, f"version {last.version} runs now", wait_s=_LONGEST_S
                )
            continue
        if not last.failed or last.version is None:
            continue
        if current is not None and current.measure.version == last.version:
            continue  # it was deployed again on purpose
        new = [run for run in runs if run.version == last.version]
        old = [run for run in runs if run.version != last.version and run.ended_s < new[0].ended_s]
        others = [s for s in measures.values() if s.rule != NAME]
        failed = [run for run in new if run.failed and not any(s.explains(run) for s in others)]
        if len(old) < _BEFORE or len(failed) < 2:
            continue
        seen = {run.cause for run in old if run.failed}
        fresh = [run for run in failed if run.cause not in seen]
        rate = smoothed_rate(sum(run.failed for run in old), len(old), prior=0.02)
        if (
            len(fresh) < 2
            or len({run.cause for run in fresh}) > 2
            or binomial_tail(len(fresh), len(new), rate) > _SIGNIFICANCE
        ):
            continue
        yield MeasureInForce(
            rule=NAME,
            subject=f"deployment:{name}",
            measure=Measure(lever=Lever.ROLL_BACK, deployments=(name,), version=last.version),
            since_s=evidence.now_s,
            bad_since_s=new[0].started_s,
            wait_s=_LONGEST_S,
            probability=len(fresh) / len(new),
            why=f"{name}: {len(fresh)} of {len(new)} runs of version {last.version} failed, {rate:.0%} before",
        )
