"""Play worlds under a policy: decide, guard, apply, wait, to the end of the last run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.actions import apply_action, unflatten
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, P
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from simulations.metrics import EpisodeMetrics, measure


class BudgetedLoop(ClosedLoop):
    """A closed loop whose pools share a budget of slots.

    Args:
        twin: The worlds, at any instant.
        regime: See `ClosedLoop`.
        budget_slots: Slots that the pools of one world may have together; None for no such bound.
        base: See `ClosedLoop`.
        guarded: See `ClosedLoop`; without a guard there is no budget either.
        audit: See `ClosedLoop`.
    """

    def __init__(
        self,
        twin: Twin,
        regime: Regime,
        budget_slots: int | None = None,
        base: RulePolicy | None = None,
        *,
        guarded: bool = True,
        audit: bool = False,
    ) -> None:
        self._budget = budget_slots if guarded else None
        super().__init__(twin, regime, base, guarded=guarded, audit=audit)

    def restart(self, worlds: Any = slice(None)) -> None:
        """Take the census of the given worlds, which have been begun anew, and the bounds of their pools."""
        super().restart(worlds)
        self._pool_max = self.twin.buffers.pool_max.copy()

    def step(
        self,
        wanted: Proposal,
        fallback: Proposal | None = None,
        until_s: Array | float | None = None,
        *,
        finishing: bool = False,
    ) -> Permitted:
        """Decide within the budget; see `ClosedLoop.step`."""
        if self._budget is not None:
            pools = self._pool_max.shape[1]
            bound = share_budget(wanted.pool_limit, self.census[P.ACTIVE], self._budget, pools)
            np.minimum(self._pool_max, bound.reshape(self._pool_max.shape), out=self.twin.buffers.pool_max)
        return super().step(wanted, fallback, until_s, finishing=finishing)

    def act(self, actions: npt.NDArray[Any], until_s: Array | float | None = None) -> None:
        """Decide what the base rule proposes, corrected by levels; see `ClosedLoop.act`."""
        if self._budget is None:
            super().act(actions, until_s)
        else:
            self.step(apply_action(self.rule, self.census, unflatten(actions)), self.rule, until_s)

    def follow(self, until_s: Array | float | None = None) -> None:
        """Decide what the base rule proposes; see `ClosedLoop.follow`."""
        if self._budget is None:
            super().follow(until_s)
        else:
            self.step(self.rule, self.rule, until_s)


def share_budget(wanted: Array, active: Array, budget: int, pools: int) -> Array:
    """The most slots each pool of a world may have so that together they stay within a budget.

    If the wanted slots fit into the budget, each pool gets them and an equal part of the rest. Else the slots wanted
    beyond those held are cut in proportion. Slots that are held are never cut.

    Args:
        wanted: Shape (worlds * pools,), slots; `inf` counts as the whole budget.
        active: Shape (worlds * pools,), slots held.
        budget: Slots of all pools of one world together.
        pools: Pools per world.
    """
    asked = np.minimum(wanted, budget).reshape(-1, pools)
    held = np.maximum(active.reshape(-1, pools), 1.0)
    extra = np.maximum(asked - held, 0.0)
    room = np.maximum(budget - held.sum(-1, keepdims=True), 0.0)
    total = extra.sum(-1, keepdims=True)
    share = np.where(total > room, extra * room / np.maximum(total, 1e-9), extra + (room - total) / pools)
    out: Array = np.floor(held + share + 1e-9).reshape(-1)
    return out


def play(
    twin: Twin,
    policy: Policy,
    *,
    until_s: Array | float,
    regime: Regime,
    guarded: bool = True,
    budget_slots: int | None = None,
    drain_s: float = 2 * 86400.0,
) -> EpisodeMetrics:
    """Play every world of a twin under a policy, from its beginning to the end of its last run.

    Args:
        twin: The worlds; they are begun anew.
        policy: What decides.
        until_s: Instant of the last arrival, per world or for all.
        regime: How often is decided and what is permitted.
        guarded: Whether proposals pass the guard.
        budget_slots: See `BudgetedLoop`.
        drain_s: Time after `until_s` for which decisions go on while runs are left; later runs end without any.
    """
    twin.begin()
    loop = BudgetedLoop(twin, regime, budget_slots, guarded=guarded)
    now_s = twin.now_s.copy()
    end_s = np.broadcast_to(np.asarray(until_s, dtype=float), now_s.shape)
    while np.any(now_s < end_s):
        now_s = np.minimum(now_s + regime.interval_s, end_s)
        loop.step(policy.propose(loop.census), until_s=now_s)
    stop_s = end_s + drain_s
    while not np.all(twin.done | (twin.now_s >= stop_s)):
        loop.step(policy.propose(loop.census), until_s=twin.now_s + regime.interval_s, finishing=True)
    twin.finish()
    return measure(twin)
