"""A simulated month with injected faults, with retries alone or with the rules of prevention on top.

The rules see what they see in production: ended runs with state, cause, version, host and attempts, and running ones.
The faults are described by `InjectedFaults`, which only `FaultyMonth` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Prices, QueueSetting
from prefect_intelligent.domain.objective import busy_usd
from prefect_intelligent.forecasting.duration_baseline import DurationQuantiles
from prefect_intelligent.forecasting.point_in_time_features import SubmittedRun
from prefect_intelligent.prevention.engine import prevent
from prefect_intelligent.prevention.evidence import MOST_RUNS, EndedRun, Evidence, LiveRun
from prefect_intelligent.prevention.measures import DAY_S, RuleSettings
from prefect_intelligent.prevention.rules import RULES
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.prevention_actions import InMemoryPreventionActions
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.state import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    DELAYED,
    FAILED,
    NOT_CREATED,
    PENDING,
    RESUMING,
    RUNNING,
    WAITING,
)
from prefect_intelligent.twin.model.stop_run import stop_run
from prefect_intelligent.twin.model.world import COMPLETES, CRASHES, DRAWN, FAILS
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, Runs

START_S: Final = 1_767_225_600.0  # 2026-01-01
DAYS: Final = 30
HOUR_S: Final = 3600.0
TICK_S: Final = 300.0
_FINE_S: Final = 60.0
HOSTS: Final = ("host-a", "host-b", "host-c", "host-d")
SOURCE: Final = "ingest/hourly"
READERS: Final = tuple(f"mart-{n}/hourly" for n in range(5))
LOADERS: Final = tuple(f"load-{n}/hourly" for n in range(10))
OTHERS: Final = tuple(f"job-{n:02}/hourly" for n in range(14))
NAMES: Final = (SOURCE, *READERS, *LOADERS, *OTHERS)
PRICES: Final = Prices(slot_usd_per_hour=0.5, idle_fraction=1.0)
FAILURE_USD: Final = 2.0
MORE_MEMORY_USD: Final = 0.25
"""Share of a slot's price that each doubling of memory adds."""

NOISE: Final = "RuntimeError: something rare"
TIMEOUT: Final = "ReadTimeout: the service did not answer"
DISK: Final = "OSError: [Errno 5] input/output error"
MEMORY: Final = "the process was killed with exit code 137"
INPUT: Final = "ValueError: column 'amount' is missing"
SOURCE_DOWN: Final = "HTTPError: 403 from the partner's server"
RELEASE: Final = "KeyError: 'currency'"
LOAD: Final = "OperationalError: too many connections"
HUNG: Final = "the run was crashed by a person after a day"
MODE_OF: Final[Mapping[str, str]] = {
    DISK: "flaky host",
    MEMORY: "memory leak",
    INPUT: "bad upstream day",
    SOURCE_DOWN: "bad upstream day",
    RELEASE: "bad release",
    LOAD: "overloaded warehouse",
    HUNG: "hung run",
}
MODES: Final = ("flaky host", "memory leak", "bad upstream day", "bad release", "overloaded warehouse", "hung run")


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFaults:
    """The faults of a month; instants in seconds from its beginning.

    Attributes:
        host: Index of the flaky host, on which most attempts fail from `host_s` on for three days.
        host_s: See `host`.
        leaker: Index of the deployment whose need of memory grows from `leak_s` until a new version at `mended_s`.
        leak_s, mended_s: See `leaker`.
        source_s: The source is down for twenty hours from then on, and its readers fail.
        released: Index of the deployment that gets a bad version at `release_s` and a good one four days later.
        release_s: See `released`.
        warehouse_s: The warehouse serves three at once instead of twelve for four days from then on.
        hung: Numbers of the runs that hang.
        unsteady: Share of the attempts of each deployment that fail at random, shape (deployments,).
    """

    host: int
    host_s: float
    leaker: int
    leak_s: float
    mended_s: float
    source_s: float
    released: int
    release_s: float
    warehouse_s: float
    hung: frozenset[int]
    unsteady: npt.NDArray[np.float64]


