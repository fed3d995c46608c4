"""The figures of an arm from the recorded starts and ends of its runs, by the objective of `prefect_intelligent`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect_intelligent.domain.objective import Cost, Prices, weighted_late_minutes
from prefect_intelligent.domain.period_cost import period_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What happened to one run; instants in Unix seconds.

    Attributes:
        id: Prefect's flow run id.
        deployment: "flow/deployment".
        queue: Its work queue.
        scheduled_s: Prefect's `expected_start_time`.
        started_s: When it took a slot (state PENDING).
        running_s: When its flow began (state RUNNING).
        finished_s: When it reached its final state and gave the slot back.
        due_s: When it should have been finished; None if it cannot be late.
        late_usd_per_hour: Price of its lateness.
        failure_usd: Price of its failure.
        failed: Whether it ended in any state but COMPLETED.
        reads_from: Ids of the runs of the same arm whose output it reads.
    """

    id: str
    deployment: str
    queue: str
    scheduled_s: float
    started_s: float
    running_s: float
    finished_s: float
    due_s: float | None
    late_usd_per_hour: float
    failure_usd: float = 0.0
    failed: bool = False
    reads_from: tuple[str, ...] = ()

    @property
    def late_s(self) -> float:
        """Seconds finished after the due instant; 0 if in time."""
        return 0.0 if self.due_s is None else max(0.0, self.finished_s - self.due_s)

    @property
    def wait_s(self) -> float:
        """Seconds from the scheduled start to the slot."""
        return max(0.0, self.started_s - self.scheduled_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The figures of one arm.

    Attributes:
        late_runs: Runs finished after they were due.
        weighted_late_minutes: Sum over runs of minutes late times the run's weight. The weight is its price of
            lateness over the mean price of all runs of the arm, so that weights average 1 and the unit stays minutes.
        cost: Capacity (busy, idle, minimum billing), lateness and failures.
        makespan_s: From the first scheduled start to the last end.
    """

    late_runs: int
    weighted_late_minutes: float
    cost: Cost
    makespan_s: float


def score_arm(runs: Sequence[RunRecord], prices: Prices, limits: Sequence[tuple[float, int]]) -> Score:
    """Score the runs of one arm.

    Args:
        runs: All runs of the arm; at least one.
        prices: Prices in force.
        limits: The pool's limit over time as (Unix seconds, slots), oldest first; the first holds from the beginning.
    """
    begin_s = min(run.scheduled_s for run in runs)
    end_s = max(run.finished_s for run in runs)
    cost = period_cost(runs, prices, limits, begin_s=begin_s, end_s=end_s)
    mean_usd_per_hour = sum(run.late_usd_per_hour for run in runs) / len(runs)
    return Score(
        late_runs=sum(run.late_s > 0 for run in runs),
        weighted_late_minutes=weighted_late_minutes(cost.lateness_usd, mean_usd_per_hour, prices.lateness_weight),
        cost=cost,
        makespan_s=end_s - begin_s,
    )


def start_places(runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Per queue the positions, from 1, of its runs in the order of starts of the whole arm."""
    places: dict[str, list[int]] = {}
    for place, run in enumerate(sorted(runs, key=lambda run: (run.started_s, run.id)), start=1):
        places.setdefault(run.queue, []).append(place)
    return places


def count_stale_reads(runs: Sequence[RunRecord]) -> int:
    """Number of times that a run began before a run whose output it reads had finished."""
    finished_s = {run.id: run.finished_s for run in runs}
    return sum(finished_s[writer] > run.running_s for run in runs for writer in run.reads_from)
