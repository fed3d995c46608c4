"""The twin as an object: a batch of worlds with their state, called from Python."""

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
    run_phases,
)
from prefect_intelligent.twin.engine.decision_buffers import DecisionBuffers, blank_buffers
from prefect_intelligent.twin.engine.numba_structs import pack_pointers
from prefect_intelligent.twin.engine.threads import WorkerThreads
from prefect_intelligent.twin.model.state import COMPLETED, State, blank_state
from prefect_intelligent.twin.model.world import Table, World, as_bytes

_LOG_ENTRIES: Final = 4096
_AFTER_PLAN: Final = ~(APPLY_ACTIONS + APPLY_RULE + GUARD + PLAN + INTERVAL)
"""The phases that are repeated when a log had no room: those after the plan."""
_ZEROED: Final = (
    "totals", "runs", "queues", "pools", "contention_groups", "resource_runs", "resource_claims", "deployment_active",
    "workers",
)  # fmt: skip
"""The tables of a state that are zero at the beginning; what the others hold is meant only up to a count in these."""
_NO_RULE: Final = RuleNumbers(0, 0, 0, *(1.0 for _ in RuleNumbers._fields[3:]))
_DEFAULT_GUARD: Final = GuardSettings().numbers()


class Twin:
    """A batch of worlds that run at their own times.

    Policies see one row per pool: with `n` worlds of `p` pools, row `i * p + j` is pool j of world i.

    Args:
        world: What is given.
        log: Whether to keep the event log; it grows as needed.
        threads: How many threads share the worlds; the result does not depend on it.

    Attributes:
        world: What is given; a table may be changed in place between two calls.
        state: What changes.
        buffers: What decisions are made from, and what they are.
    """

    def __init__(self, world: World, *, log: bool = False, threads: int = 1) -> None:
        self.world = world = World(*(np.ascontiguousarray(table) for table in world))
        self.threads = max(1, min(threads, world.n_worlds))
        self._worker_threads = WorkerThreads(run_phases, self.threads)
        self.state = blank_state(world, 4 * world.runs.shape[1] + _LOG_ENTRIES if log else 0)
        self.buffers: DecisionBuffers = blank_buffers(world.n_worlds, world.queues.shape[1], world.pools.shape[1])
        self._pack_pointers()
        begin_all(world, self.state, np.arange(world.n_worlds))

    @property
    def n_worlds(self) -> int:
        """Worlds in the batch."""
        return self.world.n_worlds

    @property
    def now_s(self) -> Array:
        """The instant of each world, shape (worlds,)."""
        now: Array = self.state.totals["now_s"]
        return now

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Which worlds have no unfinished run left, shape (worlds,)."""
        over: npt.NDArray[np.bool_] = self.state.totals["ended"] >= self.world.settings["runs"]
        return over

    @property
    def money(self) -> Array:
        """Capacity, lateness and failure cost so far, shape (worlds, 3), US dollars."""
        totals = self.state.totals
        capacity = totals["busy_usd"] + totals["idle_usd"]
        return np.stack([capacity, totals["lateness_usd"], totals["failure_usd"]], axis=1)

    def cost(self, row: int = 0) -> Cost:
        """The money of one world."""
        capacity, lateness, failure = (float(value) for value in self.money[row])
        return Cost(capacity_usd=capacity, lateness_usd=lateness, failure_usd=failure)

    def begin(self, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> None:
        """Put worlds back to their beginning; all of them if None."""
        chosen = np.arange(self.n_worlds) if rows is None else np.asarray(rows, dtype=np.int64)
        for name in _ZEROED:
            as_bytes(getattr(self.state, name))[chosen] = 0
        begin_all(self.world, self.state, chosen)

    def census(self) -> Census:
        """The census of every pool as it is now; a view that the next call overwrites."""
        self.run_phases(CENSUS)
        return self.buffers.census

    def plan(self, proposal: Proposal) -> None:
        """Put settings in force, now."""
        self.buffers.set_wanted(proposal)
        self.run_phases(PLAN)

    def advance(self, until_s: Array | float) -> None:
        """Let every world run to its instant (or all to one), Unix seconds, events at it included."""
        self.buffers.until_s[:] = until_s
        self.run_phases(RUN)

    def step(self, proposal: Proposal, until_s: Array | float) -> Census:
        """Put settings in force, run, and take the census: one decision interval of every world in one call."""
        self.buffers.set_wanted(proposal)
        self.buffers.until_s[:] = until_s
        self.run_phases(PLAN + RUN + CENSUS)
        return self.buffers.census

    def finish(self, within_s: float = 30 * 86400.0) -> None:
        """Run without further decisions until the last run of each world is over, or `within_s` seconds have passed."""
        self.buffers.until_s[:] = self.now_s + within_s
        self.run_phases(FINISH)

    def save(self) -> State:
        """A copy of the state, for `restore`."""
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
        twin.threads, twin._worker_threads = 1, WorkerThreads(run_phases, 1)
        twin.world = World(*(table[rows] for table in self.world))
        twin.state = self.state.take(rows)
        twin.buffers = self.buffers.take(rows)
        twin._pack_pointers()
        return twin

    def log(self, row: int = 0) -> Table:
        """The event log of one world so far."""
        return self.state.log[row, : self.state.totals["logged"][row]]

    def completed(self, row: int = 0) -> int:
        """Runs of one world that have ended well."""
        return int(np.sum(self.state.runs["phase"][row, : self.world.settings["runs"][row]] == COMPLETED))

    def run_phases(
        self,
        phases: int,
        *,
        interval_s: float = 0.0,
        rule: RuleNumbers = _NO_RULE,
        guard: GuardNumbers = _DEFAULT_GUARD,
        worlds: slice | npt.NDArray[np.int64] = slice(None),
    ) -> None:
        """A decision interval of every world, or phases of one, from what is in the buffers to what it writes there.

        Args:
            phases: Sum of the phases in `batch`.
            interval_s: Seconds, see `batch.INTERVAL`.
            rule: The base rule.
            guard: What the guard permits besides the bounds in the buffers.
            worlds: Only these.
        """
        self.buffers.skip[:] = 1
        self.buffers.skip[worlds] = 0
        more = interval_s, rule, guard
        self._worker_threads.share(self._pointers, self.n_worlds, (phases, *more))
        while self.state.log.shape[1] and np.any(self.state.totals["log_full"]):
            self._grow_log()
            self._worker_threads.share(self._pointers, self.n_worlds, (phases & _AFTER_PLAN, *more))

    def _pack_pointers(self) -> None:
        """Tell the compiled functions where the arrays are; to be called whenever one has been replaced."""
        self._pointers = pack_pointers(self.world), pack_pointers(self.state), pack_pointers(self.buffers)

    def _grow_log(self) -> None:
        old = self.state.log
        grown = np.zeros((old.shape[0], 2 * old.shape[1] + 8 * self.world.runs.shape[1]), old.dtype)
        grown[:, : old.shape[1]] = old
        self.state = self.state._replace(log=grown)
        self._pack_pointers()
