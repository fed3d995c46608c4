"""What the rules of prevention look at: runs that have ended, runs that live, and which inputs are known to be bad."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pandas as pd

from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.point_in_time_features import Work
from prefect_intelligent.history.runs_frame import settled

KEPT: Final = 300
"""Runs of a deployment that are looked at, the last ones."""

_MEMORY = re.compile(
    r"MemoryError|OOM|out of memory|exit(?:ed with)? (?:status )?code:? (?:137|-9)|SIGKILL", re.IGNORECASE
)
_PASSING = re.compile(
    r"timed? ?out|timeout|connection (?:reset|refused|aborted)|temporar|unavailable|\b(?:429|502|503|504)\b|rate limit",
    re.IGNORECASE,
)  # fmt: skip


class EndedRun(NamedTuple):
    """A run that has ended; None is unknown.

    `started_s` is the start of its first attempt; `attempts` counts that one too.
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

    `started_s` is the start of its present attempt, `heartbeat_s` the last sign of life; None if it gives none.
    """

    run_id: str
    deployment: str
    scheduled_s: float
    started_s: float | None
    heartbeat_s: float | None
    due_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a rule may look at.

    Attributes:
        now_s: The present, Unix seconds.
        ended: Ended runs by deployment, oldest first.
        live: Runs that wait or run.
        longest_s: What only one in a thousand runs of a deployment exceeds, seconds; None if its past is too short.
        upstream: Deployment to the deployments whose outputs it reads.
        unhealthy: Deployments whose output failed its quality checks.
        resources: Deployment to the shared resources it declares.
    """

    now_s: float
    ended: Mapping[str, Sequence[EndedRun]]
    live: Sequence[LiveRun] = ()
    longest_s: Callable[[str], float | None] = lambda _: None
    upstream: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unhealthy: frozenset[str] = frozenset()
    resources: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def since(self, deployment: str, at_s: float) -> Sequence[EndedRun]:
        """Runs of a deployment that ended at `at_s` or later, oldest first."""
        runs = self.ended.get(deployment, ())
        return runs[bisect_left(runs, at_s, key=_end) :]

    def last(self, deployment: str) -> EndedRun | None:
        """The run of a deployment that ended last."""
        runs = self.ended.get(deployment, ())
        return runs[-1] if runs else None

    def failures(self, since_s: float) -> Iterator[EndedRun]:
        """Failed runs of all deployments since an instant, deployment by deployment."""
        for name, runs in self.ended.items():
            if runs and runs[-1].ended_s >= since_s:
                for run in self.since(name, since_s):
                    if run.failed:
                        yield run


def _end(run: EndedRun) -> float:
    return run.ended_s


def ran_out_of_memory(cause: str | None) -> bool:
    """Whether a cause speaks of too little memory."""
    return cause is not None and _MEMORY.search(cause) is not None


def is_transient(cause: str | None) -> bool:
    """Whether a cause is of the kind that goes away by waiting: timeouts, resets, busy services."""
    return cause is not None and _PASSING.search(cause) is not None


def read_evidence(
    runs: pd.DataFrame,
    now_s: float,
    *,
    live: Sequence[LiveRun] = (),
    upstream: Mapping[str, Sequence[str]] | None = None,
    unhealthy: frozenset[str] = frozenset(),
    resources: Mapping[str, Sequence[str]] | None = None,
    kept: int = KEPT,
) -> Evidence:
    """A watch from a table of runs (see `history.runs_frame`); an empty table is fine, rules then find nothing.

    Runs that end in the future by the clock of another machine are taken to end now. Of each deployment the last `kept`
    runs are looked at.
    """
    told = runs[settled(runs)].sort_values("ended_s", kind="stable")
    ended: dict[str, list[EndedRun]] = {}
    book = DurationQuantiles()
    columns = [
        told[name].astype(object).where(told[name].notna(), None).tolist()
        if name in told.columns
        else [None] * len(told)
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
        if not run.failed and run.attempts <= 1:  # else pauses between attempts would count as work
            book.learn(Work("", run.deployment), run.ended_s - run.started_s)
    return Evidence(
        now_s=now_s,
        ended={name: found[-max(1, kept) :] for name, found in ended.items()},
        live=tuple(live),
        longest_s=book.longest_usual_s,
        upstream=dict(upstream or {}),
        unhealthy=unhealthy,
        resources=dict(resources or {}),
    )


def binomial_tail(failures: int, runs: int, rate: float) -> float:
    """Chance of at least so many failures in so many runs if each fails at `rate`; 1 for no failures."""
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
    """Share of failures, pulled towards `prior` as if by `weight` runs."""
    return (failures + prior * weight) / (runs + weight)
