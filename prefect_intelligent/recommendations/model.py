"""Recommendations: a proposed change with its saving, and the input of the replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.policy.census import Array
from prefect_intelligent.replay.bootstrap import bootstrap, mean


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedChange:
    """A change of settings, schedules, retries, deadlines or memory.

    Attributes:
        kind: "pool-limit", "queue-limit", "order", "split", "merge", "schedule", "retries", "unread", "deadline" or
            "memory".
        subject: The pool, queue or deployment.
        title: What to do, one sentence.
        evidence: Evidence from the history, one sentence.
        pool_limit: New limit of the pool; None leaves it.
        limits: New limits by queue; None is unlimited.
        order: Queues from first to last served; empty leaves it.
        shift_s: Shift of schedules by deployment, seconds.
        assignments: New queue by deployment.
        without_retries: Deployments whose failed runs are not retried.
        paused: Deployments that no longer run.
        due_s: New deadline by deployment, seconds after the scheduled start.
        by_hand: What to do by hand; empty if `recommend apply` can do it.
    """

    kind: str
    subject: str
    title: str
    evidence: str
    pool_limit: int | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    shift_s: Mapping[str, float] = field(default_factory=dict)
    assignments: Mapping[str, str] = field(default_factory=dict)
    without_retries: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    due_s: Mapping[str, float] = field(default_factory=dict)
    by_hand: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A change that would have saved money.

    Attributes:
        change: The change.
        saving_usd_per_day: Mean over the replayed days, US dollars.
        interval: 90 % confidence interval of that mean.
        days: Number of replayed days.
    """

    change: ProposedChange
    saving_usd_per_day: float
    interval: tuple[float, float]
    days: int

    @classmethod
    def from_daily_savings(cls, change: ProposedChange, saved: Array, rng: np.random.Generator) -> Self:
        """Return a change with its mean saving per day and the 90 % interval.

        Args:
            change: The change.
            saved: Saving of each day, US dollars, shape (days,).
            rng: Random generator of the bootstrap.
        """
        saving = bootstrap(mean, [saved], rng, resamples=400, quantiles=(0.05, 0.95))
        return cls(change=change, saving_usd_per_day=saving.value, interval=(saving.low, saving.high), days=len(saved))

    def row(self) -> dict[str, Any]:
        """JSON-ready form, as recorded and printed."""
        change = self.change
        return {
            "kind": change.kind,
            "subject": change.subject,
            "title": change.title,
            "evidence": change.evidence,
            "saving_usd_per_day": round(self.saving_usd_per_day, 4),
            "interval": [round(bound, 4) for bound in self.interval],
            "days": self.days,
            "pool_limit": change.pool_limit,
            "limits": dict(change.limits),
            "order": list(change.order),
            "homes": dict(change.assignments),
            "by_hand": change.by_hand,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInput:
    """Input of the replay: the runs of one pool and its settings.

    Attributes:
        runs: Table of `history.runs_frame`, of this pool only.
        pool: Settings of the pool.
        queues: Settings of its queues.
        prices: Prices of capacity and lateness.
        poll_s: Mean time between two polls of its workers, seconds.
        unread: Deployments whose outputs no deployment reads and whose lateness costs nothing.
        most_slots: Largest limit that the settings let a controller give the pool; None is the one that it has.
        scheduled: Deployments that have a schedule; None if that is not known.
    """

    runs: pd.DataFrame
    pool: PoolSetting
    queues: tuple[QueueSetting, ...]
    prices: Prices
    poll_s: float = 10.0
    unread: tuple[str, ...] = ()
    most_slots: int | None = None
    scheduled: frozenset[str] | None = None
