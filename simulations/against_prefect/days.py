"""Days that a real Prefect and the twin are both given: pools with what real ones have, and runs that come to them.

Runs sleep for a drawn time. Most of a day's runs come at its beginning, so that a backlog lasts for most of it: then
priorities, limits and workers decide when a run starts, and not when it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.spec import DeploymentSpec, WorkerSpec

LEAST_RUNS: Final = 12
PROCESS_DAY: Final = "queues"
"""The day that Prefect's process worker can play: no limits of workers, and no run that calls others."""
_EQUAL_S: Final = 4.0
"""How long runs work that race for the slots of a deployment: whoever wins, the others wait for as long."""
ONE_WORKER: Final = WorkerSpec(name="one")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """A day; columns have one entry per run, instants are seconds from its beginning.

    Attributes:
        name: Its name.
        queues: Queues of the pool.
        limit: Pool limit.
        deployments: Whose runs come, with their queues, limits, and when their runs call others.
        deployment: Number of each run's deployment.
        at_s: When it should start; of a run that another one calls: ignored.
        seconds: How long it works.
        calls: Shape (n, 2): parent, child.
        workers: Worker processes.
        slot_wait_s: Seconds after which a run whose deployment was full asks again.
        late_after_s: Seconds after its time from which a run that still waits is marked late.
        late_loop_s: Seconds between two times at which the server looks for such runs.
    """

    name: str
    queues: tuple[QueueSetting, ...]
    limit: int
    deployments: tuple[DeploymentSpec, ...]
    deployment: npt.NDArray[np.int64]
    at_s: Array
    seconds: Array
    calls: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    workers: tuple[WorkerSpec, ...] = (ONE_WORKER,)
    slot_wait_s: float = 4.0
    late_after_s: float = 15.0
    late_loop_s: float = 2.0

    @property
    def queue(self) -> npt.NDArray[np.int64]:
        """Number of each run's queue."""
        names = [queue.name for queue in self.queues]
        return np.array([names.index(each.queue) for each in self.deployments])[self.deployment]

    @property
    def called(self) -> npt.NDArray[np.bool_]:
        """Which runs are called by another one."""
        return np.isin(np.arange(len(self.deployment)), self.calls[:, 1])


def plan_day(name: str, runs: int, seed: int) -> DayPlan:
    """Draw a day.

    Args:
        name: One of `DAYS`.
        runs: How many runs it has, about; `LEAST_RUNS` or more.
        seed: Of instants and durations.
    """
    if name not in DAYS:
        raise UnknownNameError("day", name, DAYS)
    if runs < LEAST_RUNS:
        raise InvalidInputError("runs", runs, f"a day needs {LEAST_RUNS} or more")
    return DAYS[name](runs, np.random.default_rng(seed))


