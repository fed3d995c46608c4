"""Worlds played under a policy and the guard, many at a time: what replay, tuning, teaching and evaluation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prefect_intelligent.policy.base import Policy, Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.encoding import Observation
from prefect_intelligent.policy.guard import Permitted
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

    Whatever it shows (`census`, `rule`, `seen`, `state`, what `step` returns) is a view of the twin's desk, which the
    next decision overwrites.

    Args:
        twin: The batch, at any instant.
        guard: What is permitted; None permits everything.
        interval_s: Seconds between decisions.
        base: The rule that `act` corrects and `follow` obeys; it is asked after every interval.
    """

    def __init__(
        self, twin: Twin, guard: GuardSettings | None, interval_s: float, base: RulePolicy | None = None
    ) -> None:
        self.twin, self.guard, self.interval_s, self.base = twin, guard, interval_s, base
        if guard is not None:
            twin.desk.bound(guard)
        self._numbers: dict[str, Any] = {"interval_s": interval_s}
        if guard is not None:
            self._numbers["guard"] = guard.numbers()
        if base is not None:
            self._numbers["rule"] = base.numbers
        self.restart()

    @property
    def census(self) -> Census:
        """The census after the last interval, one row per pool."""
        return self.twin.desk.census

    @property
    def rule(self) -> Proposal:
        """What the base rule proposes for it."""
        return self.twin.desk.rule

    @property
    def seen(self) -> Observation:
        """What a network sees of both."""
        return self.twin.desk.seen

    @property
    def state(self) -> GuardState:
        """What the guard remembers."""
        return self.twin.desk.memory

    @property
    def running(self) -> npt.NDArray[np.bool_]:
        """Which worlds still have runs to finish."""
        going: npt.NDArray[np.bool_] = ~self.twin.done
        return going

    def restart(self, worlds: Any = slice(None)) -> None:
        """Take the census of the worlds given, which have been begun anew; in them the guard forgets."""
        self.twin.work(CENSUS + self._look, worlds=worlds, **self._numbers)
        self.twin.desk.forget(worlds)

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
        desk = self.twin.desk
        desk.want(wanted)
        if fallback is not None:
            desk.back(fallback)
        parts = PLAN + (FINISH if finishing else RUN)
        self._decide(parts if fallback is None else parts + WITH_FALLBACK, until_s)
        notes = desk.per_queue(desk.queue_notes), desk.per_pool(desk.pool_notes)
        return Permitted(desk.wanted, *notes, desk.memory)

    def act(self, actions: npt.NDArray[Any], until_s: Array | float | None = None) -> None:
        """The same with what the base rule wants, corrected by levels.

        Args:
            actions: Shape (pools, 1 + 2 * n_queues), see `policy.actions.flatten`.
            until_s: As in `step`.
        """
        table = self.twin.desk.actions
        table.reshape(-1)[:] = actions.reshape(-1)
        self._decide(APPLY_ACTIONS + WITH_FALLBACK + PLAN + RUN, until_s)

    def follow(self, until_s: Array | float | None = None) -> None:
        """The same with what the base rule wants."""
        self._decide(APPLY_RULE + WITH_FALLBACK + PLAN + RUN, until_s)

    def play(self, policy: Policy, most_steps: int = 1200) -> Array:
        """Let `policy` decide until every run is over, at most so many times; returns the dollars spent, (worlds, 3).

        What is left after the last decision runs out under the settings then in force.
        """
        for _ in range(most_steps):
            if not np.any(self.running):
                break
            self.step(policy.propose(self.census))
        self.twin.finish()
        return self.twin.money

    def fork(self, rows: npt.NDArray[Any]) -> ClosedLoop:
        """An arena whose worlds are copies of some of the worlds of this one, as they are now."""
        fork = ClosedLoop.__new__(ClosedLoop)  # plain, also where this one watches what it does
        fork.guard, fork.interval_s, fork.base, fork._numbers = self.guard, self.interval_s, self.base, self._numbers
        fork.twin = self.twin.take(rows)
        return fork

    @property
    def _look(self) -> int:
        """What follows a census."""
        return 0 if self.base is None else OBSERVE

    def _decide(self, parts: int, until_s: Array | float | None) -> None:
        """The given parts and all that follow, in one call."""
        if self.guard is not None:
            parts += GUARD
        if until_s is None:
            parts += INTERVAL
        else:
            self.twin.desk.until_s[:] = until_s
        self.twin.work(parts + CENSUS + self._look, **self._numbers)
