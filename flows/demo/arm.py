"""One arm of the demo: the same morning, submitted to the same pool, with a controller running.

In the first arm the controller runs in shadow mode and writes nothing, so Prefect's defaults decide. All arms carry
the same load; only the writes differ. (Without a controller the hooks of `@intelligent` would steer.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.demo.arm_plan import ArmPlan
from flows.demo.environment import ROOT, Folders, child_environment
from flows.demo.pool import FINAL, POOL, SLOTS, DemoPool, Submitted
from flows.demo.processes import Child, DemoError
from flows.demo.scoring import RunRecord
from flows.demo.seed_lake import copy_lake
from flows.demo.workload import BACKFILL, MIN_BACKFILL, WARM_UP, Launch, measure_cycle_s, plan_backfill
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.decision_record import KIND
from prefect_intelligent.wiring.history import open_history

SUBMIT_S_PER_RUN = 0.12
"""Seconds allowed to create one run before the first is due, so that both arms begin with everything submitted; doubled
if it is not enough."""
LONGEST_LEAD_S = 300.0
TIMEOUT_S = 900.0
CONTROL_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The records of one arm.

    Attributes:
        name: "default", "steered" or "agent".
        policy: What its controller decides by.
        begin_s: Instant of offset 0, Unix seconds.
        runs: All runs in the order of submission.
        limits: The pool's limit over time, as (Unix seconds, slots).
        priorities: The queues' priorities over time, as (Unix seconds, queue to number).
        decisions: The controller's decisions that changed a setting, as it has recorded them.
        restored: Whether every setting of the pool was back to its original when the controller had ended.
    """

    name: str
    policy: str
    begin_s: float
    runs: tuple[RunRecord, ...]
    limits: tuple[tuple[float, int], ...]
    priorities: tuple[tuple[float, dict[str, int]], ...]
    decisions: tuple[Mapping[str, Any], ...] = ()
    restored: bool = False


def start_worker(stack: ExitStack, pool: DemoPool, folders: Folders, *, outlives_us: bool = False) -> Child:
    """Start a process worker and wait until it is online; `stack` stops it."""
    name = "worker"
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    worker = Child("worker", command, child_environment(), folders.logs / "worker.log", ROOT, outlives_us=outlives_us)
    stack.callback(worker.stop)
    worker.wait_until(lambda: pool.worker_is_online(name), 60.0)
    return worker


def start_controller(
    stack: ExitStack,
    folders: Folders,
    *,
    name: str,
    policy: str,
    mode: str,
    ship: str | None = None,
    outlives_us: bool = False,
) -> Child:
    """Start `prefect-intelligent control run` on the pool and wait for its first decision; `stack` stops it.

    A morning takes about a minute here, so it decides, and may change a value again, every two seconds. When it is
    stopped it restores the settings.

    Args:
        stack: Stops it.
        folders: Where its log goes.
        name: Of the arm, in the name of the log.
        policy: What decides.
        mode: "shadow" writes nothing, "auto" writes.
        ship: MLflow server to which it sends the records of hooks and decisions; None sends nothing.
        outlives_us: Whether it goes on when this process ends.
    """
    command = ["-m", "prefect_intelligent", "control", "run", "--pool", POOL, "--mode", mode, "--policy", policy]
    command += ["--interval", f"{CONTROL_INTERVAL_S:g}"] + (["--restore-on-exit"] if mode == "auto" else [])
    command += [] if ship is None else ["--ship", ship]
    env = child_environment(PREFECT_INTELLIGENT_GUARD__INTERVAL_S=f"{CONTROL_INTERVAL_S:g}")
    log = folders.logs / f"controller-{name}.log"
    history, asked_s = _history(folders), time.time()

    def has_decided() -> bool:
        last = history.latest(KIND, POOL)
        return last is not None and last["at_s"] > asked_s

    controller = Child("controller", command, env, log, ROOT, outlives_us=outlives_us)
    stack.callback(controller.stop)
    controller.wait_until(has_decided, 120.0)
    return controller


