"""When deployments start: by schedules of their own, or because something scheduled leads to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph

DAY_S: Final = 86_400.0
HORIZONS_S: Final = (2 * DAY_S, 15 * DAY_S, 63 * DAY_S)
"""How far ahead schedules are compared: two days hold every daily pattern, fifteen a weekly one twice, 63 a monthly."""
_Z95: Final = 1.6448536269514722


class DerivedStarts(NamedTuple):
    """How a deployment without schedules comes to start.

    Attributes:
        root: The scheduled deployment that it goes back to.
        starts: Starts of the root within the horizon, ascending, Unix seconds.
        mean_s: Mean time from the root's start to its own.
        variance_s2: Variance of that time.
    """

    root: str
    starts: Sequence[float]
    mean_s: float = 0.0
    variance_s2: float = 0.0


class Calendar:
    """The starts of all deployments, each worked out once.

    Args:
        graph: What leads to what.
        inventory: Schedules and durations.

    Attributes:
        scheduled: Deployments with a schedule that is switched on.
    """

    def __init__(self, graph: Graph, inventory: Inventory) -> None:
        self.graph, self.inventory = graph, inventory
        self.scheduled: Final = frozenset(name for name, step in inventory.steps.items() if step.active_schedules)
        self._starts: dict[tuple[str, float], Sequence[float]] = {}
        self._horizons: dict[str, float] = {}
        self._led: dict[str, DerivedStarts] | None = None

    def horizon_s(self, step: DeploymentNode) -> float:
        """The shortest horizon that shows the whole pattern of a deployment's schedules."""
        found = self._horizons.get(step.name)
        if found is None:
            if all(schedule.daily for schedule in step.active_schedules):
                found = HORIZONS_S[0]
            else:
                found = HORIZONS_S[1] if len(self.starts(step, HORIZONS_S[1])) > 1 else HORIZONS_S[2]
            self._horizons[step.name] = found
        return found

    def starts(self, step: DeploymentNode, horizon_s: float) -> Sequence[float]:
        """Scheduled starts within the horizon, ascending, Unix seconds."""
        key = (step.name, horizon_s)
        if key not in self._starts:
            at_s = self.inventory.at_s
            parts = [schedule.starts_s(at_s, at_s + horizon_s) for schedule in step.active_schedules]
            self._starts[key] = parts[0] if len(parts) == 1 else sorted(start for part in parts for start in part)
        return self._starts[key]

    def led(self, name: str) -> DerivedStarts | None:
        """How a deployment without schedules comes to start; None if it has some, or nothing scheduled leads to it."""
        if self._led is None:
            self._led = self._follow()
        return self._led.get(name)

    def per_day(self, name: str) -> float | None:
        """Mean number of starts a day that schedules lead to; None if it is started by hand only."""
        step = self.inventory.steps[name]
        if name in self.scheduled:
            horizon_s = self.horizon_s(step)
            return len(self.starts(step, horizon_s)) / (horizon_s / DAY_S)
        led = self.led(name)
        return None if led is None else self.per_day(led.root)

    def _follow(self) -> dict[str, DerivedStarts]:
        """Every deployment without schedules that something scheduled leads to."""
        steps, graph = self.inventory.steps, self.graph
        started_by: dict[str, list[tuple[str, bool]]] = {}  # who, and whether it has ended by then
        for table, over in ((graph.triggers, True), (graph.calls, False)):
            for source, targets in table.items():
                for target in targets:
                    started_by.setdefault(target, []).append((source, over))
        found: dict[str, DerivedStarts] = {}
        began: dict[str, DerivedStarts] = {}  # of scheduled ones too
        ended: dict[str, DerivedStarts] = {}
        fresh: dict[str, DerivedStarts] = {}  # by dataset
        for kind, name in graph.sequence:
            if kind:
                writers = graph.writers.get(name, ())
                if (led := _rarest([ended[writer] for writer in writers if writer in ended])) is not None:
                    fresh[name] = led
                continue
            step = steps.get(name)
            if step is None:
                continue
            if name in self.scheduled:
                led = DerivedStarts(name, self.starts(step, HORIZONS_S[0]))
            else:
                # a join starts as often as the rarest of its inputs comes
                led = _rarest([fresh[dataset] for dataset in graph.inputs[name] if dataset in fresh])
                if led is None and name in started_by:
                    sources = [(ended if after else began).get(source) for source, after in started_by[name]]
                    led = _rarest([source for source in sources if source is not None])
                if led is None:
                    continue
                found[name] = led
            began[name] = led
            mean_s, variance_s2 = _moments(step)
            ended[name] = DerivedStarts(led.root, led.starts, led.mean_s + mean_s, led.variance_s2 + variance_s2)
        return found


def _rarest(known: Sequence[DerivedStarts]) -> DerivedStarts | None:
    """The one with the fewest starts; of these the latest."""
    best = None
    for led in known:
        if best is None or (len(led.starts), -led.mean_s, led.root) < (len(best.starts), -best.mean_s, best.root):
            best = led
    return best


def _moments(step: DeploymentNode) -> tuple[float, float]:
    """Mean and variance of a run's duration, seconds and seconds squared."""
    mean_s = step.mean_s
    return mean_s, mean_s**2 * math.expm1(step.duration.sigma**2)


def finish_p95_s(led: DerivedStarts, step: DeploymentNode) -> float:
    """95 % quantile of the time from the root's start to the end of `step`: a sum of lognormals, fitted by moments."""
    own_s, own_s2 = _moments(step)
    mean_s, variance_s2 = led.mean_s + own_s, led.variance_s2 + own_s2
    sigma = math.sqrt(math.log1p(variance_s2 / mean_s**2)) if mean_s > 0 else 0.0
    return mean_s * math.exp(_Z95 * sigma - sigma**2 / 2)


def one_at_a_time(inventory: Inventory, *steps: DeploymentNode) -> bool:
    """Whether a limit of one keeps the runs of these deployments apart."""
    first = steps[0]
    if len({step.name for step in steps}) == 1 and first.limit == 1:
        return True
    pool = inventory.pools.get(first.pool or "")
    if pool is None or any(step.pool != first.pool for step in steps):
        return False
    same_queue = all(step.queue == first.queue for step in steps)
    return pool.limit == 1 or (same_queue and pool.queue_limits.get(first.queue or "") == 1)
