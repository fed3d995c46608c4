"""The objective of a period, from what happened in it: the runs that held slots, and the pool's limit over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from prefect_intelligent.domain.objective import Cost, Prices, idle_usd, run_cost


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
    idle_s = _idle_slot_s(runs, limits, begin_s, end_s)
    return cost + Cost(capacity_usd=idle_usd(idle_s, prices.slot_usd_per_hour, prices.idle_fraction))


def _idle_slot_s(
    runs: Iterable[PricedRun], limits: Sequence[tuple[float, int | None]], begin_s: float, end_s: float
) -> float:
    """Slot-seconds under the limit that no run held."""
    idle_s, since_s, held, slots = 0.0, begin_s, 0, limits[0][1]
    # Each step: its instant, by how much the held slots change, and the limits that begin there (none or one).
    steps: list[tuple[float, int, list[int | None]]] = [(at_s, 0, [limit]) for at_s, limit in limits[1:]]
    for run in runs:
        steps += [(run.started_s, 1, []), (run.finished_s, -1, [])]
    steps.sort(key=lambda step: step[0])
    steps.append((end_s, 0, []))
    for at_s, change, new in steps:
        until_s = min(max(at_s, since_s), end_s)
        idle_s += (until_s - since_s) * (0 if slots is None else max(0, slots - held))
        since_s, held = until_s, held + change
        slots = new[0] if new else slots
    return idle_s
