"""Deployments, their schedules and parameters, and work pools: the facts behind the graph and the conflict rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_intelligent.domain import Estimate, Prices, Terms
from prefect_intelligent.domain.spans import format_span
from prefect_intelligent.pipelines.schedule_starts import cron_starts, interval_starts, rule_starts

_Z95 = 1.6448536269514722
DEFAULT_ESTIMATE = Estimate(p50_s=60.0, p90_s=180.0)
"""Used for a deployment that has never run and whose author gave no `expected_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule of a deployment: a cron line, a fixed interval or a recurrence rule.

    Attributes:
        cron: Cron line; None for the other kinds.
        every_s: Seconds between two starts of an interval; None for the other kinds.
        rrule: Recurrence rule (RFC 5545); None for the other kinds.
        anchor_s: One start of the interval, Unix seconds.
        zone: IANA time zone, for all three.
        day_or: Whether day of the month and day of the week of the cron line are alternatives; else both must hold.
        active: Whether it is switched on.
        parameters: Parameters that this schedule overrides.
    """

    cron: str | None = None
    every_s: float | None = None
    rrule: str | None = None
    anchor_s: float = 0.0
    zone: str = "UTC"
    day_or: bool = True
    active: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def starts_s(self, start_s: float, end_s: float) -> Sequence[float]:
        """Return starts within [start_s, end_s) as Prefect computes them, Unix seconds, ascending; at most 20,000."""
        if not self.active:
            return ()
        if self.cron is not None:
            return cron_starts(self.cron, self.zone, start_s, end_s, self.day_or)
        if self.rrule is not None:
            return rule_starts(self.rrule, self.zone, start_s, end_s)
        if self.every_s is None or self.every_s <= 0:
            return ()
        return interval_starts(self.every_s, self.anchor_s, self.zone, start_s, end_s)

    @property
    def daily(self) -> bool:
        """Whether it starts at the same times every day (ignoring daylight saving)."""
        if self.cron is not None:
            return self.cron in ("@daily", "@midnight", "@hourly") or self.cron.split()[2:] == ["*", "*", "*"]
        return self.rrule is None and (self.every_s is None or self.every_s <= 86_400.0)

    def __str__(self) -> str:
        """The cron line or recurrence rule in quotes, or "every 5m"."""
        text = self.cron if self.cron is not None else self.rrule
        return f"every {format_span(self.every_s or 0.0)}" if text is None else f"'{text}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """Type and range that a contract guarantees, or that a reader requires, of one column.

    Attributes:
        type: Type name as written in the contract, lower case; None for any.
        minimum: Smallest value; None for no bound.
        maximum: Largest value; None for no bound.
    """

    type: str | None = None
    minimum: float | None = None
    maximum: float | None = None


TableSchema = Mapping[str, ColumnSpec]
"""Columns of a dataset by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentCall:
    """A `run_deployment` call found in source, or a run-deployment action of an automation.

    Attributes:
        caller: Deployment whose code calls (or whose event triggers).
        callee: Deployment that is started.
        waits: Whether the caller occupies its slot until the callee has finished.
        parameters: Parameters with known values; None if they cannot be read from the code.
        unknown: Names of parameters whose values are computed at run time.
        where: File and line, or the automation's name.
    """

    caller: str
    callee: str
    waits: bool = True
    parameters: Mapping[str, Any] | None = None
    unknown: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentNode:
    """A deployment with the facts that the graph and the conflict rules use.

    Attributes:
        name: "flow/deployment".
        pool: Work pool; None if it has none.
        queue: Work queue in the pool.
        schedules: Its schedules.
        estimate: Duration of a run from history; None if unknown.
        terms: Deadline, prices, inputs and outputs.
        limit: Concurrency limit of the deployment in Prefect; None is unlimited.
        parameters: Default parameters.
        schema: JSON schema of the parameters; None if unknown.
        expects: Columns it requires, per dataset read.
        promises: Columns its contract guarantees, per dataset written.
        arrivals_per_hour: Observed rate of runs that no schedule made; None if unknown.
        paused: Whether its schedules are paused.
        job_variables: Job variables of its runs' infrastructure.
    """

    name: str
    pool: str | None = None
    queue: str | None = None
    schedules: tuple[Schedule, ...] = ()
    estimate: Estimate | None = None
    terms: Terms = field(default_factory=Terms)
    limit: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    expects: Mapping[str, TableSchema] = field(default_factory=dict)
    promises: Mapping[str, TableSchema] = field(default_factory=dict)
    arrivals_per_hour: float | None = None
    paused: bool = False
    job_variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def duration(self) -> Estimate:
        """The best available estimate: from history, else the author's `expected_s`, else `DEFAULT_ESTIMATE`."""
        if self.estimate is not None:
            return self.estimate
        if self.terms.expected_s is not None:
            return Estimate(p50_s=self.terms.expected_s, p90_s=1.5 * self.terms.expected_s)
        return DEFAULT_ESTIMATE

    @property
    def p95_s(self) -> float:
        """95 % quantile of a run's duration, seconds, for lognormal durations."""
        return self.duration.p50_s * math.exp(_Z95 * self.duration.sigma)

    @property
    def mean_s(self) -> float:
        """Mean duration of a run, seconds, for lognormal durations."""
        return self.duration.p50_s * math.exp(self.duration.sigma**2 / 2)

    @property
    def active_schedules(self) -> tuple[Schedule, ...]:
        """Schedules that are switched on, unless the deployment is paused."""
        return () if self.paused else tuple(schedule for schedule in self.schedules if schedule.active)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """Limits and queue priorities of a work pool.

    Attributes:
        name: Name in Prefect.
        limit: Slots; None is unlimited.
        priorities: Priority number by queue name, 1 first.
        queue_limits: Limit by queue name; None is unlimited.
    """

    name: str
    limit: int | None = None
    priorities: Mapping[str, int] = field(default_factory=dict)
    queue_limits: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Congestion:
    """Waiting times of an overloaded pool on the day with the most work, from the twin.

    Attributes:
        hours: Hours since `Inventory.at_s` in which runs come due that wait longer than five minutes.
        longest_wait_s: Longest wait for a slot, seconds.
    """

    hours: tuple[int, ...]
    longest_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Input of the conflict rules besides the graph.

    Attributes:
        nodes: Deployments by name.
        pools: Work pools by name.
        calls: Calls and automation starts between deployments.
        external: Datasets that come from outside and need no producer.
        prices: Price of capacity and weight of lateness.
        at_s: Start of the time span in which schedules are compared, Unix seconds.
        congestion: Simulated congestion of overloaded pools, by name; empty if it was not simulated.
    """

    nodes: Mapping[str, DeploymentNode]
    pools: Mapping[str, PoolFacts] = field(default_factory=dict)
    calls: tuple[DeploymentCall, ...] = ()
    external: frozenset[str] = frozenset()
    prices: Prices = field(default_factory=Prices)
    at_s: float = 0.0
    congestion: Mapping[str, Congestion] = field(default_factory=dict)
