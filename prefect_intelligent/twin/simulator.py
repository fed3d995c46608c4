"""The twin as an object: a batch of worlds with their state, driven from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Cost
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.census import Array, Census
from prefect_intelligent.policy.guard_state import GuardNumbers, GuardSettings
from prefect_intelligent.policy.rule_parameters import RuleNumbers
from prefect_intelligent.twin.batch import (
    APPLY_ACTIONS,
    APPLY_RULE,
    CENSUS,
    FINISH,
    GUARD,
    INTERVAL,
    PLAN,
    RUN,
    begin_all,
    work,
)
from prefect_intelligent.twin.engine.decision_buffers import DecisionBuffers, blank_desk
from prefect_intelligent.twin.engine.numba_structs import pack_pointers
from prefect_intelligent.twin.engine.threads import WorkerThreads
from prefect_intelligent.twin.model.state import COMPLETED, State, blank_state
from prefect_intelligent.twin.model.world import Table, World, as_bytes

_FIRST_LOG: Final = 4096
_AGAIN: Final = ~(APPLY_ACTIONS + APPLY_RULE + GUARD + PLAN + INTERVAL)
"""What is repeated when a log had no room: all that comes after the plan."""
_NO_RULE: Final = RuleNumbers(0, 0, 0, *(1.0 for _ in RuleNumbers._fields[3:]))
_ANY_GUARD: Final = GuardSettings().numbers()


class Twin:
    """A batch of worlds that run at their own times.

    Policies see one row per pool: with `n` worlds of `p` pools, row `i * p + j` is pool j of world i.

    Args:
        world: What does not change.
        log: Whether to keep the event log; it grows as needed.
        threads: Among how many threads the worlds are divided; the result does not depend on it.
    """

    def __init__(self, world: World, *, log: bool = False, threads: int = 1) -> None:
        self.world = world = World(*(np.ascontiguousarray(table) for table in world))
        self.threads = max(1, min(threads, world.n_worlds))
        self._crew = WorkerThreads(work, self.threads)
        self.state = blank_state(world, 4 * world.runs.shape[1] + _FIRST_LOG if log else 0)
        self.desk: DecisionBuffers = blank_desk(*world.queues.shape, world.pools.shape[1])
        self._address()
        begin_all(world, self.state, np.arange(world.n_worlds))

    @property
    def n_worlds(self) -> int:
        """Worlds in the batch."""
        return self.world.n_worlds

    @property
    def now_s(self) -> Array:
        """The instant of each world, shape (worlds,)."""
        now: Array = self.state.clock["now_s"]
        return now

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which worlds have no unfinished run left, shape (worlds,)."""
        over: npt.NDArray[np.bool_] = self.state.clock["ended"] >= self.world.settings["runs"]
        return over

    @property
    def money(self) -> Array:
        """Capacity, lateness and failure cost so far, shape (worlds, 3), US dollars."""
        clock = self.state.clock
        return np.stack([clock["busy_usd"] + clock["idle_usd"], clock["lateness_usd"], clock["failure_usd"]], axis=1)

    def cost(self, row: int = 0) -> Cost:
        """The money of one world."""
        capacity, lateness, failure = (float(value) for value in self.money[row])
        return Cost(capacity_usd=capacity, lateness_usd=lateness, failure_usd=failure)

    def begin(self, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> None:
        """Put worlds back to their beginning; all of them if None."""
        chosen = np.arange(self.n_worlds) if rows is None else np.asarray(rows, dtype=np.int64)
        for name in ("clock", "runs", "queues", "pools", "loads", "using", "claimed", "deployed"):
            as_bytes(getattr(self.state, name))[chosen] = 0
        begin_all(self.world, self.state, chosen)

    def census(self) -> Census:
        """The census of every pool as it is now; a view that the next call overwrites."""
        self.work(CENSUS)
        return self.desk.census

    def plan(self, proposal: Proposal) -> None:
        """Put permitted settings in force, now."""
        self.desk.want(proposal)
        self.work(PLAN)

    def advance(self, until_s: Array | float) -> None:
        """Let every world run to its instant (or all to one), events at it included."""
        self.desk.until_s[:] = until_s
        self.work(RUN)

    def step(self, proposal: Proposal, until_s: Array | float) -> Census:
        """Set a plan, run, and take the census: one decision interval of every world in one call."""
        self.desk.want(proposal)
        self.desk.until_s[:] = until_s
        self.work(PLAN + RUN + CENSUS)
        return self.desk.census

    def finish(self, within_s: float = 30 * 86400.0) -> None:
        """Run without further decisions until the last run of each world is over, at most `within_s` from now."""
        self.desk.until_s[:] = self.now_s + within_s
        self.work(FINISH)

    def save(self) -> State:
        """A copy of the state, for `restore` or for a roll-out elsewhere."""
        return self.state.copy()

    def restore(self, saved: State) -> None:
        """Go back to a saved state."""
        self.state.restore(saved)

    def fork(self, row: int, copies: int) -> Twin:
        """`copies` twins in one batch, all in the state of world `row`; their worlds may then be changed."""
        return self.take(np.full(copies, row))

    def take(self, rows: npt.NDArray[np.int64]) -> Twin:
        """A batch of copies of some worlds as they are now; a row may be asked for more than once."""
        twin = Twin.__new__(Twin)
        twin.threads, twin._crew = 1, WorkerThreads(work, 1)
        twin.world = World(*(table[rows] for table in self.world))
        twin.state = self.state.take(rows)
        twin.desk = self.desk.take(rows)
        twin._address()
        return twin

    def log(self, row: int = 0) -> Table:
        """The event log of one world so far."""
        return self.state.log[row, : self.state.clock["logged"][row]]

    def completed(self, row: int = 0) -> int:
        """Runs of one world that have ended well."""
        return int(np.sum(self.state.runs["phase"][row, : self.world.settings["runs"][row]] == COMPLETED))

    def work(
        self,
        parts: int,
        *,
        interval_s: float = 0.0,
        rule: RuleNumbers = _NO_RULE,
        guard: GuardNumbers = _ANY_GUARD,
        worlds: slice | npt.NDArray[np.int64] = slice(None),
    ) -> None:
        """A decision interval of every world, or parts of one, from what lies on the desk to what it leaves there.

        Args:
            parts: Sum of the parts in `batch`.
            interval_s: See `batch.INTERVAL`.
            rule: The base rule.
            guard: What the guard permits besides the bounds on the desk.
            worlds: Only these.
        """
        self.desk.passed[:] = 1
        self.desk.passed[worlds] = 0
        more = interval_s, rule, guard
        self._crew.share(self._letters, self.n_worlds, (parts, *more))
        while self.state.log.shape[1] and np.any(self.state.clock["full"]):
            self._grow_log()
            self._crew.share(self._letters, self.n_worlds, (parts & _AGAIN, *more))

    def _address(self) -> None:
        """Write the letters by which the compiled functions find the arrays."""
        self._letters = pack_pointers(self.world), pack_pointers(self.state), pack_pointers(self.desk)

    def _grow_log(self) -> None:
        old = self.state.log
        grown = np.zeros((old.shape[0], 2 * old.shape[1] + 8 * self.world.runs.shape[1]), old.dtype)
        grown[:, : old.shape[1]] = old
        self.state = self.state._replace(log=grown)
        self._address()
