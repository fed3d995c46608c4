"""Worlds under a policy and the guard, many at a time: what replay, tuning, teaching and evaluation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.encoding import Observation
from prefect_intelligent.policy.guard import Permitted
from prefect_intelligent.policy.guard_audit import guard_violations
from prefect_intelligent.policy.guard_state import GuardSettings, GuardState
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
    """A batch of worlds in which every decision passes the guard.

    What it returns (`census`, `rule`, `observation`, `guard_state`, the result of `step`) is a view of the twin's
    buffers, which the next decision overwrites.

    Args:
        twin: The batch, at any instant.
        guard: What is permitted; None permits everything.
        interval_s: Seconds between decisions.
        base: The rule that `act` corrects and `follow` obeys; it is asked after every interval.
        audit: Whether to compare every permitted plan with what the guard promises, see `violations`.
    """

    def __init__(
        self,
        twin: Twin,
        guard: GuardSettings | None,
        interval_s: float,
        base: RulePolicy | None = None,
        *,
        audit: bool = False,
    ) -> None:
        self.twin, self.guard, self.interval_s, self.base = twin, guard, interval_s, base
        self._violations: Array | None = np.zeros(len(twin.buffers.census.pool)) if audit else None
        if guard is not None:
            twin.buffers.set_bounds(guard)
        self._numbers: dict[str, Any] = {"interval_s": interval_s}
        if guard is not None:
            self._numbers["guard"] = guard.numbers()
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
        self.twin.run_phases(CENSUS + self._observe, worlds=worlds, **self._numbers)
        self.twin.buffers.reset_guard(worlds)

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

    def play(self, policy: Policy, most_steps: int = 1200) -> Array:
        """Let `policy` decide until every run is over, at most so many times; the US dollars spent, shape (worlds, 3).

        What is left after the last decision runs out under the settings then in force.
        """
        for _ in range(most_steps):
            if not np.any(self.running):
                break
            self.step(policy.propose(self.census))
        self.twin.finish()
        return self.twin.money

    def fork(self, rows: npt.NDArray[Any]) -> ClosedLoop:
        """A loop over copies of some of the worlds, as they are now; it does not audit."""
        fork = ClosedLoop.__new__(ClosedLoop)  # also where this is a subclass
        fork.guard, fork.interval_s, fork.base, fork._numbers = self.guard, self.interval_s, self.base, self._numbers
        fork.twin, fork._violations = self.twin.take(rows), None
        return fork

    @property
    def _observe(self) -> int:
        """The phase that follows a census, if there is a base rule."""
        return 0 if self.base is None else OBSERVE

    def _decide(self, phases: int, until_s: Array | float | None) -> None:
        """The given phases and all that follow, in one call."""
        if self.guard is not None:
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
