"""What an episode came to: money, lateness, waits, failures, broken bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.model.state import CANCELLED, COMPLETED
from prefect_intelligent.twin.simulator import Twin


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """Figures of a batch of episodes, each of shape (episodes,).

    Lateness is measured from the due instant to the end of the run; a wait from the scheduled start to the first slot,
    0 for a run that was claimed early.

    Attributes:
        cost_usd: The objective, the sum of the next three.
        capacity_usd: Cost of slots.
        lateness_usd: Cost of lateness.
        failure_usd: Cost of failed runs.
        miss_rate: Share of the ended runs with a deadline that ended after it.
        weighted_late_hours: Hours of lateness of those runs, each times its price in US dollars per hour.
        wait_p50_s: Median wait.
        wait_p95_s: 95 % quantile of the wait.
        wait_p99_s: 99 % quantile of the wait.
        late_cvar95_s: Mean lateness of the latest 5 % of the ended runs with a deadline.
        runs: Runs that were not cancelled.
        late_runs: Of those, how many ended late; one that has not ended counts if it is late now.
        failed_runs: Of those, how many ended failed or crashed.
        finished: 1 where every run is over, else 0.
        violations: Decisions that broke a bound of the guard; NaN where they were not counted.
    """

    cost_usd: Array
    capacity_usd: Array
    lateness_usd: Array
    failure_usd: Array
    miss_rate: Array
    weighted_late_hours: Array
    wait_p50_s: Array
    wait_p95_s: Array
    wait_p99_s: Array
    late_cvar95_s: Array
    runs: Array
    late_runs: Array
    failed_runs: Array
    finished: Array
    violations: Array

    @classmethod
    def join(cls, parts: Sequence[EpisodeMetrics]) -> EpisodeMetrics:
        """The episodes of several batches as one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def measure(twin: Twin, violations: Array | None = None) -> EpisodeMetrics:
    """The figures of every world of a twin, as it is now.

    Args:
        twin: The worlds, usually at their end.
        violations: Decisions that broke a bound of the guard, shape (worlds,); None if they were not counted.
    """
    money = twin.money
    by_run = np.array([_run_figures(twin, row) for row in range(twin.n_worlds)])
    broken = np.full(twin.n_worlds, np.nan) if violations is None else violations
    columns = [money.sum(-1), *money.T, *by_run.T, twin.done.astype(float), broken]
    return EpisodeMetrics(*columns)


def conditional_value_at_risk(values: Array, level: float = 0.95) -> float:
    """Mean of the worst 1 - level share of the values; 0 without values."""
    if values.size == 0:
        return 0.0
    worst = np.sort(values)[int(np.floor(level * values.size)) :]
    return float(worst.mean())


def _run_figures(twin: Twin, row: int) -> tuple[float, ...]:
    """Figures of one world from `miss_rate` to `failed_runs`, in the order of `EpisodeMetrics`."""
    count = int(twin.world.settings["runs"][row])
    runs, deployment = twin.state.runs[row, :count], twin.world.runs["deployment"][row, :count]
    ended = (runs["phase"] >= COMPLETED) & np.isfinite(runs["finished_s"])
    kept = runs["phase"] != CANCELLED
    late_s = np.maximum(np.where(ended, runs["finished_s"], twin.now_s[row]) - runs["due_s"], 0.0)
    due = ended & np.isfinite(runs["due_s"])
    price = twin.world.deployments["late_usd_per_hour"][row][deployment]
    claimed = np.isfinite(runs["first_claimed_s"])
    waits = np.maximum(runs["first_claimed_s"][claimed] - runs["scheduled_s"][claimed], 0.0)
    quantiles = np.quantile(waits, [0.5, 0.95, 0.99]) if waits.size else np.zeros(3)
    return (
        float((late_s[due] > 0).mean()) if due.any() else 0.0,
        float((late_s[due] * price[due]).sum() / 3600.0),
        *quantiles.tolist(),
        conditional_value_at_risk(late_s[due]),
        float(kept.sum()),
        float((late_s[kept] > 0).sum()),
        float((kept & ended & (runs["phase"] != COMPLETED)).sum()),
    )