@dataclass(slots=True)
class MonthResult:
    """Results of a month; arrays have shape (runs,).

    Attributes:
        outcome: Final phase of each run.
        cause: Failure message of each run that did not complete.
        wasted_usd: Cost of each run's attempts without result, and of its failure.
        delay_s: From scheduled to first claimed; NaN if never.
        held: Runs that a hold kept from starting.
        limited: Runs that a shared limit kept waiting for more than a quarter of an hour.
        stopped: Runs that were stopped.
        steps: Records of the measures that prevention took.
    """

    outcome: npt.NDArray[np.int8]
    cause: list[str | None]
    wasted_usd: npt.NDArray[np.float64]
    delay_s: npt.NDArray[np.float64]
    held: set[int] = field(default_factory=set)
    limited: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which runs did not complete."""
        bad: npt.NDArray[np.bool_] = self.outcome != COMPLETED
        return bad


class FaultyMonth:
    """The month of one seed: a twin, and the faults in it.

    Args:
        seed: Of all draws.
        days: Its length.
    """

    def __init__(self, seed: int, days: int = DAYS) -> None:
        rng = np.random.default_rng(seed)
        self.days = days
        hours = days * 24
        median_s = rng.uniform(180.0, 720.0, len(NAMES))
        median_s[[NAMES.index(name) for name in LOADERS]] = 900.0
        minute = rng.integers(0, 60, len(NAMES)).astype(float)
        minute[[NAMES.index(name) for name in LOADERS]] = 0.0
        minute[0] = 5.0
        minute[[NAMES.index(name) for name in READERS]] = 30.0
        deployment = np.tile(np.arange(len(NAMES)), hours)
        scheduled = START_S + np.repeat(np.arange(hours) * HOUR_S, len(NAMES)) + minute[deployment] * 60.0
        order = np.argsort(scheduled, kind="stable")
        self.deployment, self.scheduled = deployment[order], scheduled[order]
        n = len(order)
        self.work_s = median_s[self.deployment] * np.exp(rng.normal(0.0, 0.25, n))
        self.draw = rng.random((n, 6, 3))
        self.hosts = rng.permuted(np.tile(np.arange(len(HOSTS)), (n, 1)), axis=1)
        late = np.arange(int(0.3 * n), n)
        unsteady = np.full(len(NAMES), 0.01)
        unsteady[rng.choice(len(NAMES), 4, replace=False)] = 0.05
        leaker, released = rng.choice(np.arange(len(NAMES) - len(OTHERS), len(NAMES)), 2, replace=False)
        at = rng.uniform(0.25, 0.75, 5) * days * DAY_S
        self.faults = InjectedFaults(
            host=int(rng.integers(len(HOSTS))),
            host_s=float(at[0]),
            leaker=int(leaker),
            leak_s=float(at[1]),
            mended_s=float(at[1] + 6 * DAY_S),
            source_s=float(at[2]),
            released=int(released),
            release_s=float(at[3]),
            warehouse_s=float(at[4]),
            hung=frozenset(int(run) for run in rng.choice(late, 4, replace=False)),
            unsteady=unsteady,
        )
        specs = [
            DeploymentSpec(
                name=name,
                queue="all",
                failure_usd=FAILURE_USD,
                retries=2,
                retry_delay_s=600.0,
                crash_retries=1,
                resources=("warehouse",) if name in LOADERS else (),
            )
            for name in NAMES
        ]
        never, zeros = np.full(n, np.inf), np.zeros(n)
        runs = Runs(
            deployment=self.deployment,
            scheduled_s=self.scheduled,
            known_s=-never,
            work_s=self.work_s.copy(),
            p50_s=median_s[self.deployment],
            spread=zeros + 0.25,
            due_s=never,
            due_within_s=never,
            outcome_source=np.full(n, DRAWN, dtype=np.int8),
            edges=np.empty((0, 2), dtype=np.int64),
        )
        pool = PoolSpec(queues=(QueueSetting(name="all", priority=1),), limit=60, prices=PRICES, owned=False)
        warehouse = ResourceSpec(name="warehouse", capacity=12.0, slowdown=0.3, failure=1.0)
        self.twin = Twin(build_world([pool], specs, runs, resources=[warehouse], seed=seed, start_s=START_S))

    def version(self, deployment: int, at_s: float, rolled_back: bool) -> str:
        """Version of a run that starts at `at_s`."""
        since = at_s - START_S
        if deployment == self.faults.released and since >= self.faults.release_s:
            if since >= self.faults.release_s + 4 * DAY_S:
                return "v3"
            return "v1" if rolled_back else "v2"
        if deployment == self.faults.leaker and since >= self.faults.mended_s:
            return "v2"
        return "v1"

    def failure_of(self, run: int, attempt: int, host: int, at_s: float, memory: float, version: str) -> str | None:
        """Failure message of an attempt that starts at `at_s`; None if it succeeds or the twin's warehouse decides."""
        faults, deployment, since = self.faults, int(self.deployment[run]), at_s - START_S
        noise, on_host, by_version = self.draw[run, min(attempt, self.draw.shape[1] - 1)]
        if run in faults.hung and attempt == 0:
            return HUNG
        if NAMES[deployment] == SOURCE and 0 <= since - faults.source_s < 20 * HOUR_S:
            return SOURCE_DOWN
        if NAMES[deployment] in READERS and HOUR_S / 2 <= since - faults.source_s < 20.5 * HOUR_S:
            return INPUT
        if host == faults.host and 0 <= since - faults.host_s < 3 * DAY_S and on_host < 0.75:
            return DISK
        if deployment == faults.leaker and faults.leak_s <= since < faults.mended_s:
            need = 0.6 + 0.3 * (since - faults.leak_s) / DAY_S
            if need > memory:
                return MEMORY
        if version == "v2" and deployment == faults.released and by_version < 0.8:
            return RELEASE
        if noise < faults.unsteady[deployment]:
            return TIMEOUT if noise < faults.unsteady[deployment] / 2 else NOISE
        return None


