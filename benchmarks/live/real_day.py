"""A day on a real Prefect server under one arm: pool, worker, controller, submissions, and what it has cost."""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.live.arms import Arm
from benchmarks.live.day import Day, PlayedRun, day_cost
from benchmarks.live.fast_time import FastTime
from benchmarks.live.live_pool import LiveDayError, LivePool, mean_gap_s
from benchmarks.live.steer import READY
from prefect_intelligent.domain import Cost
from prefect_intelligent.settings import Settings
from prefect_intelligent.steering.decision_record import KIND
from prefect_intelligent.wiring.history import open_history
from tests.real_prefect import Process, RealServer

_LEAD_S: Final = 4.0
"""Seconds of the clock from when all are ready to the begin of a day."""
_START_S: Final = 600.0
_WATCH_S: Final = 0.25
_SPARE_S: Final = 60.0
_QUIET: Final = {"PREFECT_LOGGING_TO_API_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "WARNING"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDay:
    """What happened on a day; in seconds of the day unless it says otherwise.

    Attributes:
        cost: What it has cost.
        runs: Its runs, in the order of the day.
        lasted_s: From its begin to the end of its last run.
        clock_s: Seconds of the clock from the first submission to the end.
        decisions: Passes of the controller.
        decided_first_s: When the first was made, from the begin; None without any.
        decided_every_s: Mean time between two of them; None below two.
        decision_took_s: Median duration of one; None without any.
        polled_every_s: Mean time between two polls of the worker.
        held_longer_s: Mean time for which a run held its slot beyond start-up and work.
        submitted_late: Runs that were submitted after they should have started.
    """

    cost: Cost
    runs: tuple[PlayedRun, ...]
    lasted_s: float
    clock_s: float
    decisions: int
    decided_first_s: float | None
    decided_every_s: float | None
    decision_took_s: float | None
    polled_every_s: float | None
    held_longer_s: float
    submitted_late: int


def play_day(server: RealServer, day: Day, arm: Arm, factor: float, folder: Path) -> LiveDay:
    """Play a day in a pool of its own.

    Args:
        server: The server.
        day: The day.
        arm: Who steers.
        factor: Seconds of the day in a second of the clock.
        folder: For the logs of worker and controller, and the controller's history.

    Raises:
        LiveDayError: A process ended, a run did not complete, or the day could not begin or took far too long.
    """
    began_s = time.time()
    folder = folder / f"{arm.name}-{day.seed}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    begin = folder / "begin.json"
    settings = arm.settings(folder.name, day.pool, folder)
    with ExitStack() as stack:
        pool = stack.enter_context(closing(LivePool(server, day, folder.name)))
        crew = [_start_worker(server, day, factor, folder)]
        stack.callback(crew[0].stop)
        if arm.policy is not None:
            crew.append(_start_controller(server, settings, pool.name, begin, folder))
            stack.callback(crew[1].stop)
        _wait_until_ready(pool, crew)
        lead_s = _LEAD_S + pool.create_s * len(pool.known)
        fast = FastTime(begin_s=time.time() + lead_s, day_begin_s=day.scenario.start_s, factor=factor)
        _write(begin, asdict(fast))
        pool.submit_known(fast)
        if time.time() > fast.begin_s:
            raise LiveDayError("the day should have begun before its runs had been created; is this machine busy?")
        for _ in pool.submit_in_time(fast):
            _check(crew)
        _wait_for_the_end(pool, day, fast, crew)
        ended_s = time.time()
        runs = pool.records(fast)
        late = pool.late
    decisions = open_history(settings).records(KIND, folder.name) if arm.policy is not None else ()
    end_s = max(run.finished_s for run in runs)
    decided = [record for record in decisions if record["at_s"] <= end_s]
    period_s = mean_gap_s(json.loads((folder / "polls.json").read_text(encoding="utf-8")))
    return LiveDay(
        cost=day_cost(runs, day.pool.prices, list(_limits(day, decided, factor)), fast.day_begin_s),
        runs=tuple(runs),
        lasted_s=end_s - fast.day_begin_s,
        clock_s=ended_s - began_s,
        decisions=len(decided),
        decided_first_s=decided[0]["at_s"] - fast.day_begin_s if decided else None,
        decided_every_s=mean_gap_s([record["at_s"] for record in decided]),
        decision_took_s=factor * statistics.median([r["wall_ms"] for r in decided]) / 1e3 if decided else None,
        polled_every_s=None if period_s is None else factor * period_s,
        held_longer_s=_held_longer_s(day, runs),
        submitted_late=late,
    )


def _write(path: Path, values: Mapping[str, float]) -> None:
    """Write JSON so that no one reads half of it."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(values), encoding="utf-8")
    draft.replace(path)


def _wait_until_ready(pool: LivePool, crew: Sequence[Process]) -> None:
    """Wait until the worker has reported and the controller only waits for the begin."""
    give_up_s = time.monotonic() + _START_S
    while not (pool.has_worker() and all(READY in process.tail() for process in crew[1:])):
        _check(crew)
        if time.monotonic() > give_up_s:
            raise LiveDayError(f"worker or controller of pool {pool.name} was not ready within {_START_S:g} s")
        time.sleep(0.1)


def _start_worker(server: RealServer, day: Day, factor: float, folder: Path) -> Process:
    command = ["-m", "benchmarks.live.holding_worker", "--pool", folder.name, "--factor", f"{factor:g}"]
    command += ["--poll", f"{day.pool.poll_s:g}", "--startup", f"{day.pool.startup_s:g}", "--seed", str(day.seed)]
    command += ["--report", str(folder / "polls.json")]
    return Process([sys.executable, *command], server.env(**_QUIET), folder / "worker.log")


def _start_controller(server: RealServer, settings: Settings, pool: str, begin: Path, folder: Path) -> Process:
    command = ["-m", "benchmarks.live.steer", "--pool", pool, "--settings", settings.model_dump_json()]
    command += ["--begin", str(begin)]
    return Process([sys.executable, *command], server.env(**_QUIET), folder / "controller.log")


def _check(crew: Sequence[Process]) -> None:
    """Raise if a process has ended."""
    for process in crew:
        if (code := process.popen.poll()) is not None:
            raise LiveDayError(f"{process.log.stem} ended with code {code}; its log {process.log} ends with:\n"
                               f"{process.tail(12)}")  # fmt: skip


def _wait_for_the_end(pool: LivePool, day: Day, fast: FastTime, crew: Sequence[Process]) -> None:
    """Wait until all runs have ended; at most as long as they take one after the other."""
    last_s = max(run.scheduled_s for run in day.runs)
    give_up_s = fast.on_clock(last_s + sum(run.work_s + day.pool.startup_s for run in day.runs)) + _SPARE_S
    while (ended := pool.ended()) < len(day.runs):
        _check(crew)
        if time.time() > give_up_s:
            raise LiveDayError(f"only {ended} of {len(day.runs)} runs in pool {pool.name} ended")
        time.sleep(_WATCH_S)


def _limits(day: Day, decisions: Sequence[dict[str, Any]], factor: float) -> Iterator[tuple[float, int | None]]:
    """The pool's limit over time, from the controller's own record of what it has written."""
    yield day.scenario.start_s, day.pool.limit
    for record in decisions:
        for queue, _, _, after in record["applied"]:
            if queue is None:
                yield record["at_s"] + factor * record["wall_ms"] / 1e3, after


def _held_longer_s(day: Day, runs: Sequence[PlayedRun]) -> float:
    return statistics.fmean(
        played.finished_s - played.started_s - planned.work_s - day.pool.startup_s
        for played, planned in zip(runs, day.runs, strict=True)
    )
