"""Scenarios, and the world that a seed draws from one: arrivals, durations, estimates and deadlines of every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from prefect_intelligent.domain import Deadline, RelativeDeadline
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, Runs
from simulations.arrivals import HOUR_S, Arrivals

_Z90: Final = 1.2815515655446004
_SEEDS_PER_DAY: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long runs work, at full speed.

    Attributes:
        median_s: Median.
        cv: Coefficient of variation of the lognormal body; 0 is constant.
        tail: Share of runs that are drawn from a Pareto tail instead.
        tail_shape: Exponent of that tail, which begins at the body's 90 % quantile; below 2 its variance is infinite.
        samples: Recorded durations to draw from; if there are any, the other attributes are not used.
    """

    median_s: float = 60.0
    cv: float = 0.5
    tail: float = 0.0
    tail_shape: float = 1.5
    samples: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.median_s) and self.median_s > 0):
            raise InvalidInputError("median_s", self.median_s, "a duration must be seconds above 0")
        if not (self.cv >= 0 and 0 <= self.tail <= 1 and self.tail_shape > 1):
            raise InvalidInputError(
                "duration", (self.cv, self.tail, self.tail_shape), "cv >= 0, tail 0 to 1, shape > 1"
            )
        if any(not value > 0 for value in self.samples):
            raise InvalidInputError("samples", min(self.samples), "durations must be seconds above 0")

    @property
    def sigma(self) -> float:
        """Standard deviation of the log of the body."""
        if self.samples:
            return float(np.std(np.log(self.samples)))
        return math.sqrt(math.log1p(self.cv**2))

    @property
    def typical_s(self) -> float:
        """The median."""
        return float(np.median(self.samples)) if self.samples else self.median_s

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Durations in seconds, at least 0.1."""
        if self.samples:
            return rng.choice(np.array(self.samples), count)
        body = self.median_s * np.exp(self.sigma * rng.standard_normal(count))
        long = self.median_s * math.exp(_Z90 * self.sigma) * (1.0 + rng.pareto(self.tail_shape, count))
        return np.maximum(np.where(rng.uniform(size=count) < self.tail, long, body), 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A deployment and how its runs are drawn.

    Attributes:
        terms: Its prices, retries, resources and limits.
        duration: How long its runs work.
        arrivals: When they arrive; None for a deployment that is triggered by others.
        after: Names of the deployments whose run of the same batch has to complete first (or to end in another way, see
            `DeploymentSpec.after_when`).
        called_by: Name of the deployment whose runs create its runs and wait for them; None for none.
        called_times: How many of its runs each of those creates.
        deadline: When a run is due; None is never.
        estimate_bias: Standard deviation, across worlds, of the log ratio of the prediction to the true median.
        estimate_noise: Standard deviation of the log error of each run's own prediction.
    """

    terms: DeploymentSpec
    duration: Duration = field(default_factory=Duration)
    arrivals: Arrivals | None = None
    after: tuple[str, ...] = ()
    called_by: str | None = None
    called_times: int = 1
    deadline: Deadline | None = None
    estimate_bias: float = 0.0
    estimate_noise: float = 0.0

    def __post_init__(self) -> None:
        origins = [self.arrivals is not None, bool(self.after), self.called_by is not None]
        if sum(origins) != 1:
            raise InvalidInputError(
                f"deployment {self.terms.name!r}",
                {"arrivals": self.arrivals, "after": self.after, "called_by": self.called_by},
                "needs one of the three: arrivals, upstreams ('after'), or a parent ('called_by')",
            )
        if self.called_times < 1:
            raise InvalidInputError(f"called_times of {self.terms.name!r}", self.called_times, "must be 1 or more")
        for name in ("estimate_bias", "estimate_noise"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(name, getattr(self, name), "must be a number, 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Pools, workload and prices, from which a seed draws a world.

    Attributes:
        name: Its name.
        purpose: What it tests, a sentence.
        pools: Its work pools.
        sources: Its deployments.
        resources: The resources that they share.
        hours: Length of the time in which runs arrive.
        start_s: The first instant, Unix seconds.
        budget_slots: Slots that all pools may have together; None is unlimited.
        unfit: In what it does not show the pool that it was fitted to, a phrase each; nothing is trained on it then.
    """

    name: str
    purpose: str
    pools: tuple[PoolSpec, ...]
    sources: tuple[Source, ...]
    resources: tuple[ResourceSpec, ...] = ()
    hours: float = 24.0
    start_s: float = 1767571200.0  # Monday 2026-01-05, 00:00 UTC
    budget_slots: int | None = None
    unfit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.hours > 0:
            raise InvalidInputError("hours", self.hours, "must be above 0")
        for name in ("hours", "start_s"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidInputError(name, getattr(self, name), "must be a finite number")
        in_order(self.sources)

    @property
    def end_s(self) -> float:
        """End of the arrivals, Unix seconds."""
        return self.start_s + self.hours * HOUR_S

    def world(self, seed: int, day: int = 0) -> World:
        """A world of a seed below 10 million; further days of the seed are other worlds of the same scenario."""
        return draw_world(self, seed + day * _SEEDS_PER_DAY)


def in_order(sources: Sequence[Source]) -> list[Source]:
    """The sources with every upstream before its downstreams.

    Raises:
        UnknownNameError: An upstream does not exist.
        InvalidInputError: The dependencies have a cycle, which the message shows.
    """
    by_name = {source.terms.name: source for source in sources}
    done: dict[str, bool] = {}
    path: list[str] = []
    ordered: list[Source] = []

    def visit(name: str) -> None:
        if name not in by_name:
            raise UnknownNameError(f"upstream of {path[-1]!r}", name, by_name)
        if done.get(name):
            return
        if name in done:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise InvalidInputError("dependencies", cycle, "deployments wait for each other in a circle; break it")
        done[name] = False
        path.append(name)
        parent = by_name[name].called_by
        for upstream in (*by_name[name].after, *(() if parent is None else (parent,))):
            visit(upstream)
        path.pop()
        done[name] = True
        ordered.append(by_name[name])

    for source in sources:
        visit(source.terms.name)
    return ordered


def draw_world(scenario: Scenario, seed: int) -> World:
    """Draw the world of a scenario; the same seed gives the same world, bit for bit."""
    streams = np.random.SeedSequence(seed).spawn(len(scenario.sources) + 1)
    place = {source.terms.name: number for number, source in enumerate(scenario.sources)}
    columns: list[dict[str, Array]] = []
    times: dict[str, Array] = {}
    first: dict[str, int] = {}
    edges: list[Array] = []
    calls: list[Array] = []
    total = 0
    startup_s = {queue.name: pool.startup_s for pool in scenario.pools for queue in pool.queues}
    for source in in_order(scenario.sources):
        name = source.terms.name
        rng = np.random.default_rng(streams[place[name]])
        at_s = _times(source, scenario, times, rng)
        times[name], first[name] = at_s, total
        count = len(at_s)
        numbers = np.arange(total, total + count)
        edges += [np.stack([first[above] + np.arange(count), numbers], axis=1) for above in source.after]
        if source.called_by is not None:
            parents = first[source.called_by] + np.arange(count) // source.called_times
            calls.append(np.stack([parents, numbers], axis=1))
        beside_s = startup_s.get(source.terms.queue, 0.0) + _typical_wait_s(source, scenario)
        columns.append(_column(source, at_s, beside_s, place[name], rng))
        total += count
    return build_world(
        scenario.pools,
        [source.terms for source in scenario.sources],
        _sorted_runs(columns, edges, calls),
        resources=scenario.resources,
        seed=int(streams[-1].generate_state(1, np.uint64)[0]),
        start_s=scenario.start_s,
    )


def _times(source: Source, scenario: Scenario, times: Mapping[str, Array], rng: np.random.Generator) -> Array:
    """When the runs of a deployment are scheduled, or their batches if it is triggered or called."""
    if source.arrivals is not None:
        return source.arrivals.times(scenario.start_s, scenario.end_s, rng)
    if source.called_by is not None:
        return np.repeat(times[source.called_by], source.called_times)
    count = min(len(times[above]) for above in source.after)
    latest: Array = np.max([times[above][:count] for above in source.after], axis=0)
    return latest


def _typical_wait_s(source: Source, scenario: Scenario) -> float:
    """For how long a run of a deployment typically waits for its children, if they have slots at once."""
    children = [other for other in scenario.sources if other.called_by == source.terms.name]
    return max((child.duration.typical_s + _typical_wait_s(child, scenario) for child in children), default=0.0)


def _column(source: Source, at_s: Array, beside_s: float, number: int, rng: np.random.Generator) -> dict[str, Array]:
    """The columns of one deployment's runs, which hold their slots for `beside_s` besides their own work."""
    count = len(at_s)
    bias = math.exp(source.estimate_bias * rng.standard_normal())
    noise = np.exp(source.estimate_noise * rng.standard_normal(count))
    triggered, deadline = source.arrivals is None, source.deadline
    due_s = np.full(count, np.inf)
    within_s = np.full(count, np.inf)
    if isinstance(deadline, RelativeDeadline):
        if triggered:
            within_s[:] = deadline.within_s
        due_s[:] = at_s + deadline.within_s
    elif deadline is not None:
        due_s[:] = [deadline.due_s(float(one)) for one in at_s]
    known = source.arrivals is not None and source.arrivals.known
    return {
        "deployment": np.full(count, float(number)),
        "scheduled_s": at_s,
        "known_s": np.full(count, -np.inf) if known else at_s,
        "work_s": source.duration.draw(count, rng),
        "p50_s": np.maximum(source.duration.typical_s * bias * noise + beside_s, 1.0),
        "spread": np.full(count, math.hypot(source.duration.sigma, source.estimate_noise)),
        "due_s": due_s,
        "due_within_s": within_s,
    }


def _sorted_runs(columns: Sequence[Mapping[str, Array]], edges: Sequence[Array], calls: Sequence[Array]) -> Runs:
    """All runs, numbered in the order of their scheduled times."""
    joined = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    order = np.argsort(joined["scheduled_s"], kind="stable")
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    none = np.zeros((0, 2), dtype=np.int64)
    values = {name: column[order] for name, column in joined.items()}
    return Runs(
        deployment=values.pop("deployment").astype(np.int64),
        outcome_source=np.zeros(len(order), dtype=np.int8),
        edges=number[np.concatenate(edges)] if edges else none,
        calls=number[np.concatenate(calls)] if calls else none,
        **values,
    )
