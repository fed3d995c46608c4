"""Worlds under a policy and the guard, many at a time: what replay, tuning, teaching and evaluation share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.encoding import Observation
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.guard_audit import guard_violations
from prefect_intelligent.policy.guard_state import GuardState
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.twin.batch import (
    APPLY_ACTIONS,
    APPLY_RULE,
    CENSUS,
    FINISH,
    GUARD,
    INTERVAL,
    OBSERVE,
    PLAN,
    RUN,
    WITH_FALLBACK,
)
from prefect_intelligent.twin.simulator import Twin


class ClosedLoop:
    """A batch of worlds in which every decision passes the guard, which keeps to the bounds of their pools.

    What it returns (`census`, `rule`, `observation`, `guard_state`, the result of `step`) is a view of the twin's
    buffers, which the next decision overwrites.

    Args:
        twin: The batch, at any instant.
        regime: How often is decided and what is permitted; its factors bound the limits that the worlds begin with.
        guarded: Whether there is a guard; without one proposals are put in force as they are.
        base: The rule that `act` corrects and `follow` obeys; it is asked after every interval.
        audit: Whether to compare every permitted plan with what the guard promises, see `violations`.
    """

    def __init__(
        self,
        twin: Twin,
        regime: Regime,
        base: RulePolicy | None = None,
        *,
        guarded: bool = True,
        audit: bool = False,
    ) -> None:
        self.twin, self.regime, self.guarded, self.base = twin, regime, guarded, base
        self._violations: Array | None = np.zeros(len(twin.buffers.census.pool)) if audit else None
        self._numbers: dict[str, Any] = {"interval_s": regime.interval_s, "guard": regime.guard.numbers()}
        if guarded:
            twin.buffers.set_bounds(regime.guard)
            self._asked_max = twin.buffers.pool_max.copy(), twin.buffers.queue_max.copy()
        if base is not None:
            self._numbers["rule"] = base.numbers
        self.restart()

    @property
    def census(self) -> Census:
        """The census after the last interval, one row per pool."""
        return self.twin.buffers.census

    @property
    def rule(self) -> Proposal:
        """What the base rule proposes for it."""
        return self.twin.buffers.rule

    @property
    def observation(self) -> Observation:
        """What a network sees of both."""
        return self.twin.buffers.observation

    @property
    def guard_state(self) -> GuardState:
        """What the guard keeps between decisions."""
        return self.twin.buffers.guard_state

    @property
    def running(self) -> npt.NDArray[np.bool_]:
        """Which worlds still have runs to finish, shape (worlds,)."""
        going: npt.NDArray[np.bool_] = ~self.twin.done
        return going

    @property
    def violations(self) -> Array:
        """How often the guard has permitted what `guard_violations` forbids, shape (pools,); it should be 0.

        Raises:
            InvalidInputError: The loop does not audit.
        """
        if self._violations is None:
            raise InvalidInputError("audit", False, "pass audit=True to ClosedLoop to have violations counted")
        return self._violations

    def restart(self, worlds: Any = slice(None)) -> None:
        """Take the census of the worlds given, which have been begun anew; in them the guard starts afresh."""
        if self.guarded:
            self._bound(worlds)
        self.twin.run_phases(CENSUS + self._observe, worlds=worlds, **self._numbers)
        self.twin.buffers.reset_guard(worlds)

    def _bound(self, worlds: Any) -> None:
        """Set the bounds of the limits of some worlds: by the regime, by the owner, and by what can be bought."""
        pools, queues, buffers = self.twin.world.pools[worlds], self.twin.world.queues[worlds], self.twin.buffers
        pool_max, queue_max = (table[worlds] for table in self._asked_max)
        buyable = np.where(pools["owned"] != 0, pools["max_slots"], np.inf)
        permitted = np.minimum(pools["most"], np.maximum(self.regime.pool_factor * pools["limit"], 1.0))
        buffers.pool_max[worlds] = np.maximum(
            np.minimum(pool_max, np.minimum(permitted, buyable)), buffers.pool_min[worlds]
        )
        most = np.maximum(self.regime.queue_factor * np.maximum(queues["limit"], 1.0), 1.0)
        buffers.queue_max[worlds] = np.maximum(np.minimum(queue_max, most), buffers.queue_min[worlds])

    def step(
        self,
        wanted: Proposal,
        fallback: Proposal | None = None,
        until_s: Array | float | None = None,
        *,
        finishing: bool = False,
    ) -> Permitted:
        """Decide, let one interval pass in every world that is not over, and take the next census.

        Args:
            wanted: What the policy wants.
            fallback: What the guard takes where that is unusable; None keeps what is in force.
            until_s: To when each world runs instead, whether it is over or not.
            finishing: Whether a world stops at the end of its last run.
        """
        buffers = self.twin.buffers
        buffers.set_wanted(wanted)
        if fallback is not None:
            buffers.set_fallback(fallback)
        phases = PLAN + (FINISH if finishing else RUN)
        self._decide(phases if fallback is None else phases + WITH_FALLBACK, until_s)
        notes = buffers.per_queue(buffers.queue_notes), buffers.per_pool(buffers.pool_notes)
        return Permitted(buffers.wanted, *notes, buffers.guard_state)

    def act(self, actions: npt.NDArray[Any], until_s: Array | float | None = None) -> None:
        """As `step`; what is wanted is the base rule's proposal, corrected by actions.

        Args:
            actions: Shape (pools, 1 + 2 * n_queues), see `policy.actions.flatten`.
            until_s: As in `step`.
        """
        table = self.twin.buffers.actions
        table.reshape(-1)[:] = actions.reshape(-1)
        self._decide(APPLY_ACTIONS + WITH_FALLBACK + PLAN + RUN, until_s)

    def follow(self, until_s: Array | float | None = None) -> None:
        """As `step`; what is wanted is the base rule's proposal."""
        self._decide(APPLY_RULE + WITH_FALLBACK + PLAN + RUN, until_s)

    def play(self, policy: Policy) -> Array:
        """Let `policy` decide until every run is over; the US dollars spent, shape (worlds, 3).

        What is left after the regime's last decision runs out under the settings then in force.
        """
        for _ in range(self.regime.most_decisions):
            if not np.any(self.running):
                break
            self.step(policy.propose(self.census))
        self.twin.finish()
        return self.twin.money

    @property
    def spent_usd(self) -> Array:
        """US dollars spent so far, shape (worlds,)."""
        spent: Array = self.twin.money.sum(-1)
        return spent

    def fork(self, rows: npt.NDArray[Any], interval_s: float | None = None) -> ClosedLoop:
        """A loop over copies of some of the worlds, as they are now; it does not audit.

        Args:
            rows: Which of them.
            interval_s: Seconds between its decisions, if they are others.
        """
        fork = ClosedLoop.__new__(ClosedLoop)  # also where this is a subclass
        fork.regime, fork.guarded, fork.base, fork._numbers = self.regime, self.guarded, self.base, self._numbers
        fork.twin, fork._violations = self.twin.take(rows), None
        if interval_s is not None:
            fork.pace(interval_s)
        return fork

    def pace(self, interval_s: float) -> None:
        """Let so many seconds pass between two decisions from now on."""
        self.regime = replace(self.regime, interval_s=interval_s)
        self._numbers = {**self._numbers, "interval_s": interval_s}

    @property
    def _observe(self) -> int:
        """The phase that follows a census, if there is a base rule."""
        return 0 if self.base is None else OBSERVE

    def _decide(self, phases: int, until_s: Array | float | None) -> None:
        """The given phases and all that follow, in one call."""
        if self.guarded:
            phases += GUARD
        if until_s is None:
            phases += INTERVAL
        else:
            self.twin.buffers.until_s[:] = until_s
        phases += CENSUS + self._observe
        if self._violations is None:
            self.twin.run_phases(phases, **self._numbers)
        else:
            decided_on = Census(self.census.queues.copy(), self.census.pool.copy())
            self.twin.run_phases(phases, **self._numbers)
            self._violations += guard_violations(self.twin.buffers.wanted, decided_on)
