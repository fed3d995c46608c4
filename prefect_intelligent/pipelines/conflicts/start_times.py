"""Start times of deployments: from their own schedules, or derived from an upstream schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from prefect_intelligent.pipelines.deployments import DeploymentNode, Inventory
from prefect_intelligent.pipelines.graph import Graph

DAY_S: Final = 86_400.0
HORIZONS_S: Final = (2 * DAY_S, 15 * DAY_S, 63 * DAY_S)
"""Time spans in which schedules are compared, seconds: two days cover a daily pattern, fifteen days a weekly one twice,
63 days a monthly one."""
_Z95: Final = 1.6448536269514722


class DerivedStarts(NamedTuple):
    """Start times that follow from the schedule of an upstream deployment.

    Attributes:
        root: The scheduled upstream deployment.
        starts: Starts of the root within the horizon, ascending, Unix seconds.
        mean_s: Mean delay after the root's start, seconds.
        variance_s2: Variance of that delay, seconds squared.
    """

    root: str
    starts: Sequence[float]
    mean_s: float = 0.0
    variance_s2: float = 0.0


class Calendar:
    """Start times of all deployments, each computed once.

    Args:
        graph: The graph.
        inventory: Schedules and durations.

    Attributes:
        scheduled: Deployments with an active schedule.
    """

    def __init__(self, graph: Graph, inventory: Inventory) -> None:
        self.graph, self.inventory = graph, inventory
        self.scheduled: Final = frozenset(name for name, node in inventory.nodes.items() if node.active_schedules)
        self._starts: dict[tuple[str, float], Sequence[float]] = {}
        self._horizons: dict[str, float] = {}
        self._derived: dict[str, DerivedStarts] | None = None

    def horizon_s(self, node: DeploymentNode) -> float:
        """Return the shortest of `HORIZONS_S` that covers the pattern of a deployment's schedules."""
        found = self._horizons.get(node.name)
        if found is None:
            if all(schedule.daily for schedule in node.active_schedules):
                found = HORIZONS_S[0]
            else:
                found = HORIZONS_S[1] if len(self.starts(node, HORIZONS_S[1])) > 1 else HORIZONS_S[2]
            self._horizons[node.name] = found
        return found

    def starts(self, node: DeploymentNode, horizon_s: float) -> Sequence[float]:
        """Return scheduled starts within the horizon, ascending, Unix seconds."""
        key = (node.name, horizon_s)
        if key not in self._starts:
            at_s = self.inventory.at_s
            parts = [schedule.starts_s(at_s, at_s + horizon_s) for schedule in node.active_schedules]
            self._starts[key] = parts[0] if len(parts) == 1 else sorted(start for part in parts for start in part)
        return self._starts[key]

    def derived_starts(self, name: str) -> DerivedStarts | None:
        """Return the derived starts of a deployment; None if it is scheduled itself or no upstream deployment is."""
        if self._derived is None:
            self._derived = self._derive()
        return self._derived.get(name)

    def per_day(self, name: str) -> float | None:
        """Return the mean number of starts a day, scheduled or derived; None if it has neither."""
        node = self.inventory.nodes[name]
        if name in self.scheduled:
            horizon_s = self.horizon_s(node)
            return len(self.starts(node, horizon_s)) / (horizon_s / DAY_S)
        derived = self.derived_starts(name)
        return None if derived is None else self.per_day(derived.root)

    def _derive(self) -> dict[str, DerivedStarts]:
        """Return the derived starts of all deployments that have them, by name."""
        nodes, graph = self.inventory.nodes, self.graph
        started_by: dict[str, list[tuple[str, bool]]] = {}  # (source, whether the source has ended by then)
        for table, over in ((graph.triggers, True), (graph.calls, False)):
            for source, targets in table.items():
                for target in targets:
                    started_by.setdefault(target, []).append((source, over))
        found: dict[str, DerivedStarts] = {}
        began: dict[str, DerivedStarts] = {}  # starts of all deployments, scheduled ones too
        ended: dict[str, DerivedStarts] = {}  # their ends
        fresh: dict[str, DerivedStarts] = {}  # refreshes of datasets
        for kind, name in graph.sequence:
            if kind:
                writers = graph.writers.get(name, ())
                if (derived := _rarest([ended[writer] for writer in writers if writer in ended])) is not None:
                    fresh[name] = derived
                continue
            node = nodes.get(name)
            if node is None:
                continue
            if name in self.scheduled:
                derived = DerivedStarts(name, self.starts(node, HORIZONS_S[0]))
            else:
                # a join starts as often as its least frequent input arrives
                derived = _rarest([fresh[dataset] for dataset in graph.inputs[name] if dataset in fresh])
                if derived is None and name in started_by:
                    sources = [(ended if after else began).get(source) for source, after in started_by[name]]
                    derived = _rarest([source for source in sources if source is not None])
                if derived is None:
                    continue
                found[name] = derived
            began[name] = derived
            mean_s, variance_s2 = _moments(node)
            ended[name] = DerivedStarts(
                derived.root, derived.starts, derived.mean_s + mean_s, derived.variance_s2 + variance_s2
            )
        return found


def _rarest(known: Sequence[DerivedStarts]) -> DerivedStarts | None:
    """Return the one with the fewest starts, the one with the longest delay among equals; None if there are none."""
    best = None
    for derived in known:
        if best is None or (len(derived.starts), -derived.mean_s, derived.root) < (
            len(best.starts),
            -best.mean_s,
            best.root,
        ):
            best = derived
    return best


def _moments(node: DeploymentNode) -> tuple[float, float]:
    """Return mean and variance of a run's duration, seconds and seconds squared."""
    mean_s = node.mean_s
    return mean_s, mean_s**2 * math.expm1(node.duration.sigma**2)


def finish_p95_s(derived: DerivedStarts, node: DeploymentNode) -> float:
    """Return the 95 % quantile of the time from the root's start to the end of `node`, seconds.

    The sum of lognormals is approximated by a lognormal with the same mean and variance (Fenton 1960).
    """
    own_s, own_s2 = _moments(node)
    mean_s, variance_s2 = derived.mean_s + own_s, derived.variance_s2 + own_s2
    sigma = math.sqrt(math.log1p(variance_s2 / mean_s**2)) if mean_s > 0 else 0.0
    return mean_s * math.exp(_Z95 * sigma - sigma**2 / 2)


def one_at_a_time(inventory: Inventory, *nodes: DeploymentNode) -> bool:
    """Return whether a concurrency limit of one keeps the runs of these deployments from overlapping."""
    first = nodes[0]
    if len({node.name for node in nodes}) == 1 and first.limit == 1:
        return True
    pool = inventory.pools.get(first.pool or "")
    if pool is None or any(node.pool != first.pool for node in nodes):
        return False
    same_queue = all(node.queue == first.queue for node in nodes)
    return pool.limit == 1 or (same_queue and pool.queue_limits.get(first.queue or "") == 1)
