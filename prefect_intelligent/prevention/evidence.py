"""Evidence for the rules of prevention: ended runs, live runs, lineage and quality results; statistics of failures."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pandas as pd

from prefect_intelligent.domain import Terms
from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.point_in_time_features import SubmittedRun
from prefect_intelligent.history.runs_frame import settled

MOST_RUNS: Final = 300
"""Number of the latest runs of a deployment that are kept."""


class EndedRun(NamedTuple):
    """A run that has ended; None is unknown.

    `started_s` is the start of its first attempt, `attempts` the number of attempts including the first, `failure_usd`
    the price of its failure.
    """

    deployment: str
    version: str | None
    host: str | None
    started_s: float
    ended_s: float
    failed: bool
    cause: str | None
    attempts: int
    failure_usd: float


class LiveRun(NamedTuple):
    """A run that has not ended.

    `started_s` is the start of its current attempt (None before that), `due_s` the deadline (None without one), both in
    Unix seconds; `heartbeats` is None if it has sent none.
    """

    run_id: str
    deployment: str
    scheduled_s: float
    started_s: float | None
    heartbeats: Heartbeats | None
    due_s: float | None = None


class WaitingRun(NamedTuple):
    """A run that is due and holds no slot, whatever keeps it.

    `scheduled_s` is from when it could start, Unix seconds; `parameters` tells runs with the same parameters; `begun`
    is whether it has begun before, and `awaited` whether another run has started it and may wait for it.
    """

    run_id: str
    deployment: str
    scheduled_s: float
    parameters: str = ""
    begun: bool = False
    awaited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Input of the rules.

    Attributes:
        now_s: The present, Unix seconds.
        ended: Ended runs by deployment, oldest first.
        live: Waiting and running runs.
        longest_s: Returns the 99.9 % quantile of a deployment's durations, seconds; None with too few runs.
        upstream: Deployments whose outputs a deployment reads, by deployment.
        unhealthy: Deployments whose output failed its quality checks.
        resources: Shared resources that a deployment declares, by deployment.
        waiting: Due runs that hold no slot, also those that are held or at their deployment's limit.
        terms: Terms that deployments declare, by deployment.
    """

    now_s: float
    ended: Mapping[str, Sequence[EndedRun]]
    live: Sequence[LiveRun] = ()
    longest_s: Callable[[str], float | None] = lambda _: None
    upstream: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unhealthy: frozenset[str] = frozenset()
    resources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    waiting: Sequence[WaitingRun] = ()
    terms: Mapping[str, Terms] = field(default_factory=dict)

    def since(self, deployment: str, at_s: float) -> Sequence[EndedRun]:
        """Return runs of a deployment that ended at `at_s` or later, oldest first."""
        runs = self.ended.get(deployment, ())
        return runs[bisect_left(runs, at_s, key=_ended_s) :]

    def last(self, deployment: str) -> EndedRun | None:
        """Return the run of a deployment that ended last; None if there is none."""
        runs = self.ended.get(deployment, ())
        return runs[-1] if runs else None

    def failures(self, since_s: float) -> Iterator[EndedRun]:
        """Yield failed runs of all deployments that ended at `since_s` or later, deployment by deployment."""
        for name, runs in self.ended.items():
            if runs and runs[-1].ended_s >= since_s:
                for run in self.since(name, since_s):
                    if run.failed:
                        yield run


def _ended_s(run: EndedRun) -> float:
    return run.ended_s


def read_evidence(
    runs: pd.DataFrame,
    now_s: float,
    *,
    live: Sequence[LiveRun] = (),
    upstream: Mapping[str, Sequence[str]] | None = None,
    unhealthy: frozenset[str] = frozenset(),
    resources: Mapping[str, Sequence[str]] | None = None,
    waiting: Sequence[WaitingRun] = (),
    terms: Mapping[str, Terms] | None = None,
    kept: int = MOST_RUNS,
) -> Evidence:
    """Build the evidence from a table of runs.

    Args:
        runs: Table of `history.runs_frame`; may be empty. End times in the future (clock skew) are set to `now_s`.
        now_s: The present, Unix seconds.
        live: Waiting and running runs.
        upstream: Deployments whose outputs a deployment reads, by deployment.
        unhealthy: Deployments whose output failed its quality checks.
        resources: Shared resources that a deployment declares, by deployment.
        waiting: Due runs that hold no slot.
        terms: Terms that deployments declare, by deployment.
        kept: Number of the latest runs of a deployment that are kept.
    """
    ended_runs = runs[settled(runs)].sort_values("ended_s", kind="stable")
    ended: dict[str, list[EndedRun]] = {}
    durations = DurationQuantiles()
    columns = [
        ended_runs[name].astype(object).where(ended_runs[name].notna(), None).tolist()
        if name in ended_runs.columns
        else [None] * len(ended_runs)
        for name in (
            "deployment",
            "version",
            "host",
            "started_s",
            "ended_s",
            "failed",
            "cause",
            "attempts",
            "failure_usd",
        )
    ]
    for deployment, version, host, started, end, failed, cause, attempts, usd in zip(*columns, strict=True):
        if deployment is None:
            continue
        run = EndedRun(
            str(deployment), version, host, min(started, now_s), min(end, now_s), bool(failed), cause,
            int(attempts or 1), float(usd or 0.0),
        )  # fmt: skip
        ended.setdefault(run.deployment, []).append(run)
        if not run.failed and run.attempts <= 1:  # pauses between attempts would count as work
            durations.learn(SubmittedRun("", run.deployment), run.ended_s - run.started_s)
    return Evidence(
        now_s=now_s,
        ended={name: found[-max(1, kept) :] for name, found in ended.items()},
        live=tuple(live),
        longest_s=durations.longest_usual_s,
        upstream=dict(upstream or {}),
        unhealthy=unhealthy,
        resources=dict(resources or {}),
        waiting=tuple(waiting),
        terms=dict(terms or {}),
    )


def binomial_tail(failures: int, runs: int, rate: float) -> float:
    """Return the probability of at least `failures` of `runs` if each fails with probability `rate` (binomial tail)."""
    if failures <= 0:
        return 1.0
    rate = min(max(rate, 1e-9), 1.0 - 1e-9)
    log_p, log_q = math.log(rate), math.log1p(-rate)
    total = 0.0
    for k in range(failures, runs + 1):
        ways = math.lgamma(runs + 1) - math.lgamma(k + 1) - math.lgamma(runs - k + 1)
        total += math.exp(ways + k * log_p + (runs - k) * log_q)
    return min(1.0, total)


def smoothed_rate(failures: int, runs: int, prior: float = 0.05, weight: float = 2.0) -> float:
    """Return the failure rate with a beta prior: as if `weight` further runs had failed at the rate `prior`."""
    return (failures + prior * weight) / (runs + weight)