def warm_up(pool: DemoPool, folders: Folders, children: Sequence[Child]) -> float:
    """Run a few runs of the backfill, so that caches are warm before the first arm.

    Returns:
        Seconds from one start to the next in a slot.
    """
    launches = plan_backfill(MIN_BACKFILL)[:WARM_UP]
    submitted = pool.submit(launches, time.time(), "warm-up", folders.lake("seed")) or []
    _watch(pool, "warm-up", len(launches), children, lambda what, ended: None)
    return measure_cycle_s([pool.record(run).started_s for run in submitted], SLOTS)


def cycle_of(arm: Arm) -> float:
    """Seconds from one start to the next in a slot during the backfill of an unsteered arm."""
    return measure_cycle_s([run.started_s for run in arm.runs if run.queue == BACKFILL], SLOTS)


def play_arm(
    pool: DemoPool,
    folders: Folders,
    children: Sequence[Child],
    plan: ArmPlan,
    launches: Sequence[Launch],
    progress: Callable[[str, int], None],
) -> Arm:
    """Play the morning once.

    Args:
        pool: The pool.
        folders: Where the datasets go.
        children: Processes that have to stay alive: worker and controller.
        plan: The arm.
        launches: What to submit.
        progress: Called with the current step and the number of ended runs.

    Raises:
        DemoError: A process ended early, the runs could not be submitted, or they did not end in time.
    """
    lake = folders.lake(plan.name)
    copy_lake(folders.lake("seed"), lake)
    progress("submitting the runs", 0)
    tag = f"{plan.name}-{time.time():.0f}"
    begin_s, submitted = _submit_before_it_begins(pool, launches, tag, lake)
    limits, priorities = _watch(pool, tag, len(launches), children, progress)
    runs = tuple(pool.record(run) for run in submitted)
    return Arm(
        name=plan.name,
        policy=plan.policy,
        begin_s=begin_s,
        runs=runs,
        limits=tuple(limits),
        priorities=tuple(priorities),
        decisions=_decisions(folders, begin_s),
    )


def _history(folders: Folders) -> HistoryStore:
    """Where the controllers of the demo record their decisions."""
    return open_history(Settings(data_dir=folders.intelligent))


def _decisions(folders: Folders, begin_s: float) -> tuple[Mapping[str, Any], ...]:
    """The decisions since the beginning of an arm that changed a setting."""
    return tuple(record for record in _history(folders).records(KIND, POOL, since_s=begin_s) if record["applied"])


def _submit_before_it_begins(
    pool: DemoPool, launches: Sequence[Launch], tag: str, lake: Path
) -> tuple[float, list[Submitted]]:
    """Submit everything before the first run is due; returns the instant of offset 0 and the runs."""
    lead_s = 2.0 + SUBMIT_S_PER_RUN * len(launches)
    while lead_s <= LONGEST_LEAD_S:
        begin_s = time.time() + lead_s
        if (submitted := pool.submit(launches, begin_s, tag, lake, until_s=begin_s - 0.5)) is not None:
            return begin_s, submitted
        lead_s *= 2.0
    raise DemoError(f"{len(launches)} runs could not be submitted within {LONGEST_LEAD_S:.0f} s; is this machine busy?")


def _watch(
    pool: DemoPool, tag: str, count: int, children: Sequence[Child], progress: Callable[[str, int], None]
) -> tuple[list[tuple[float, int]], list[tuple[float, dict[str, int]]]]:
    """Wait until all runs have ended; returns the pool's limit and the priorities over time."""
    limits: list[tuple[float, int]] = []
    priorities: list[tuple[float, dict[str, int]]] = []
    give_up_s = time.monotonic() + TIMEOUT_S
    while True:
        for child in children:
            child.check()
        now_s, limit, numbers = time.time(), pool.limit(), pool.priorities()
        if not limits or limits[-1][1] != limit:
            limits.append((now_s, limit))
        if not priorities or priorities[-1][1] != numbers:
            priorities.append((now_s, numbers))
        states = pool.states(tag)
        ended = sum(state in FINAL for state in states.values())
        progress("running", ended)
        if ended == count:
            return limits, priorities
        if time.monotonic() > give_up_s:
            raise DemoError(
                f"only {ended} of {count} runs ({tag}) ended within {TIMEOUT_S:.0f} s; "
                "is this machine very busy? the logs are beside the result"
            )
        time.sleep(0.5)
