"""Futures for the planner: of a live snapshot, of the worlds of a twin, or, as a bound, the true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Snapshot
from prefect_intelligent.policy.census import Q
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.engine.jit import compiled
from prefect_intelligent.twin.engine.numba_structs import by_reference
from prefect_intelligent.twin.from_snapshot import sample_futures
from prefect_intelligent.twin.model.contention import begin_work, stop_work
from prefect_intelligent.twin.model.rows import state_row, world_row
from prefect_intelligent.twin.model.state import COMPLETED, RUNNING, WAITS_FOR_CHILDREN, State
from prefect_intelligent.twin.model.world import DRAWN, World
from prefect_intelligent.twin.spec import PoolSpec

_SHORTEST_S: Final = 0.1
_AHEAD_S: Final = 3 * 3600.0
"""Span over which ad-hoc runs are drawn, longer than any horizon."""
_REDRAWS: Final = 8
"""How often a duration that has already passed is drawn again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFutures:
    """Futures of a live pool.

    Attributes:
        snapshot: The pool as it is.
        model: How it behaves.
        guard: What is permitted in it, with its bounds.
        rng: Draws the futures.
        step_s: Seconds between two decisions.
        horizon_s: Seconds for which ad-hoc runs keep coming.
    """

    snapshot: Snapshot
    model: PoolSpec
    guard: GuardSettings
    rng: np.random.Generator
    step_s: float
    horizon_s: float
    pools: int = 1

    def draw(self, count: int) -> ClosedLoop:
        """`count` further futures."""
        limits = [limit for limit in (self.snapshot.pool.limit, self.model.most) if limit is not None]
        pool = replace(
            self.model,
            queues=tuple(queue.setting for queue in self.snapshot.queues),
            limit=min(limits, default=None),
        )
        drawn = sample_futures(self.snapshot, pool, self.rng, futures=count, horizon_s=self.horizon_s)
        guard = replace(self.guard, enabled=True, interval_s=min(self.guard.interval_s, self.step_s))
        return ClosedLoop(drawn.twin, Regime(interval_s=self.step_s, guard=guard, pool_factor=math.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinFutures:
    """Futures of worlds of a loop, as they are now.

    Attributes:
        loop: The worlds; they are not touched.
        rows: Which of them.
        rng: Draws what is not known; None takes what will truly happen (clairvoyant).
        step_s: Seconds between two decisions.
    """

    loop: ClosedLoop
    rows: npt.NDArray[Any]
    rng: np.random.Generator | None
    step_s: float

    @property
    def pools(self) -> int:
        """How many worlds."""
        return len(self.rows)

    def draw(self, count: int) -> ClosedLoop:
        """`count` further futures of every world."""
        drawn = self.loop.fork(np.repeat(self.rows, count), interval_s=self.step_s)
        if self.rng is not None:
            redraw_unknowns(drawn, self.rng)
        return drawn


def redraw_unknowns(loop: ClosedLoop, rng: np.random.Generator) -> None:
    """Replace what a controller cannot know by draws from what it can.

    Durations are drawn from their estimates, those of active runs given how long they have held their slots; outcomes
    are drawn anew. Runs that are not yet known come at the recent rate of their queue: as many as a Poisson draw says
    come at random instants of the hours ahead, the rest after them, so that neither their number nor their times are
    known in advance.
    """
    _redraw_outcomes(loop, rng)
    _redraw_arrivals(loop, rng)


def _redraw_outcomes(loop: ClosedLoop, rng: np.random.Generator) -> None:
    """Draw durations and outcomes."""
    twin = loop.twin
    runs, state = twin.world.runs, twin.state.runs
    begun = (state["phase"] == RUNNING) | (state["phase"] >= COMPLETED)
    used_s = np.where(state["phase"] == RUNNING, twin.now_s[:, None] - state["claimed_s"], 0.0)
    total_s = np.zeros(runs.shape)
    for _ in range(_REDRAWS):  # what still would have ended by now is an overrun
        short = total_s <= used_s
        drawn = runs["p50_s"] * np.exp(runs["spread"] * rng.standard_normal(runs.shape))
        total_s = np.where(short, np.maximum(drawn, _SHORTEST_S), total_s)
    overrun_s = 0.5 * np.maximum(used_s - runs["p50_s"], 1.0)
    left_s = np.maximum(np.where(total_s > used_s, total_s - used_s, overrun_s), _SHORTEST_S)
    runs["work_s"] = np.where(begun, runs["work_s"], left_s)
    runs["outcome_source"] = np.where(begun, runs["outcome_source"], DRAWN)
    twin.world.settings["seed"] = rng.integers(1 << 62, size=twin.n_worlds)
    set_work_left(twin.world, twin.state, left_s)


def _redraw_arrivals(loop: ClosedLoop, rng: np.random.Generator) -> None:
    """Draw when runs that are not known yet arrive."""
    twin = loop.twin
    runs, state = twin.world.runs, twin.state.runs
    rates = loop.census[Q.ARRIVALS_PER_HOUR].reshape(twin.n_worlds, -1)
    for row in range(twin.n_worlds):
        now_s = float(twin.now_s[row])
        used = int(twin.world.settings["arrivals"][row])
        coming = twin.world.arrivals[row, int(twin.state.totals["next_arrival"][row]) : used]
        hidden = rng.permutation(coming[runs["known_s"][row, coming] > now_s])
        if hidden.size == 0:
            continue
        queue = runs["queue"][row, hidden]
        at_s = now_s + _AHEAD_S + rng.uniform(0.0, _AHEAD_S, hidden.size)
        for number in np.unique(queue):
            soon = np.flatnonzero(queue == number)[: rng.poisson(rates[row, number] * _AHEAD_S / 3600.0)]
            at_s[soon] = now_s + rng.uniform(0.0, _AHEAD_S, soon.size)
        shift = at_s - runs["scheduled_s"][row, hidden]
        for table, name in (
            (runs, "scheduled_s"),
            (runs, "known_s"),
            (runs, "due_s"),
            (state, "scheduled_s"),
            (state, "due_s"),
        ):
            table[name][row, hidden] += shift
        order = np.argsort(runs["scheduled_s"][row, coming], kind="stable")
        twin.world.arrivals[row, used - len(coming) : used] = coming[order]


@compiled
def set_work_left(world: World, state: State, left_s: npt.NDArray[np.float64]) -> None:
    """Set how much full-speed work every running run still has; `left_s` has the shape (worlds, runs), seconds."""
    for row in range(world.runs.shape[0]):
        one_world, one_state = by_reference(world_row(world, row)), by_reference(state_row(state, row))
        for place in range(one_state.totals[0].active):
            run = one_state.active[place]
            if one_state.runs[run].phase == RUNNING and one_state.runs[run].calling != WAITS_FOR_CHILDREN:
                group = one_world.deployments[one_world.runs[run].deployment].contention_group
                stop_work(one_world, one_state, group, run)
                begin_work(one_world, one_state, group, run, left_s[row, run])
