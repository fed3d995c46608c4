"""The objective of a period, from what happened in it: the runs that held slots, and the pool's limit over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from prefect_intelligent.domain.objective import Cost, Prices, idle_usd, run_cost
from prefect_intelligent.domain.slot_account import slot_account


class PricedRun(Protocol):
    """A run that has ended, and what it costs to be late or to fail; instants in Unix seconds."""

    @property
    def started_s(self) -> float:
        """When it took its slot."""
        ...

    @property
    def finished_s(self) -> float:
        """When it gave the slot back."""
        ...

    @property
    def due_s(self) -> float | None:
        """When it should have been finished; None if it cannot be late."""
        ...

    @property
    def late_usd_per_hour(self) -> float:
        """Price of its lateness."""
        ...

    @property
    def failure_usd(self) -> float:
        """Price of its failure."""
        ...

    @property
    def failed(self) -> bool:
        """Whether it ended failed or crashed."""
        ...


def period_cost(
    runs: Sequence[PricedRun],
    prices: Prices,
    limits: Sequence[tuple[float, int | None]],
    *,
    begin_s: float,
    end_s: float,
) -> Cost:
    """Cost of a period: what its runs cost, and the slots that the limit paid for and no run held.

    Args:
        runs: The runs that ended in it, one attempt each.
        prices: Prices in force.
        limits: The pool's limit as (Unix seconds, slots), oldest first; the first holds from the beginning. None is
            unlimited, and pays for no slot that is not held.
        begin_s: Begin of the period, Unix seconds.
        end_s: Its end.
    """
    cost = Cost()
    for run in runs:
        cost += run_cost(
            prices,
            held_s=run.finished_s - run.started_s,
            late_s=0.0 if run.due_s is None else run.finished_s - run.due_s,
            late_usd_per_hour=run.late_usd_per_hour,
            failed=run.failed,
            failure_usd=run.failure_usd,
        )
    account = slot_account([(-np.inf, limits[0][1]), *limits[1:]], None)
    if account is None:
        return cost
    started_s = np.array([float(run.started_s) for run in runs])
    finished_s = np.array([float(run.finished_s) for run in runs])
    idle_s = float(account.idle_s(np.array([begin_s, end_s]), started_s, finished_s)[0])
    return cost + Cost(capacity_usd=idle_usd(idle_s, prices.slot_usd_per_hour, prices.idle_fraction))