class _TwinActions(InMemoryPreventionActions):
    """Actions of prevention on the runs of a month."""

    def __init__(self, world: FaultyMonth, month: MonthResult) -> None:
        versions = {name: {"memory": 1.0, "avoid": True} for name in NAMES}
        super().__init__(deployments=versions)
        self._world, self._month = world, month
        self.rolled_back: set[str] = set()

    def stop(self, run: str, why: str) -> bool:
        """Crash the run; every deployment has one crash retry, which runs it again."""
        twin = self._world.twin
        if not stop_run(twin.world, twin.state, 0, int(run), CRASHED):
            return False
        self._month.stopped.add(int(run))
        return True

    def finish_stop(self, run: str, *, again: bool) -> bool:
        """At once."""
        return True

    def roll_back(self, deployment: str, version: str | None) -> bool:
        """To version 1."""
        self.rolled_back.add(deployment)
        return True

    def postpone(self, runs: Any, until_s: float) -> tuple[str, ...]:
        """Not modelled by the twin."""
        return ()


def simulate(world: FaultyMonth, *, settings: Mapping[str, RuleSettings] | None) -> MonthResult:
    """Simulate a month; it can be simulated again, because the twin is begun anew.

    Args:
        world: The month.
        settings: Settings of each rule of prevention; None is retries alone.
    """
    return _Simulation(world, settings).run()


