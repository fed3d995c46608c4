"""Recorded workloads as episodes: windows of consecutive runs, scaled to a given load of a pool.

A window of `RUNS` consecutive runs keeps the order and the burstiness of the recorded submissions, stretched to
`HOURS`. Durations keep the shape of their distribution and are scaled so that the offered work is a given share of the
slots; none is longer than the window. The queue of a run follows from its submitter or, where the record names none,
from its batch. Its expected duration is an average over earlier runs of the same submitter that had ended when it
arrived. No record holds prices or deadlines: they are drawn per queue, seeded by the number of the window (`_terms`).
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES, FAILS, World
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs
from simulations.traces import read_trace

RUNS: Final = 250
HOURS: Final = 8.0
_DAY_S: Final = 86400.0
_MEMORY: Final = 0.2
"""Weight of the newest run in the average that predicts the next one."""
_LEAST_SPREAD: Final = 0.3
_SHORTEST_S: Final = 1.0
_START_S: Final = 1767571200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A recorded workload and how it is split.

    Attributes:
        file: Name of the file.
        purpose: What it holds, a sentence.
        skip_s: Seconds left out at its beginning.
        test_s: Second from which on it is for the test; before that it is for validation.
        submitter: Column that names the submitter; None where only the batch is known.
    """

    file: str
    purpose: str
    skip_s: float
    test_s: float
    submitter: str | None


