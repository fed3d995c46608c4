"""What came of an episode: money, lateness and waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.state import COMPLETED
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.planner import Planner
from prefect_intelligent.twin.simulator import Twin
from rl.arenas import GUARD, INTERVAL_S
from rl.statistics import conditional_value_at_risk


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of every episode of a batch, each of shape (episodes,).

    Attributes:
        cost_usd: The objective.
        capacity_usd: Its part for slots.
        lateness_usd: Its part for lateness.
        failure_usd: Its part for failed runs.
        miss_rate: Share of the runs with a deadline that finished after it.
        weighted_late_hours: Lateness in hours times the runs' price.
        wait_p95_s: 95 % quantile of the time from being scheduled to a slot.
        wait_p99_s: 99 % quantile.
        late_cvar95_s: Mean lateness of the latest 5 % of runs.
        violations: Decisions after which the settings broke a bound of the guard.
    """

    cost_usd: Array
    capacity_usd: Array
    lateness_usd: Array
    failure_usd: Array
    miss_rate: Array
    weighted_late_hours: Array
    wait_p95_s: Array
    wait_p99_s: Array
    late_cvar95_s: Array
    violations: Array


def play(world: World, policy: Policy | Planner) -> Outcome:
    """Play a batch of episodes under a policy and the guard."""
    arena = ClosedLoop(Twin(world), GUARD, INTERVAL_S, audit=True)
    money = policy.play(arena) if isinstance(policy, Planner) else arena.play(policy)
    figures = np.array([_run_figures(arena, row) for row in range(world.n_worlds)])
    columns = [money.sum(-1), *money.T, *figures.T, arena.violations]
    return Outcome(**dict(zip(Outcome.__slots__, columns, strict=True)))


def join(parts: list[Outcome]) -> Outcome:
    """The episodes of several batches as one."""
    names = Outcome.__slots__
    return Outcome(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _run_figures(arena: ClosedLoop, row: int) -> tuple[float, ...]:
    """Miss rate, weighted late hours, waits and tail lateness of one world."""
    count = int(arena.twin.world.settings["runs"][row])
    runs, terms = arena.twin.state.runs[row, :count], arena.twin.world.runs[row, :count]
    ended = (runs["phase"] >= COMPLETED) & np.isfinite(runs["finished_s"])
    due = ended & np.isfinite(runs["due_s"])
    late_s = np.maximum(runs["finished_s"][due] - runs["due_s"][due], 0.0)
    price = arena.twin.world.deployments[row]["late_usd_per_hour"][terms["deployment"][due]]
    claimed = np.isfinite(runs["first_claimed_s"])
    waits = np.maximum(runs["first_claimed_s"][claimed] - runs["scheduled_s"][claimed], 0.0)
    p95, p99 = np.quantile(waits, [0.95, 0.99]) if waits.size else (0.0, 0.0)
    return (
        float((late_s > 0).mean()) if late_s.size else 0.0,
        float((late_s * price).sum() / 3600.0),
        float(p95),
        float(p99),
        conditional_value_at_risk(late_s),
    )
