"""Let a policy run worlds: decide, guard, apply, wait; to the end of the last run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Cost
from prefect_intelligent.policy.actions import apply_action, unflatten
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, P
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.state import CANCELLED, COMPLETED
from prefect_intelligent.twin.simulator import Twin


class Steered(ClosedLoop):
    """An arena whose pools get no more slots than can be bought, and share a budget.

    Args:
        twin: The worlds, at any instant.
        guard: What the guard permits; None applies proposals as they are.
        decision_s: Time between two decisions.
        budget_slots: Slots that the pools of one world may have together; None for no such bound.
        base: See `ClosedLoop`.
    """

    def __init__(
        self,
        twin: Twin,
        guard: GuardSettings | None,
        decision_s: float,
        budget_slots: int | None = None,
        base: RulePolicy | None = None,
    ) -> None:
        self._budget = None if guard is None else budget_slots
        super().__init__(twin, guard, decision_s, base)

    def restart(self, worlds: Any = slice(None)) -> None:
        """Take the census of the worlds given, with the bounds of those that have replaced others."""
        if self.guard is not None:
            pools = self.twin.world.pools[worlds]
            most = np.where(pools["owned"] != 0, pools["max_slots"], np.inf)
            self.twin.buffers.pool_max[worlds] = np.minimum(self.guard.pool_max, most)
            self._most = self.twin.buffers.pool_max.copy()
        super().restart(worlds)

    def step(
        self,
        wanted: Proposal,
        fallback: Proposal | None = None,
        until_s: Array | float | None = None,
        *,
        finishing: bool = False,
    ) -> Permitted:
        """Decide within the budget."""
        if self._budget is not None:
            pools = self._most.shape[1]
            bound = share_budget(wanted.pool_limit, self.census[P.ACTIVE], self._budget, pools)
            np.minimum(self._most, bound.reshape(self._most.shape), out=self.twin.buffers.pool_max)
        return super().step(wanted, fallback, until_s, finishing=finishing)

    def act(self, actions: npt.NDArray[Any], until_s: Array | float | None = None) -> None:
        """The same with what the base rule wants, corrected by levels."""
        if self._budget is None:
            super().act(actions, until_s)
        else:
            self.step(apply_action(self.rule, self.census, unflatten(actions)), self.rule, until_s)

    def follow(self, until_s: Array | float | None = None) -> None:
        """The same with what the base rule wants."""
        if self._budget is None:
            super().follow(until_s)
        else:
            self.step(self.rule, self.rule, until_s)


def share_budget(wanted: Array, active: Array, budget: int, pools: int) -> Array:
    """The most slots each pool of a world may have so that together they stay within a budget.

    Within the budget everybody gets what is wanted and an equal part of the rest; beyond it, wishes above what is
    running are cut in proportion. What is running is never cut.

    Args:
        wanted: Shape (worlds * pools,), slots; `inf` counts as the whole budget.
        active: Shape (worlds * pools,), slots held.
        budget: Slots of all pools of one world together.
        pools: Pools per world.
    """
    wish = np.minimum(wanted, budget).reshape(-1, pools)
    held = np.maximum(active.reshape(-1, pools), 1.0)
    extra = np.maximum(wish - held, 0.0)
    room = np.maximum(budget - held.sum(-1, keepdims=True), 0.0)
    asked = extra.sum(-1, keepdims=True)
    share = np.where(asked > room, extra * room / np.maximum(asked, 1e-9), extra + (room - asked) / pools)
    out: Array = np.floor(held + share + 1e-9).reshape(-1)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one world under one policy.

    Attributes:
        cost: Money, split by cause.
        late_usd_minutes: Late minutes weighted by their price relative to one dollar per hour.
        late_runs: Runs that ended past their due instant.
        runs: Runs that came and were not cancelled.
        failed: Of those, how many ended failed or crashed.
        wait_p50_s: Median time from scheduled to first claimed.
        wait_p95_s: 95 % quantile of that.
        makespan_s: From the first instant to the end of the last run.
        finished: Whether every run ended within the time allowed.
    """

    cost: Cost
    late_usd_minutes: float
    late_runs: int
    runs: int
    failed: int
    wait_p50_s: float
    wait_p95_s: float
    makespan_s: float
    finished: bool


def play(
    twin: Twin,
    policy: Policy,
    *,
    until_s: Array | float,
    decision_s: float,
    guard: GuardSettings | None = None,
    budget_slots: int | None = None,
    drain_s: float = 2 * 86400.0,
) -> list[Outcome]:
    """Steer every world of a twin by a policy from its beginning to its last run.

    Args:
        twin: The worlds; they are begun anew.
        policy: Who decides.
        until_s: When the last run may come, per world or for all.
        decision_s: Time between two decisions.
        guard: What is permitted; None applies the proposals as they are.
        budget_slots: See `Steered`.
        drain_s: Time after `until_s` for which decisions go on while runs are left; then they are left alone.
    """
    twin.begin()
    arena = Steered(twin, guard, decision_s, budget_slots)
    start_s = twin.now_s.copy()
    now_s = start_s.copy()
    end_s = np.broadcast_to(np.asarray(until_s, dtype=float), now_s.shape)
    while np.any(now_s < end_s):
        now_s = np.minimum(now_s + decision_s, end_s)
        arena.step(policy.propose(arena.census), until_s=now_s)
    stop_s = end_s + drain_s
    while not np.all(twin.done | (twin.now_s >= stop_s)):
        arena.step(policy.propose(arena.census), until_s=twin.now_s + decision_s, finishing=True)
    twin.finish()
    return [outcome_of(twin, row, float(start_s[row])) for row in range(twin.n_worlds)]


def outcome_of(twin: Twin, row: int, start_s: float) -> Outcome:
    """What has become of one world so far."""
    count = int(twin.world.settings["runs"][row])
    runs, truth = twin.state.runs[row, :count], twin.world.runs[row, :count]
    price = twin.world.deployments["late_usd_per_hour"][row][truth["deployment"]]
    real = runs["phase"] != CANCELLED
    ended = real & np.isfinite(runs["finished_s"])
    finished_s = np.where(np.isfinite(runs["finished_s"]), runs["finished_s"], twin.now_s[row])
    late_s = np.where(real, np.maximum(finished_s - runs["due_s"], 0.0), 0.0)
    waits = (runs["first_claimed_s"] - runs["scheduled_s"])[real & np.isfinite(runs["first_claimed_s"])]
    p50, p95 = np.quantile(waits, [0.5, 0.95]) if len(waits) else (0.0, 0.0)
    return Outcome(
        cost=twin.cost(row),
        late_usd_minutes=float(np.sum(late_s * price) / 60.0),
        late_runs=int(np.sum(late_s > 0)),
        runs=int(np.sum(real)),
        failed=int(np.sum(ended & (runs["phase"] != COMPLETED))),
        wait_p50_s=float(p50),
        wait_p95_s=float(p95),
        makespan_s=float(np.max(finished_s, initial=start_s) - start_s),
        finished=bool(twin.done[row]),
    )