def _queues_day(runs: int, rng: np.random.Generator) -> DayPlan:
    """Three queues on two slots; one has a limit."""
    # Few urgent and normal runs, so that the median wait is one of a `bulk` run that started after all `normal` ones.
    # Before that, waits of `bulk` are far apart, and which of them is the median is chance.
    urgent, normal = max(2, runs // 12), max(2, runs // 6)
    deployment = np.repeat([0, 1, 2], [urgent, normal, runs - urgent - normal])
    return DayPlan(
        name=PROCESS_DAY,
        queues=_queues(urgent=None, normal=1, bulk=None),
        limit=2,
        deployments=_one_per_queue("urgent", "normal", "bulk"),
        deployment=deployment,
        at_s=np.where(deployment == 0, rng.uniform(5.0, 1.2 * runs, runs), rng.uniform(0.0, 1.0, runs)),
        seconds=rng.lognormal(0.5, 0.5, runs),
    )


def _workers_day(runs: int, rng: np.random.Generator) -> DayPlan:
    """Two workers with limits and queues of their own in a pool that always has room."""
    urgent, normal = max(2, runs // 12), runs // 3
    deployment = np.repeat([0, 1, 2], [urgent, normal, runs - urgent - normal])
    return DayPlan(
        name="workers",
        queues=_queues(urgent=None, normal=None, bulk=None),
        limit=6,
        deployments=_one_per_queue("urgent", "normal", "bulk"),
        deployment=deployment,
        at_s=np.where(deployment == 0, rng.uniform(5.0, 0.7 * runs, runs), _at_once(runs, rng)),
        seconds=_seconds(runs, rng),
        workers=(
            WorkerSpec(name="front", limit=1, queues=("urgent", "normal")),
            WorkerSpec(name="back", limit=2, queues=("normal", "bulk")),
        ),
    )


def _limits_day(runs: int, rng: np.random.Generator) -> DayPlan:
    """Limits of deployments: one enqueues, two cancel, one of these at the claim and one when marked late.

    What is cancelled comes by a timetable whose instants lie seconds apart, so that polls do not decide about it. The
    queue of `refresh` is as narrow as its deployment: a second run waits there until it is marked late, a third one,
    which comes later, is claimed before. A second run of `once` is claimed, and cancelled, while the first one works.
    """
    rounds, tables = max(1, runs // 16), max(2, runs // 8)
    bulk = max(2, runs - 5 * rounds - tables)
    began = 24.0 * np.repeat(np.arange(rounds), 5) + rng.uniform(0.0, 1.0, 5 * rounds)
    deployment = np.concatenate([np.tile([0, 0, 0, 1, 1], rounds), np.repeat([2, 3], [bulk, tables])])
    return DayPlan(
        name="limits",
        queues=_queues(refresh=1, once=None, bulk=2, tables=None),
        limit=6,
        deployments=(
            DeploymentSpec(name="refresh", queue="refresh", limit=1, cancels_new=True),
            DeploymentSpec(name="once", queue="once", limit=1, cancels_new=True),
            DeploymentSpec(name="bulk", queue="bulk"),
            DeploymentSpec(name="tables", queue="tables", limit=1),
        ),
        deployment=deployment,
        at_s=np.concatenate([began + np.tile([0.0, 2.5, 9.0, 2.0, 6.5], rounds), _at_once(bulk + tables, rng)]),
        seconds=np.concatenate(
            [np.tile([15.0, 3.0, 3.0, 9.0, 3.0], rounds), _seconds(bulk, rng), np.full(tables, _EQUAL_S)]
        ),
        late_after_s=8.0,
        late_loop_s=1.0,
    )


def _group_day(runs: int, rng: np.random.Generator) -> DayPlan:
    """Two deployments, in two queues, share one limit; a third one, in a queue with a limit, does not."""
    tables, views = runs // 4, runs // 4
    deployment = np.repeat([0, 1, 2], [tables, views, runs - tables - views])
    return DayPlan(
        name="group",
        queues=_queues(bulk=2, tables=None, views=None),
        limit=6,
        deployments=(
            DeploymentSpec(name="tables", queue="tables", limit=2, limit_group="writers"),
            DeploymentSpec(name="views", queue="views", limit=2, limit_group="writers"),
            DeploymentSpec(name="bulk", queue="bulk"),
        ),
        deployment=deployment,
        at_s=_at_once(runs, rng),
        seconds=np.where(deployment == 2, _seconds(runs, rng), _EQUAL_S),
    )


def _parents_day(runs: int, rng: np.random.Generator) -> DayPlan:
    """Parents keep their slots while their children wait behind others for the rest of the pool."""
    parents, each = max(2, runs // 12), 3
    rest = runs - parents * (1 + each)
    deployment = np.repeat([0, 1, 2], [parents, parents * each, rest])
    children = np.arange(parents, parents * (1 + each))
    return DayPlan(
        name="parents",
        queues=_queues(orchestrate=2, load=None, bulk=None),
        limit=4,
        deployments=(
            DeploymentSpec(name="orchestrate", queue="orchestrate", calls_at=0.5),
            DeploymentSpec(name="load", queue="load"),
            DeploymentSpec(name="bulk", queue="bulk"),
        ),
        deployment=deployment,
        at_s=_at_once(runs, rng),
        seconds=_seconds(runs, rng),
        calls=np.stack([np.repeat(np.arange(parents), each), children], axis=1),
    )


DAYS: Final[Mapping[str, Callable[[int, np.random.Generator], DayPlan]]] = MappingProxyType(
    {
        PROCESS_DAY: _queues_day,
        "workers": _workers_day,
        "limits": _limits_day,
        "group": _group_day,
        "parents": _parents_day,
    }
)


def _queues(**limits: int | None) -> tuple[QueueSetting, ...]:
    return tuple(QueueSetting(name=name, priority=n, limit=limit) for n, (name, limit) in enumerate(limits.items(), 1))


def _at_once(runs: int, rng: np.random.Generator) -> Array:
    """Instants so close that hardly any poll comes between them."""
    return rng.uniform(0.0, 0.1, runs)


def _seconds(runs: int, rng: np.random.Generator) -> Array:
    """How long runs work: several polls."""
    return rng.lognormal(1.4, 0.4, runs)


def _one_per_queue(*names: str) -> tuple[DeploymentSpec, ...]:
    return tuple(DeploymentSpec(name=name, queue=name) for name in names)
