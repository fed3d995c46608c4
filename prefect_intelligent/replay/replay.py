"""The user's own history, replayed in the twin under several policies.

The replay uses no knowledge of the future: a decision reads a census of what was known at its instant, and the
duration predicted for a run comes from runs that had ended before it was submitted. Every policy gets the same runs
with the same durations and outcomes, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain import Cost, Estimate
from prefect_intelligent.domain.objective import weighted_late_minutes
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.point_in_time_features import run_events, submitted_runs
from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.policy.rule_policy import RulePolicy
from prefect_intelligent.replay.bootstrap import ConfidenceInterval, bootstrap, total
from prefect_intelligent.replay.spending import SpendingCurve, play
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.from_history import world_from_runs
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec, ResourceSpec

REFERENCE: Final = "prefect-default"
"""The policy that every other is compared with: today's settings."""

_BLOCKS: Final = 48
_POINTS: Final = 20
"""Points of a spending curve in each block, at least."""
_FINISHED_KIND: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearranged:
    """The same history in a pool whose queues are arranged otherwise.

    Attributes:
        runs: The same runs in the same order, each in the queue that it would have had.
        pool: The pool with those queues.
        regime: What is permitted there.
        policies: Name to policy, other names than those of the pool as it is.
    """

    runs: pd.DataFrame
    pool: PoolSpec
    regime: Regime
    policies: Mapping[str, Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """The history under one policy.

    Attributes:
        policy: Name of the policy.
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
    regime: Regime,
    resources: Sequence[ResourceSpec] = (),
    loads: dict[str, tuple[str, ...]] | None = None,
    seed: int = 0,
    rearranged: Rearranged | None = None,
    tell: Callable[[str, float], None] = lambda name, share: None,
) -> tuple[ReplayResult, ...]:
    """Replay `runs` under every policy and compare each with today's settings.

    The interval is a bootstrap over blocks of time (a 48th of the span each): runs within a block are dependent, so
    single runs must not be drawn.

    Args:
        runs: Table of `history.runs_frame`; runs that have not ended or were cancelled are left out.
        pool: The pool as it is set today, with its prices.
        policies: Name to policy; must contain `REFERENCE`.
        regime: How often is decided and what is permitted, the same for all policies.
        resources: Shared resources.
        loads: Deployment to the shared resources that its runs load.
        seed: Seed of polls, start-up times and bootstrap.
        rearranged: Also replayed, and compared with the same settings; comes last.
        tell: Is told which policy is played, and what share of the history it has behind it.

    Raises:
        InvalidInputError: There is nothing to replay.
        UnknownNameError: The reference is missing.
    """
    if REFERENCE not in policies:
        raise UnknownNameError("policy to compare with", REFERENCE, policies)
    known = runs[settled(runs)].reset_index(drop=True)
    estimates = past_estimates(runs)
    world = _world(runs, pool, estimates, resources, loads, seed)
    loops = {name: _loop(world, regime, policy) for name, policy in policies.items()}
    if rearranged is not None:
        other = _world(rearranged.runs, rearranged.pool, estimates, resources, loads, seed)
        loops |= {name: _loop(other, rearranged.regime, policy) for name, policy in rearranged.policies.items()}
        policies = {**policies, **rearranged.policies}
    begin_s, end_s = float(world.runs["scheduled_s"].min()), float(world.runs["scheduled_s"].max())
    block_s = max(regime.interval_s, (known["scheduled_s"].max() - known["scheduled_s"].min()) / _BLOCKS)
    every = max(1, int(block_s / (_POINTS * regime.interval_s)))
    curves = {}
    for name, policy in policies.items():
        asked = None if isinstance(policy, RulePolicy) else policy
        heard = partial(_tell_share, tell, name, begin_s, end_s)
        curves[name] = play(loops[name], asked, every=every, tell=heard)
    base = curves[REFERENCE]
    rng = np.random.default_rng(seed)
    return tuple(
        _result(name, loops[name].twin, known, _saving(base, curve, block_s, rng) if name != REFERENCE else None)
        for name, curve in curves.items()
    )


def _loop(world: World, regime: Regime, policy: Policy) -> ClosedLoop:
    """A loop that follows the policy by itself, if it is a rule."""
    return ClosedLoop(Twin(world), regime, policy if isinstance(policy, RulePolicy) else None)


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
    return _world(runs, pool, past_estimates(runs), resources, loads, seed)


def _world(
    runs: pd.DataFrame,
    pool: PoolSpec,
    estimates: Sequence[Estimate],
    resources: Sequence[ResourceSpec],
    loads: dict[str, tuple[str, ...]] | None,
    seed: int,
) -> World:
    """As `history_world`, with the estimate of each run, ended or not."""
    kept = settled(runs)
    known = runs[kept].reset_index(drop=True)
    if known.empty:
        raise InvalidInputError("history", f"{len(runs)} runs", "none of them has ended; there is nothing to replay")
    of_known = [each for each, keep in zip(estimates, kept, strict=True) if keep]
    return world_from_runs(known, pool, of_known, resources=resources, resources_of=loads, seed=seed)


def _tell_share(tell: Callable[[str, float], None], name: str, begin_s: float, end_s: float, at_s: float) -> None:
    """Tell which part of a span lies before an instant, 0 to 1."""
    tell(name, 1.0 if end_s <= begin_s else min(1.0, max(0.0, (at_s - begin_s) / (end_s - begin_s))))


def past_estimates(runs: pd.DataFrame) -> list[Estimate]:
    """What `DurationQuantiles` would have predicted for each run at its submission, from what had ended by then."""
    book = DurationQuantiles()
    work = submitted_runs(runs)
    counts = settled(runs).to_numpy()
    seconds = (runs["ended_s"] - runs["started_s"]).to_numpy()
    estimates: dict[int, Estimate] = {}
    for kind, row in run_events(runs):
        if row not in estimates:
            estimates[row] = book.estimate(work[row])
        if kind == _FINISHED_KIND and counts[row]:
            book.learn(work[row], float(seconds[row]))
    return [estimates[row] for row in range(len(runs))]


def _saving(base: SpendingCurve, other: SpendingCurve, block_s: float, rng: np.random.Generator) -> ConfidenceInterval:
    """Money saved in all and its 95 % interval, from blocks of time."""
    end_s = max(base.at_s[-1], other.at_s[-1])
    edges = np.append(np.arange(base.at_s[0], end_s, block_s), end_s)
    return bootstrap(total, [np.diff(base.spent_by(edges) - other.spent_by(edges))], rng)


def _result(name: str, twin: Twin, known: pd.DataFrame, saving: ConfidenceInterval | None) -> ReplayResult:
    """The figures of one policy."""
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
    return ReplayResult(
        policy=name,
        cost=cost,
        late_runs=int((table["ended_s"] > table["due_s"]).sum()),
        due_runs=int(table["due_s"].notna().sum()),
        weighted_late_minutes=weighted_late_minutes(cost.lateness_usd, mean_price, weight),
        wait_p50_s=float(waits.quantile(0.5)),
        wait_p95_s=float(waits.quantile(0.95)),
        runs=table,
        saving_usd=saving.value if saving else None,
        saving_low_usd=saving.low if saving else None,
        saving_high_usd=saving.high if saving else None,
    )
