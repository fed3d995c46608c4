"""A fleet of process workers on this machine, which outlive their supervisor."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder
from prefect_intelligent.capacity.fleet_plan import FleetBounds, FleetMember, FleetPlan, plan_fleet
from prefect_intelligent.domain.backoff import backoff_s

_LEAST_LIFE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 60.0
_GIVEN_UP_S: Final = 120.0
"""A worker that has not said anything for so long after it was ordered is not waited for."""
_WORKER: Final = "prefect_intelligent.capacity.adapters.fleet_worker"


class LocalFleet:
    """Implements `Capacity` for one pool.

    Workers are processes of their own in sessions of their own: neither a signal to the supervisor nor its death
    reaches them. They start in its working folder. A supervisor finds the workers of the one before it in the folder.

    Args:
        folder: Of the fleet.
        pool: The work pool.
        bounds: What is permitted.
        env: The environment of the workers.
        prefix: Of the names of workers, unique to this machine.
        booted: Told the seconds from order to readiness of each worker that becomes ready.
        now: Gives the present, Unix seconds.
    """

    def __init__(
        self,
        folder: FleetFolder,
        pool: str,
        bounds: FleetBounds,
        *,
        env: Mapping[str, str],
        prefix: str,
        booted: Callable[[float], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._pool, self._bounds = folder, pool, bounds
        self._env, self._prefix, self._booted, self._now = dict(env), prefix, booted, now
        self._ordered: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._timed: set[str] = {name for name, report in folder.reports() if report.ready_s is not None}
        self._deaths, self._not_before_s = 0, 0.0

    def want(self, pool: str, slots: int) -> None:
        """Bring the fleet towards so many slots; another pool is nobody's business."""
        if pool == self._pool:
            self.carry_out(plan_fleet(self.members(), slots, self._bounds))

    def present(self, pool: str) -> int | None:
        """Slots of the workers that are ready and do not drain."""
        if pool != self._pool:
            return None
        reports = [report for _, report in self._folder.reports()]
        return sum(report.slots for report in reports if report.ready_s is not None and not report.draining)

    def members(self) -> tuple[FleetMember, ...]:
        """The workers that live or have been ordered."""
        self._notice_ends()
        now_s, found = self._now(), {}
        for name, report in self._folder.reports():
            if report.ready_s is not None and name not in self._timed:
                self._timed.add(name)
                self._deaths = 0
                self._booted(max(0.0, report.ready_s - report.spawned_s))
            found[name] = FleetMember(
                name=name,
                slots=report.slots,
                busy=report.busy,
                draining=report.draining or self._folder.is_asked_to_drain(name),
                idle_s=0.0 if report.idle_since_s is None else max(0.0, now_s - report.idle_since_s),
            )
        for name in self._ordered.keys() - found.keys():
            found[name] = FleetMember(name=name, slots=self._bounds.slots_each)
        return tuple(found[name] for name in sorted(found))

    def carry_out(self, plan: FleetPlan) -> None:
        """Start, drain and keep workers."""
        for name in plan.resume:
            self._folder.ask_to_stay(name)
        for name in plan.drain:
            self._folder.ask_to_drain(name)
        if plan.start > 0 and self._now() >= self._not_before_s:
            taken = {member.name for member in self.members()}
            free = (f"{self._prefix}-{number}" for number in range(1, self._bounds.most + len(taken) + 1))
            for name in [name for name in free if name not in taken][: plan.start]:
                self._start(name)

    def drain_all(self) -> int:
        """Ask every worker to end when its runs are over; returns how many there are."""
        members = self.members()
        for member in members:
            self._folder.ask_to_drain(member.name)
        return len(members)

    def close(self) -> None:
        """Leave the workers as they are."""
        self._ordered.clear()

    def _start(self, name: str) -> None:
        self._folder.forget(name)
        spawned_s = self._now()
        words = ["-m", _WORKER, "--folder", str(self._folder.path), "--name", name, "--pool", self._pool]
        words += ["--slots", str(self._bounds.slots_each), "--spawned-s", str(spawned_s)]
        with (self._folder.path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ordered[name] = process, spawned_s
        self._timed.discard(name)

    def _notice_ends(self) -> None:
        """Reap workers that have ended; one that dies young puts the next start off."""
        alive, now_s = set(self._folder.alive()), self._now()
        for name, (process, spawned_s) in list(self._ordered.items()):
            code = process.poll()
            if code is None and (name in alive or now_s - spawned_s < _GIVEN_UP_S):
                continue
            del self._ordered[name]
            if code and now_s - spawned_s < _LEAST_LIFE_S:
                self._deaths += 1
                pause_s = backoff_s(self._deaths, first_s=1.0, longest_s=_LONGEST_PAUSE_S)
                self._not_before_s = now_s + pause_s
        for path in self._folder.path.glob("*.json"):
            if path.stem not in alive and path.stem not in self._ordered:
                self._folder.forget(path.stem)
