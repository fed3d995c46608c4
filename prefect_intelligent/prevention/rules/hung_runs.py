"""Runs that hang: far beyond what their deployment ever needs, or without a sign of life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import DAY_S, Lever, Measure, MeasureInForce, MeasurePhase

NAME: Final = "hung-run"
SILENT_S: Final = 300.0
"""Ten heartbeats of a Prefect worker."""
_SHORTEST_S: Final = 300.0
_BEYOND: Final = 2.0
"""One in a thousand is too many to stop: what is stopped has run twice as long."""


def hung_run(watch: Evidence, standing: Mapping[str, MeasureInForce]) -> Iterator[MeasureInForce]:
    """Stop what runs far beyond the 99.9 % quantile of its deployment's past, or was not heard of for five minutes.

    A deployment with fewer than twenty runs behind it has no such quantile; only its heartbeat counts then.
    """
    for run in watch.live:
        if run.started_s is None:
            continue
        key = f"{NAME} run:{run.run_id}"
        if key in standing:
            continue
        elapsed = watch.now_s - run.started_s
        silent = None if run.heartbeat_s is None else watch.now_s - max(run.heartbeat_s, run.started_s)
        why = None
        if silent is not None and silent > SILENT_S:
            why = f"no sign of life for {silent / 60:.0f} min"
        elif elapsed > _SHORTEST_S:
            longest = watch.longest_s(run.deployment)
            if longest is not None and elapsed > _BEYOND * longest:
                why = f"runs for {elapsed / 60:.0f} min, 99.9 % of the deployment's runs end within {longest / 60:.0f}"
        if why is not None:
            yield MeasureInForce(
                rule=NAME,
                subject=f"run:{run.run_id}",
                measure=Measure(
                    lever=Lever.STOP, deployments=(run.deployment,), runs=(run.run_id,), amount=run.started_s
                ),
                since_s=watch.now_s,
                bad_since_s=watch.now_s,
                wait_s=60.0,
                probability=0.99,
                why=f"{run.deployment}: {why}",
            )
    for held in standing.values():
        if held.rule == NAME and held.phase is MeasurePhase.ON and watch.now_s >= held.waited_s:
            yield held.turned(MeasurePhase.OVER, watch.now_s, "it was stopped", wait_s=DAY_S)