class _Simulation:
    def __init__(self, world: FaultyMonth, settings: Mapping[str, RuleSettings] | None) -> None:
        self._world, self._twin, self._settings = world, world.twin, settings
        n = len(world.deployment)
        self._month = MonthResult(
            outcome=np.zeros(n, dtype=np.int8),
            cause=[None] * n,
            wasted_usd=np.zeros(n),
            delay_s=np.full(n, np.nan),
        )
        self._actions = _TwinActions(world, self._month)
        self._history = InMemoryHistory()
        self._ended: dict[str, list[EndedRun]] = {name: [] for name in NAMES}
        self._book = DurationQuantiles()
        self._facts: dict[int, tuple[int, str, str | None, float]] = {}
        self._first = 0

    def run(self) -> MonthResult:
        twin, world = self._twin, self._world
        world.twin.world.runs["work_s"][0], world.twin.world.runs["outcome_source"][0] = world.work_s, DRAWN
        twin.begin()
        end_s = START_S + world.days * DAY_S
        now_s = START_S
        while now_s < end_s + 2 * DAY_S and not bool(twin.done[0]):
            self._prepare(now_s, TICK_S)
            until = now_s + TICK_S
            while now_s < until:
                self._set_limits(now_s)
                now_s = until if not self._shares() else min(until, now_s + _FINE_S)
                twin.advance(now_s)
            self._record_ended(now_s)
            if self._settings is not None:
                self._prevent(now_s)
        return self._month

    def _window(self, until_s: float) -> tuple[int, int]:
        """First and last number (exclusive) of the runs that may be active or waiting."""
        phase = self._twin.state.runs["phase"][0]
        while self._first < len(phase) and phase[self._first] >= COMPLETED and self._first not in self._facts:
            self._first += 1
        return self._first, int(np.searchsorted(self._world.scheduled, until_s + 60.0))

    def _prepare(self, now_s: float, span_s: float) -> None:
        """Decide the outcome of the next attempt of every run that may start within `span_s`."""
        world, state, truth = self._world, self._twin.state.runs[0], self._twin.world.runs[0]
        since = now_s - START_S - world.faults.warehouse_s
        self._twin.world.resources["capacity"][0, 0] = 3.0 if 0 <= since < 4 * DAY_S else 12.0
        first, behind = self._window(now_s + span_s)
        phases = state["phase"][first:behind]
        idle = (NOT_CREATED, WAITING, DELAYED, RESUMING)
        for run in (np.flatnonzero(np.isin(phases, idle)) + first).tolist():
            deployment = int(world.deployment[run])
            name = NAMES[deployment]
            own = state[run]
            host = self._facts[run][0] if own["phase"] == RESUMING else self._host(run, name, int(own["crashes"]))
            version = world.version(deployment, now_s, name in self._actions.rolled_back)
            memory = self._actions.memory(name)
            attempt = int(own["failures"]) + int(own["crashes"])
            cause = world.failure_of(run, attempt, host, now_s, memory, version)
            self._facts[run] = (host, version, cause, memory)
            self._decide(truth, run, cause, name)

    def _host(self, run: int, name: str, crashes: int) -> int:
        avoided = self._actions.avoided(name)
        allowed = [int(h) for h in self._world.hosts[run] if HOSTS[h] not in avoided] or [
            int(self._world.hosts[run][0])
        ]
        return allowed[crashes % len(allowed)]

    def _decide(self, truth: Any, run: int, cause: str | None, name: str) -> None:
        work = float(self._world.work_s[run])
        if cause is None:
            source = DRAWN if name in LOADERS else COMPLETES
        elif cause == HUNG:
            source, work = CRASHES, DAY_S
        else:
            source, work = (CRASHES if cause == MEMORY else FAILS), 0.7 * work
        truth["outcome_source"][run], truth["work_s"][run] = source, work

    def _shares(self) -> bool:
        return any(kind == "share" for done in self._actions.done.values() for kind, _ in done.values())

    def _set_limits(self, now_s: float) -> None:
        """Apply holds and shared limits as limits of deployments; free slots go to the runs that wait longest."""
        if self._settings is None:
            return
        limit = self._twin.world.deployments["limit"][0]
        running = self._twin.state.deployment_active[0]
        limit[:] = np.inf
        first, behind = self._window(now_s)
        phase = self._twin.state.runs["phase"][0, first:behind]
        waits = (np.flatnonzero((phase == WAITING) | (phase == DELAYED)) + first).tolist()
        held = {name for name in NAMES if self._actions.slots(name) == 0}
        for name in held:
            limit[NAMES.index(name)] = 0.0
        for done in self._actions.done.values():
            members = [NAMES.index(name) for name, (kind, _) in done.items() if kind == "share"]
            if not members:
                continue
            most = min(int(amount) for kind, amount in done.values() if kind == "share")
            free = most - int(sum(running[d] for d in members))
            for d in members:
                limit[d] = min(limit[d], float(running[d]))
            for run in waits:
                d = int(self._world.deployment[run])
                if free > 0 and d in members and NAMES[d] not in held and limit[d] <= running[d]:
                    limit[d] += 1.0
                    free -= 1
        for run in waits:
            if self._world.scheduled[run] > now_s:
                continue
            name = NAMES[int(self._world.deployment[run])]
            probing = self._actions.slots(name) == 1 and name not in LOADERS
            if name in held or probing:
                self._month.held.add(run)
            elif name in LOADERS and self._shares() and now_s - self._world.scheduled[run] > 900.0:
                self._month.limited.add(run)

    def _record_ended(self, now_s: float) -> None:
        """Add runs that have ended to the history and the results."""
        state = self._twin.state.runs[0]
        first, behind = self._window(now_s)
        over = [
            r for r in (np.flatnonzero(state["phase"][first:behind] >= COMPLETED) + first).tolist() if r in self._facts
        ]
        for run in sorted(over, key=lambda r: float(state["finished_s"][r])):
            own = state[run]
            host, version, cause, memory = self._facts.pop(run)
            name = NAMES[int(self._world.deployment[run])]
            phase = int(own["phase"])
            self._month.outcome[run] = phase
            self._month.delay_s[run] = own["first_claimed_s"] - own["scheduled_s"]
            if phase == CANCELLED:
                continue
            failed = phase in (FAILED, CRASHED)
            why = (cause or LOAD) if failed else None
            self._month.cause[run] = why
            useful = 0.0 if failed else float(own["finished_s"] - own["claimed_s"])
            lost = busy_usd(float(own["held_s"]) - useful, PRICES.slot_usd_per_hour, 0.0)
            extra = MORE_MEMORY_USD * np.log2(memory) * busy_usd(useful, PRICES.slot_usd_per_hour, 0.0)
            self._month.wasted_usd[run] = lost + extra + (FAILURE_USD if failed else 0.0)
            attempts = 1 + int(own["failures"]) + int(own["crashes"])
            took = float(own["finished_s"] - own["claimed_s"])
            runs = self._ended[name]
            runs.append(
                EndedRun(
                    name, version, HOSTS[host], float(own["first_claimed_s"]), float(own["finished_s"]), failed,
                    why, attempts, FAILURE_USD,
                )
            )  # fmt: skip
            if len(runs) > 2 * MOST_RUNS:
                del runs[:MOST_RUNS]
            if not failed and attempts == 1:
                self._book.learn(SubmittedRun("", name), took)

    def _prevent(self, now_s: float) -> None:
        state = self._twin.state.runs[0]
        first, behind = self._window(now_s)
        phase = state["phase"][first:behind]
        at_work = (np.flatnonzero((phase == RUNNING) | (phase == PENDING)) + first).tolist()
        evidence = Evidence(
            now_s=now_s,
            ended=self._ended,
            live=[
                LiveRun(str(run), NAMES[int(self._world.deployment[run])], float(self._world.scheduled[run]),
                     float(state["claimed_s"][run]), None)
                for run in at_work
            ],
            longest_s=self._book.longest_usual_s,
            upstream=dict.fromkeys(READERS, (SOURCE,)),
            resources=dict.fromkeys(LOADERS, ("warehouse",)),
        )  # fmt: skip
        self._month.steps += prevent(evidence, self._history, self._actions, "all", settings=self._settings)


def all_settings() -> dict[str, RuleSettings]:
    """Settings with every rule acting, within its default budget."""
    return {name: RuleSettings(mode="auto", again=True) for name in RULES}
