"""What is recommended, in words and numbers: a change, its saving with an interval, and the past it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedChange:
    """One thing that could be otherwise.

    Attributes:
        kind: "pool-limit", "queue-limit", "order", "split", "merge", "schedule", "retries", "unread", "deadline" or
            "memory".
        subject: The pool, queue or deployment.
        title: What to do, for people.
        evidence: What in the history speaks for it.
        pool_limit: The pool's limit.
        limits: Queue limits.
        order: Queues from first to last served; empty leaves it.
        shift_s: Deployment to by how much its schedule moves.
        homes: Deployment to the queue that it is sent to.
        once: Deployments whose failed runs are not tried again.
        without: Deployments that do not run any more.
        due_s: Deployment to when its runs are due, seconds after their scheduled start.
        by_hand: What a person has to do, if it is not ours to write; empty if `apply` can do it.
    """

    kind: str
    subject: str
    title: str
    evidence: str
    pool_limit: int | None = None
    limits: Mapping[str, int | None] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    shift_s: Mapping[str, float] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    once: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    due_s: Mapping[str, float] = field(default_factory=dict)
    by_hand: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A change that would have saved money.

    Attributes:
        change: What to do.
        saving_usd_per_day: Mean over the days replayed.
        interval: 90 % interval of that mean, from resampled days.
        days: Days replayed.
    """

    change: ProposedChange
    saving_usd_per_day: float
    interval: tuple[float, float]
    days: int

    def row(self) -> dict[str, Any]:
        """JSON-ready form, as kept and shown."""
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
            "homes": dict(change.homes),
            "by_hand": change.by_hand,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInput:
    """What is replayed: the ended runs of one pool and its settings.

    Attributes:
        runs: As from the history, of this pool only.
        pool: Its settings.
        queues: Settings of its queues.
        prices: What capacity costs.
        poll_s: Mean time between two polls of its workers.
        unread: Deployments whose outputs nobody reads and whose lateness costs nothing.
    """

    runs: pd.DataFrame
    pool: PoolSetting
    queues: tuple[QueueSetting, ...]
    prices: Prices
    poll_s: float = 10.0
    unread: tuple[str, ...] = ()


def bootstrap_saving(change: ProposedChange, saved: Array, rng: np.random.Generator) -> Recommendation:
    """A change with the mean of what it saves a day and its 90 % interval, from resampled days.

    Args:
        change: What was tried.
        saved: Shape (days,), US dollars.
        rng: Draws the days.
    """
    draws = rng.choice(saved, size=(400, len(saved))).mean(axis=1)
    low, high = (float(bound) for bound in np.quantile(draws, (0.05, 0.95)))
    return Recommendation(change=change, saving_usd_per_day=float(saved.mean()), interval=(low, high), days=len(saved))
