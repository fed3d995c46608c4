"""Which workers of a fleet are started, drained, or kept although they were to end: pure decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefect_intelligent.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMember:
    """A worker that is alive.

    Attributes:
        name: Its name, unique in the fleet.
        slots: Runs that it carries at once.
        busy: Runs that it carries now.
        draining: Whether it has been asked to end: it takes no new run.
        idle_s: Seconds since it carried a run, or since it was ready; 0 while it is busy or not ready.
    """

    name: str
    slots: int
    busy: int = 0
    draining: bool = False
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBounds:
    """What an operator permits.

    Attributes:
        least: Fewest workers.
        most: Most workers, those that drain included.
        slots_each: Runs that one worker carries at once.
        keep_s: A worker that nobody needs is kept for so many seconds after its last run.
    """

    least: int = 0
    most: int = 8
    slots_each: int = 1
    keep_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("least", 0), ("most", 1), ("slots_each", 1)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"--{name.replace('_', '-')}", getattr(self, name), f"must be {least} or more")
        if self.most < self.least:
            raise InvalidInputError("--most", self.most, f"is below --least ({self.least})")
        if not 0 <= self.keep_s < math.inf:
            raise InvalidInputError("--keep", self.keep_s, "must be 0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What to do with a fleet.

    Attributes:
        start: How many workers to start.
        drain: Names of workers to drain; all of them are idle.
        resume: Names of draining workers that go on, since they are needed again.
    """

    start: int = 0
    drain: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()


def plan_fleet(members: Sequence[FleetMember], wanted_slots: int, bounds: FleetBounds) -> FleetPlan:
    """Bring the fleet towards the wanted slots, within bounds.

    Workers are added at once, first of those that drain and have not ended yet. Only workers that have been idle for
    `keep_s` are drained, the longest idle ones first; a worker that takes a run at that moment ends after it.
    """
    wanted = min(max(math.ceil(wanted_slots / bounds.slots_each), bounds.least), bounds.most)
    serving = [member for member in members if not member.draining]
    if len(serving) < wanted:
        missing = wanted - len(serving)
        draining = sorted((member for member in members if member.draining), key=lambda member: -member.busy)
        resume = tuple(member.name for member in draining[:missing])
        return FleetPlan(start=min(missing - len(resume), bounds.most - len(members)), resume=resume)
    spare = sorted(
        (member for member in serving if member.busy == 0 and member.idle_s >= bounds.keep_s),
        key=lambda member: (-member.idle_s, member.name),
    )
    return FleetPlan(drain=tuple(member.name for member in spare[: len(serving) - wanted]))
