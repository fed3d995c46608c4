"""Start and end of each live run, and the effect of a change of settings, estimated by the twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from prefect_intelligent.domain import PoolSetting, QueueSetting, Run, Snapshot
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.from_snapshot import SampledFutures, sample_futures
from prefect_intelligent.twin.spec import PoolSpec

_DAY_S: Final = 86400.0
_SHARES: Final = (0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Estimated start and end of a run over the sampled futures; instants in Unix seconds.

    Attributes:
        run: The run.
        start_p50_s: Median of the instant at which it takes a slot; None if it holds one already.
        start_p90_s: 90 % quantile.
        end_p50_s: Median of its end.
        end_p90_s: 90 % quantile.
        late_probability: Share of the futures in which it is late; None without a deadline.
    """

    run: Run
    start_p50_s: float | None
    start_p90_s: float | None
    end_p50_s: float
    end_p90_s: float
    late_probability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The effect of a change of settings on the live runs and on those that arrive within the horizon.

    Attributes:
        cost_usd: Mean objective with today's settings.
        changed_usd: Mean objective with the change.
        saving_usd: Mean of the paired difference; above 0 the change saves money.
        saving_low_usd: 5 % quantile of the difference over the futures.
        saving_high_usd: 95 % quantile.
        late_runs: Mean number of late runs with today's settings.
        changed_late_runs: The same with the change.
    """

    cost_usd: float
    changed_usd: float
    saving_usd: float
    saving_low_usd: float
    saving_high_usd: float
    late_runs: float
    changed_late_runs: float


def predict_run_times(
    snapshot: Snapshot,
    pool: PoolSpec,
    policy: Policy,
    regime: Regime,
    rng: np.random.Generator,
    *,
    futures: int = 64,
    horizon_s: float = 4 * 3600.0,
) -> tuple[Eta, ...]:
    """When the runs of the snapshot will start and end under `policy`."""
    present = sample_futures(snapshot, pool, rng, futures=futures, horizon_s=horizon_s)
    if not present.runs:
        return ()
    if snapshot.held_by_parents:
        return tuple(_never(run) for run in present.runs)
    _play(present, policy, regime, horizon_s)
    state = present.twin.state.runs[:, : len(present.runs)]
    starts, ends = _quantiles(state["first_claimed_s"]), _quantiles(state["finished_s"])
    late = (state["finished_s"] > state["due_s"]).mean(0)
    return tuple(
        Eta(
            run=run,
            start_p50_s=None if run.holds_slot else float(starts[0][at]),
            start_p90_s=None if run.holds_slot else float(starts[1][at]),
            end_p50_s=float(ends[0][at]),
            end_p90_s=float(ends[1][at]),
            late_probability=None if run.due_s is None else float(late[at]),
        )
        for at, run in enumerate(present.runs)
    )


def what_if(
    snapshot: Snapshot,
    pool: PoolSpec,
    changes: Mapping[str, int | None],
    seed: int,
    *,
    futures: int = 64,
    horizon_s: float = 4 * 3600.0,
) -> WhatIf:
    """Compare today's settings with changed ones in the same futures; no other settings change meanwhile.

    Args:
        snapshot: The pool as it is.
        pool: The twin's model of the pool.
        changes: Names as in `changed`, to values.
        seed: Seed of the futures; both sides have the same.
        futures: Number of futures.
        horizon_s: How long runs without a schedule keep arriving, seconds.

    Raises:
        InvalidInputError: A change cannot be made; `UnknownNameError` for a queue or field that does not exist.
    """
    sides = [_play_unsteered(each, pool, seed, futures, horizon_s) for each in (snapshot, changed(snapshot, changes))]
    (money, late), (other_money, other_late) = sides
    saving = money - other_money
    low, high = np.quantile(saving, (0.05, 0.95))
    return WhatIf(
        cost_usd=float(money.mean()),
        changed_usd=float(other_money.mean()),
        saving_usd=float(saving.mean()),
        saving_low_usd=float(low),
        saving_high_usd=float(high),
        late_runs=float(late.mean()),
        changed_late_runs=float(other_late.mean()),
    )


def changed(snapshot: Snapshot, changes: Mapping[str, int | None]) -> Snapshot:
    """The snapshot with other settings.

    Args:
        snapshot: The pool as it is.
        changes: "pool.limit", "QUEUE.limit" or "QUEUE.priority" to the value; None is unlimited.

    Raises:
        InvalidInputError: A value is out of range; `UnknownNameError` for a queue or field that does not exist.
    """
    for name, value in changes.items():
        target, dot, field = name.rpartition(".")
        fields = ("limit",) if target == "pool" else ("limit", "priority")
        if not dot or field not in fields:
            raise UnknownNameError("setting", name, [f"{target or 'QUEUE'}.{each}" for each in fields] + ["pool.limit"])
        if target == "pool":
            if value is not None and value < 0:
                raise InvalidInputError(name, value, "must be 0 or more, or 'none' for unlimited")
            snapshot = replace(
                snapshot, pool=PoolSetting(name=snapshot.pool.name, limit=value, paused=snapshot.pool.paused)
            )
            continue
        old = snapshot.queue(target).setting
        if field == "priority" and value is None:
            raise InvalidInputError(name, None, "a priority is a number, 1 is first")
        values = {"priority": old.priority, "limit": old.limit} | {field: value}
        new = QueueSetting(name=old.name, paused=old.paused, **values)  # type: ignore[arg-type]
        queues = tuple(replace(queue, setting=new) if queue.name == target else queue for queue in snapshot.queues)
        snapshot = replace(snapshot, queues=queues)
    return snapshot


def _play_unsteered(
    snapshot: Snapshot, pool: PoolSpec, seed: int, futures: int, horizon_s: float
) -> tuple[Array, Array]:
    """Money and late runs per future, once all runs have ended under the settings of the snapshot."""
    set_pool = replace(pool, queues=tuple(queue.setting for queue in snapshot.queues), limit=snapshot.pool.limit)
    rng = np.random.default_rng(seed)
    present = sample_futures(snapshot, set_pool, rng, futures=futures, horizon_s=horizon_s)
    present.twin.finish()
    state = present.twin.state.runs
    over_s = np.where(np.isnan(state["finished_s"]), np.inf, state["finished_s"])
    late = ((over_s > state["due_s"]) & np.isfinite(state["due_s"]) & (state["due_s"] > 0)).sum(1)
    return present.twin.money.sum(1), late


def _play(present: SampledFutures, policy: Policy, regime: Regime, horizon_s: float) -> None:
    """Let the policy decide for the horizon, then play until all runs have ended."""
    loop = ClosedLoop(present.twin, regime)
    for _ in range(int(np.ceil(horizon_s / regime.interval_s))):
        if not np.any(loop.running):
            return
        loop.step(policy.propose(loop.census))
    present.twin.finish(_DAY_S)


def _never(run: Run) -> Eta:
    """Neither start nor end is in sight."""
    start_s = None if run.holds_slot else np.inf
    late = None if run.due_s is None else 1.0
    return Eta(
        run=run, start_p50_s=start_s, start_p90_s=start_s, end_p50_s=np.inf, end_p90_s=np.inf, late_probability=late
    )


def _quantiles(instants: Array) -> tuple[Array, Array]:
    """p50 and p90 over the futures; what has not happened counts as infinitely late."""
    filled = np.where(np.isnan(instants), np.inf, instants)
    middle, high = np.quantile(filled, _SHARES, axis=0, method="higher")
    return middle, high
