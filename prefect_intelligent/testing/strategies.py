"""Hypothesis strategies for snapshots and censuses. Needs hypothesis (extra `dev`), so no other module imports it."""

from __future__ import annotations

from hypothesis import strategies as st

from prefect_intelligent.domain import (
    Estimate,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    Resource,
    Run,
    RunPhase,
    Snapshot,
)
from prefect_intelligent.policy.census import Census, stack, take_census

AT_S = 1_750_000_000.0
"""The instant of every drawn snapshot, Unix seconds."""

_RESOURCES = (Resource(name="api", capacity=2.0), Resource(name="warehouse", capacity=4.0))


@st.composite
def runs(draw: st.DrawFn, queue: str, number: int, phase: RunPhase) -> Run:
    """A run of `queue` in the given phase, with or without a deadline, early or late."""
    p50_s = draw(st.sampled_from((5.0, 60.0, 600.0, 7200.0)))
    span_s = draw(st.floats(0.0, 20_000.0))
    upcoming = phase is RunPhase.UPCOMING
    scheduled_s = AT_S + (1.0 + span_s / 4 if upcoming else -span_s)
    holds = phase in (RunPhase.PENDING, RunPhase.RUNNING)
    due = draw(st.none() | st.floats(1.0, 40_000.0))
    return Run(
        id=f"{queue}-{phase.value}-{number}",
        deployment=f"{queue}/d",
        queue=queue,
        phase=phase,
        scheduled_s=scheduled_s,
        started_s=draw(st.floats(scheduled_s, AT_S)) if holds else None,
        due_s=None if due is None else scheduled_s + due,
        late_usd_per_hour=draw(st.sampled_from((0.0, 0.2, 1.0, 10.0, 500.0))),
        failure_probability=draw(st.sampled_from((0.0, 0.1, 1.0))),
        estimate=Estimate(p50_s=p50_s, p90_s=p50_s * draw(st.sampled_from((1.0, 1.5, 8.0)))),
        resources=draw(st.sampled_from(((), (), ("api",), ("warehouse",), ("api", "warehouse")))),
    )


@st.composite
def queue_states(draw: st.DrawFn, name: str, priority: int, most_runs: int) -> QueueState:
    """A queue with up to `most_runs` runs in each phase; limits of 0, below the active runs and none all occur."""

    def some(phase: RunPhase) -> tuple[Run, ...]:
        count = draw(st.integers(0, most_runs))
        return tuple(draw(runs(name, number, phase)) for number in range(count))

    return QueueState(
        setting=QueueSetting(
            name=name,
            priority=priority,
            limit=draw(st.none() | st.integers(0, 2 * most_runs)),
            paused=draw(st.sampled_from((False, False, False, True))),
        ),
        waiting=tuple(sorted(some(RunPhase.WAITING), key=lambda run: (run.scheduled_s, run.id))),
        active=some(RunPhase.RUNNING),
        upcoming=tuple(sorted(some(RunPhase.UPCOMING), key=lambda run: (run.scheduled_s, run.id))),
        arrivals_per_hour=draw(st.none() | st.floats(0.0, 100.0)),
    )


@st.composite
def snapshots(draw: st.DrawFn, most_queues: int = 5, most_runs: int = 3) -> Snapshot:
    """A pool at `AT_S` with 1 to `most_queues` queues, listed in any order of priority."""
    count = draw(st.integers(1, most_queues))
    priorities = draw(st.permutations(range(1, count + 1)))
    return Snapshot(
        at_s=AT_S,
        pool=PoolSetting(name="pool", limit=draw(st.none() | st.integers(0, 12))),
        queues=tuple(draw(queue_states(f"q{i}", priorities[i], most_runs)) for i in range(count)),
        prices=Prices(
            idle_fraction=draw(st.sampled_from((0.0, 0.5, 1.0))),
            lateness_weight=draw(st.sampled_from((0.0, 0.3, 1.0, 10.0))),
        ),
        resources=_RESOURCES,
    )


@st.composite
def censuses(draw: st.DrawFn, most_queues: int = 5, most_runs: int = 3, pools: int | None = None) -> Census:
    """The census of one drawn snapshot, or a padded batch of `pools` of them."""
    if pools is None:
        return take_census(draw(snapshots(most_queues, most_runs)))
    return stack([take_census(draw(snapshots(most_queues, most_runs))) for _ in range(pools)])
