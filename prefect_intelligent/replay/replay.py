"""The user's own history, replayed in the twin under several policies.

The replay is honest: a decision sees a census of what was known at its instant, and the duration predicted for a run
comes from runs that had ended before it was submitted. Every policy meets the same runs with the same durations and
outcomes, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Cost, Estimate
from prefect_intelligent.domain.objective import weighted_late_minutes
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.point_in_time_features import events, works
from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.from_history import world_from_runs
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec, ResourceSpec

REFERENCE: Final = "prefect-default"
"""The policy that every other is compared with: today's settings."""

_BLOCKS: Final = 48
_DRAWS: Final = 4000
_FINISHED_KIND: Final = 2
_LONGEST_S: Final = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What one policy would have made of the history.

    Attributes:
        policy: Its name.
        cost: The objective.
        late_runs: Runs that ended after they were due.
        due_runs: Runs that could be late.
        weighted_late_minutes: Minutes late, weighted by price; weights average 1 over the runs.
        wait_p50_s: Median of the time from the scheduled start to a slot.
        wait_p95_s: Its 95 % quantile.
        runs: One row per run: deployment, queue, scheduled_s, started_s (took its slot), ended_s, due_s.
        saving_usd: Money saved against the reference on the same runs; None for the reference.
        saving_low_usd: Lower end of its 95 % interval.
        saving_high_usd: Upper end.
    """

    policy: str
    cost: Cost
    late_runs: int
    due_runs: int
    weighted_late_minutes: float
    wait_p50_s: float
    wait_p95_s: float
    runs: pd.DataFrame = field(repr=False)
    saving_usd: float | None = None
    saving_low_usd: float | None = None
    saving_high_usd: float | None = None

    @property
    def miss_share(self) -> float | None:
        """Share of the runs with a deadline that missed it; None if there are none."""
        return self.late_runs / self.due_runs if self.due_runs else None


def replay(
    runs: pd.DataFrame,
    pool: PoolSpec,
    policies: Mapping[str, Policy],
    *,
    guard: GuardSettings,
    interval_s: float,
    resources: Sequence[ResourceSpec] = (),
    loads: dict[str, tuple[str, ...]] | None = None,
    seed: int = 0,
) -> tuple[ReplayResult, ...]:
    """Replay `runs` under every policy and compare each with today's settings.

    The interval is a bootstrap over blocks of time (a 48th of the span each): what happens within a block hangs
    together, so single runs must not be drawn.

    Args:
        runs: Table of `history.runs_frame`; runs that have not ended or were cancelled are left out.
        pool: The pool as it is set today, with its prices.
        policies: Name to policy; must contain `REFERENCE`.
        guard: What is permitted to each of them.
        interval_s: Seconds between decisions.
        resources: Shared resources.
        loads: Which of them the runs of a deployment use.
        seed: Of polls, start-up times and bootstrap.

    Raises:
        InvalidInputError: There is nothing to replay.
        UnknownNameError: The reference is missing.
    """
    if REFERENCE not in policies:
        raise UnknownNameError("policy to compare with", REFERENCE, policies)
    known = runs[settled(runs)].reset_index(drop=True)
    world = history_world(runs, pool, resources=resources, loads=loads, seed=seed)
    played = {name: _play(world, policy, guard, interval_s) for name, policy in policies.items()}
    block_s = max(interval_s, (known["scheduled_s"].max() - known["scheduled_s"].min()) / _BLOCKS)
    base = played[REFERENCE]
    rng = np.random.default_rng(seed)
    return tuple(
        _account(name, arena, known, _savings(base, arena, block_s, rng) if name != REFERENCE else None)
        for name, arena in played.items()
    )


def history_world(
    runs: pd.DataFrame,
    pool: PoolSpec,
    *,
    resources: Sequence[ResourceSpec] = (),
    loads: dict[str, tuple[str, ...]] | None = None,
    seed: int = 0,
) -> World:
    """The world of the runs that have ended, each with what could be predicted of it when it was submitted.

    Raises:
        InvalidInputError: None of them has ended.
    """
    kept = settled(runs)
    known = runs[kept].reset_index(drop=True)
    if known.empty:
        raise InvalidInputError("history", f"{len(runs)} runs", "none of them has ended; there is nothing to replay")
    estimates = [each for each, keep in zip(past_estimates(runs), kept, strict=True) if keep]
    return world_from_runs(known, pool, estimates, resources=resources, resources_of=loads, seed=seed)


def past_estimates(runs: pd.DataFrame) -> list[Estimate]:
    """What `DurationQuantiles` would have predicted for each run at its submission, from what had ended by then."""
    book = DurationQuantiles()
    work = works(runs)
    counts = settled(runs).to_numpy()
    seconds = (runs["ended_s"] - runs["started_s"]).to_numpy()
    estimates: dict[int, Estimate] = {}
    for kind, row in events(runs):
        if row not in estimates:
            estimates[row] = book.estimate(work[row])
        if kind == _FINISHED_KIND and counts[row]:
            book.learn(work[row], float(seconds[row]))
    return [estimates[row] for row in range(len(runs))]


class _Played:
    """A world after it has been played, with the money at every decision."""

    def __init__(self, arena: ClosedLoop, at_s: Array, money: Array) -> None:
        self.arena, self.at_s, self.money = arena, at_s, money


def _play(world: World, policy: Policy, guard: GuardSettings, interval_s: float) -> _Played:
    """Play one world to its end, keeping the total spent at each decision."""
    twin = Twin(world)
    arena = ClosedLoop(twin, guard, interval_s)
    at_s, money = [float(twin.now_s[0])], [0.0]
    last_s = at_s[0] + float(world.runs["scheduled_s"].max() - at_s[0]) + _LONGEST_S
    while arena.running[0] and twin.now_s[0] < last_s:
        arena.step(policy.propose(arena.census))
        at_s.append(float(twin.now_s[0]))
        money.append(float(twin.money[0].sum()))
    return _Played(arena, np.array(at_s), np.array(money))


def _savings(base: _Played, other: _Played, block_s: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Money saved in all and the ends of its 95 % interval, from blocks of time."""
    end_s = max(base.at_s[-1], other.at_s[-1])
    edges = np.append(np.arange(base.at_s[0], end_s, block_s), end_s)
    saved = np.diff(np.interp(edges, base.at_s, base.money) - np.interp(edges, other.at_s, other.money))
    drawn = rng.choice(saved, (_DRAWS, len(saved))).sum(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(saved.sum()), float(low), float(high)


def _account(
    name: str, played: _Played, known: pd.DataFrame, saving: tuple[float, float, float] | None
) -> ReplayResult:
    """The figures of one policy."""
    twin = played.arena.twin
    state = twin.state.runs[0]
    table = pd.DataFrame(
        {
            "deployment": known["deployment"],
            "queue": known["queue"],
            "scheduled_s": known["scheduled_s"],
            "started_s": state["first_claimed_s"][: len(known)],
            "ended_s": state["finished_s"][: len(known)],
            "due_s": known["due_s"],
        }
    )
    waits = (table["started_s"] - table["scheduled_s"]).clip(lower=0).dropna()
    cost = twin.cost(0)
    weight = float(twin.world.settings["lateness_weight"][0])
    mean_price = float(known["late_usd_per_hour"].fillna(0.0).mean())
    low, high = (saving[1], saving[2]) if saving else (None, None)
    return ReplayResult(
        policy=name,
        cost=cost,
        late_runs=int((table["ended_s"] > table["due_s"]).sum()),
        due_runs=int(table["due_s"].notna().sum()),
        weighted_late_minutes=weighted_late_minutes(cost.lateness_usd, mean_price, weight),
        wait_p50_s=float(waits.quantile(0.5)),
        wait_p95_s=float(waits.quantile(0.95)),
        runs=table,
        saving_usd=saving[0] if saving else None,
        saving_low_usd=low,
        saving_high_usd=high,
    )
