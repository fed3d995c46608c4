"""Runs that will come behind the live ones: of deployments without a schedule that read what those write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prefect_intelligent.domain import Deployment, RelativeDeadline, Run, RunPhase
from prefect_intelligent.domain.followers import Follower
from prefect_intelligent.steering.adapters.deployment_catalog import DeploymentInfo


def expected_followers(infos: Iterable[DeploymentInfo], runs: Sequence[Run]) -> tuple[Follower, ...]:
    """One follower for each deployment whose inputs are being made, directly or through others.

    A deployment that has a schedule of its own does not wait for its inputs, so nothing is expected of it. Where
    several runs of one deployment are live, those that wait or hold a slot come first and are waited for together;
    without any it is the next one.

    Args:
        infos: The deployments of the pool.
        runs: Its live runs.
    """
    known = {info.deployment.name: info for info in infos if info.deployment.queue}
    writers: dict[str, set[str]] = {}
    for name, info in known.items():
        for dataset in info.deployment.terms.outputs:
            writers.setdefault(dataset, set()).add(name)
    upstreams = {
        name: {one for dataset in info.deployment.terms.inputs for one in writers.get(dataset, ())} - {name}
        for name, info in known.items()
        if info.follows
    }
    live = _first_in_line(runs)
    wanted = _reached(upstreams, set(live))
    made: dict[str, Follower] = {}
    left = set(wanted)
    while ready := sorted(name for name in left if left.isdisjoint(upstreams[name])):  # a cycle is never ready
        for name in ready:
            before = [run for one in sorted(upstreams[name]) for run in live.get(one, ())]
            lines = [made[one] for one in sorted(upstreams[name]) if one in made]
            made[name] = _follower(known[name], before, lines)
        left.difference_update(ready)
    return tuple(made.values())


def _first_in_line(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """By deployment, the runs that wait or hold a slot; if there are none, the next one."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.phase is RunPhase.UPCOMING, run.scheduled_s, run.id)):
        if run.phase is not RunPhase.UPCOMING or run.deployment not in found:
            found.setdefault(run.deployment, []).append(run)
    return found


def _reached(upstreams: Mapping[str, set[str]], live: set[str]) -> set[str]:
    """The deployments that something live leads to."""
    reached: set[str] = set()
    while more := {name for name, before in upstreams.items() if before & (live | reached)} - reached:
        reached |= more
    return reached


def _follower(info: DeploymentInfo, before: Sequence[Run], lines: Sequence[Follower]) -> Follower:
    deployment: Deployment = info.deployment
    terms, deadline = deployment.terms, deployment.terms.deadline
    scheduled_s = min(run.scheduled_s for run in (*before, *(line.run for line in lines)))
    absolute = deadline is not None and not isinstance(deadline, RelativeDeadline)  # a span counts from its own start
    return Follower(
        run=Run(
            id=f"follower {deployment.name}",
            deployment=deployment.name,
            queue=deployment.queue,
            phase=RunPhase.UPCOMING,
            scheduled_s=scheduled_s,
            estimate=info.estimate,
            due_s=deadline.due_s(scheduled_s) if deadline is not None and absolute else None,
            late_usd_per_hour=terms.late_usd_per_hour,
            failure_usd=terms.failure_usd,
            failure_probability=info.failure_probability,
            resources=terms.resources,
        ),
        after=tuple(run.id for run in (*before, *(line.run for line in lines))),
    )