TRACES: Final[Mapping[str, Recorded]] = {
    "surf": Recorded(
        file="surf_month.csv.gz",
        purpose="Batch jobs of a research cluster, October 2022; the test is its last ten days.",
        skip_s=3600.0,
        test_s=20 * _DAY_S,
        submitter=None,
    ),
    "philly": Recorded(
        file="philly_2017.csv.gz",
        purpose="Deep-learning jobs of many virtual clusters, 2017; the test is its last 30 days.",
        skip_s=20 * _DAY_S,
        test_s=79 * _DAY_S,
        submitter="queue",
    ),
    "kth": Recorded(
        file="kth_sp2_1996.csv.gz",
        purpose="Batch jobs with recorded failures, 1996; the test is its last 110 days.",
        skip_s=7 * _DAY_S,
        test_s=230 * _DAY_S,
        submitter="deployment",
    ),
    "wagap": Recorded(
        file="wagap_2013.csv.gz",
        purpose="Grid jobs in the burstiest arrivals of all, 2013; the test is its last 30 days.",
        skip_s=0.0,
        test_s=59 * _DAY_S,
        submitter="deployment",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Consecutive runs of a record.

    Attributes:
        submit_s: Seconds from the beginning, stretched to `HOURS`.
        work_s: Recorded seconds of work.
        expected_s: Duration predicted when each arrived, recorded seconds.
        spread: Standard deviation of the log error of such predictions at that time.
        failed: Whether each failed.
        key: Number of the submitter (or of the batch).
    """

    submit_s: Array
    work_s: Array
    expected_s: Array
    spread: Array
    failed: npt.NDArray[np.bool_]
    key: Array

    @staticmethod
    def queues(count: int) -> tuple[QueueSetting, ...]:
        """`count` queues with the names that `world` assigns runs to."""
        return tuple(QueueSetting(name=f"q{number:02d}", priority=number + 1) for number in range(count))

    def world(self, queues: int, slots: int, factor: float, seed: int, pool: PoolSpec | None = None) -> World:
        """The window in a pool.

        Args:
            queues: Number of queues.
            slots: Slots at the beginning; up to four times as many can be bought.
            factor: Factor on durations, see `load_factor`.
            seed: Of prices, deadlines, polls and start-up times.
            pool: Infrastructure and prices, with `Window.queues`; None takes nodes that boot in two minutes.
        """
        rng = np.random.default_rng([seed, queues, slots, 17])
        queue = _assign_queues(self.key, queues)
        work = _scaled(self.work_s, factor)
        expected = np.maximum(self.expected_s * factor, _SHORTEST_S)
        value, within_s = _terms(queue, work, queues, rng)
        at_s = _START_S + self.submit_s
        runs = Runs(
            deployment=queue,
            scheduled_s=at_s,
            known_s=at_s,
            work_s=work,
            p50_s=np.minimum(expected, HOURS * 3600.0),
            spread=self.spread,
            due_s=at_s + within_s[queue],
            due_within_s=np.full(len(at_s), np.inf),
            outcome_source=np.where(self.failed, FAILS, COMPLETES).astype(np.int8),
            edges=np.zeros((0, 2), dtype=np.int64),
        )
        if pool is None:
            pool = PoolSpec(
                queues=self.queues(queues),
                limit=slots,
                prices=Prices(slot_usd_per_hour=0.2, idle_fraction=1.0),
                max_slots=4 * slots,
                boot_s=120.0,
                cooldown_s=60.0,
                poll_s=5.0,
                startup_s=10.0,
            )
        deployments = [
            DeploymentSpec(name=f"of {queue.name}", queue=queue.name, late_usd_per_hour=float(price), failure_usd=0.0)
            for queue, price in zip(pool.queues, value, strict=True)
        ]
        return build_world([pool], deployments, runs, seed=seed, start_s=_START_S)


def _assign_queues(key: Array, queues: int) -> npt.NDArray[np.int64]:
    """The queue of every run: submitters are assigned to queues in turn, the busiest first."""
    _, number, count = np.unique(key, return_inverse=True, return_counts=True)
    place = np.empty(len(count), dtype=np.int64)
    place[np.argsort(-count, kind="stable")] = np.arange(len(count))
    queue: npt.NDArray[np.int64] = place[number] % queues
    return queue


def _terms(queue: npt.NDArray[np.int64], work_s: Array, queues: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Price of lateness (US dollars per hour) and time allowed (seconds) of every queue.

    Prices are 0.5, 2 and 10 in random order; the time is 1.5 to 6 times the 75 % quantile of the queue's work, at least
    five minutes.
    """
    value = rng.permutation(np.resize([10.0, 2.0, 0.5], queues))
    stretch = rng.uniform(1.5, 6.0, queues)
    typical = np.array(
        [np.quantile(work_s[queue == number], 0.75) if (queue == number).any() else 60.0 for number in range(queues)]
    )
    return value, np.maximum(300.0, stretch * typical)


def load_factor(work_s: Array, slots: float) -> float:
    """The factor on durations with which the work fills `slots` slots for `HOURS`; by bisection."""
    wanted = slots * HOURS * 3600.0
    low, high = 1e-6, 1e6
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _scaled(work_s, middle).sum() < wanted else (low, middle)
    return float((low * high) ** 0.5)


def _scaled(work_s: Array, factor: float) -> Array:
    scaled: Array = np.clip(work_s * factor, _SHORTEST_S, HOURS * 3600.0)
    return scaled


@lru_cache(maxsize=16)
def trace_windows(name: str, folder: Path, split: str) -> tuple[Window, ...]:
    """The windows of one split, without overlap and in random order, so that the first few cover all of its time."""
    recorded = TRACES[name]
    runs = read_trace(folder / recorded.file).runs
    runs = runs[runs["submit_s"] >= recorded.skip_s].reset_index(drop=True)
    work = np.maximum(runs["duration_s"].to_numpy(float), _SHORTEST_S)
    submit = runs["submit_s"].to_numpy(float)
    key = _keys(runs, recorded)
    expected, spread = past_estimates(submit, work, key)
    failed = runs["failed"].fillna(False).to_numpy(bool)
    chosen = np.flatnonzero((submit >= recorded.test_s) == (split == "test"))
    windows = []
    for first in range(0, len(chosen) - RUNS + 1, RUNS):
        rows = chosen[first : first + RUNS]
        at_s = submit[rows] - submit[rows[0]]
        windows.append(
            Window(
                submit_s=at_s * (HOURS * 3600.0 / max(at_s[-1], 1.0)),
                work_s=work[rows],
                expected_s=expected[rows],
                spread=spread[rows],
                failed=failed[rows],
                key=key[rows],
            )
        )
    return tuple(windows[place] for place in np.random.default_rng(0).permutation(len(windows)))


def _keys(runs: pd.DataFrame, recorded: Recorded) -> Array:
    """A number per submitter, or per batch where the record names no submitter."""
    names = runs["submit_s"].astype(str) if recorded.submitter is None else runs[recorded.submitter].astype(str)
    codes = {name: float(zlib.crc32(name.encode())) for name in names.unique()}
    found: Array = names.map(codes).to_numpy(float)
    return found


def past_estimates(submit_s: Array, work_s: Array, key: Array) -> tuple[Array, Array]:
    """Predicted duration of each run when it arrived, and the spread of such predictions so far, each shape (runs,).

    Exponential averages of logarithms over runs that had ended by then: of the same key if there are any, else of all.

    Args:
        submit_s: When each run arrived, ascending.
        work_s: How long each worked.
        key: Number of its submitter or batch.
    """
    logs = np.log(work_s)
    ended: list[tuple[float, int]] = []
    of_key: dict[float, float] = {}
    of_all, error = float(np.log(600.0)), 1.0
    expected, spread = np.empty(len(logs)), np.empty(len(logs))
    for row, (at_s, submitter) in enumerate(zip(submit_s, key, strict=True)):
        while ended and ended[0][0] <= at_s:
            _, past = heapq.heappop(ended)
            miss = abs(logs[past] - np.log(expected[past]))
            error += 0.02 * (miss - error)
            before = of_key.get(key[past], of_all)
            of_key[key[past]] = before + _MEMORY * (logs[past] - before)
            of_all += 0.02 * (logs[past] - of_all)
        expected[row] = np.exp(of_key.get(submitter, of_all))
        spread[row] = max(_LEAST_SPREAD, 1.25 * error)  # mean absolute error to standard deviation
        heapq.heappush(ended, (at_s + work_s[row], row))
    return expected, spread
