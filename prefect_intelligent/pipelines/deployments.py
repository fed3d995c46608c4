"""What is known of one deployment and of the work pools it shares: the facts that the graph and the rules work on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from croniter import croniter  # type: ignore[import-untyped, unused-ignore]

from prefect_intelligent.domain import Estimate, Prices, Terms
from prefect_intelligent.domain.deadlines import format_span
from prefect_intelligent.errors import InvalidInputError

_Z95 = 1.6448536269514722
_MOST_STARTS = 20_000
DEFAULT_ESTIMATE = Estimate(p50_s=60.0, p90_s=180.0)
"""Taken for a deployment that has never run and whose author gave no `expected_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When Prefect starts a deployment by itself: a cron line, a fixed interval or a recurrence rule.

    Attributes:
        cron: Cron line of five fields, read in `zone`; None if it is something else.
        every_s: Seconds between two starts of an interval.
        rrule: Recurrence rule (RFC 5545), read in `zone`.
        anchor_s: An instant of the interval.
        zone: IANA time zone of the cron line.
        active: Whether it is switched on.
        parameters: Parameters that this schedule overrides.
    """

    cron: str | None = None
    every_s: float | None = None
    rrule: str | None = None
    anchor_s: float = 0.0
    zone: str = "UTC"
    active: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def starts_s(self, start_s: float, end_s: float) -> Sequence[float]:
        """Starts within [start_s, end_s), Unix seconds, ascending; at most 20,000."""
        if not self.active:
            return ()
        if self.cron is not None:
            return _cron_starts(self.cron, self.zone, start_s, end_s)
        if self.rrule is not None:
            return _rule_starts(self.rrule, self.zone, start_s, end_s)
        if self.every_s is None or self.every_s <= 0:
            return ()
        first = self.anchor_s + math.ceil((start_s - self.anchor_s) / self.every_s) * self.every_s
        found: list[float] = np.arange(first, end_s, self.every_s)[:_MOST_STARTS].tolist()
        return found

    @property
    def daily(self) -> bool:
        """Whether every day looks like every other (but for summer time)."""
        if self.cron is not None:
            return self.cron in ("@daily", "@midnight", "@hourly") or self.cron.split()[2:] == ["*", "*", "*"]
        return self.rrule is None and (self.every_s is None or self.every_s <= 86_400.0)

    def __str__(self) -> str:
        """As a person writes it: the cron line, or "every 5m"."""
        text = self.cron if self.cron is not None else self.rrule
        return f"every {format_span(self.every_s or 0.0)}" if text is None else f"'{text}'"


@lru_cache(maxsize=4096)
def _cron_starts(cron: str, zone: str, start_s: float, end_s: float) -> tuple[float, ...]:
    """Starts of a cron line within [start_s, end_s)."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    if not croniter.is_valid(cron):
        raise InvalidInputError("cron schedule", cron, "expected five cron fields such as '0 2 * * *'")
    starts: list[float] = []
    walker = croniter(cron, datetime.fromtimestamp(start_s - 1, tz=ZoneInfo(zone)))
    while len(starts) < _MOST_STARTS:
        at = float(walker.get_next(float))
        if at >= end_s:
            break
        starts.append(at)
    return tuple(starts)


@lru_cache(maxsize=1024)
def _rule_starts(rule: str, zone: str, start_s: float, end_s: float) -> tuple[float, ...]:
    """Starts of a recurrence rule within [start_s, end_s)."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from dateutil.rrule import rrulestr

    here = ZoneInfo(zone)
    first, last = (datetime.fromtimestamp(at_s, tz=here).replace(tzinfo=None) for at_s in (start_s, end_s))
    begin = datetime(2020, 1, 1)  # Prefect's own anchor of rules that say nothing of when they begin
    if "MINUTELY" in rule or "SECONDLY" in rule:  # years of minutes take long to walk through
        begin = datetime.combine(first, datetime.min.time())
    try:
        dates = rrulestr(rule, dtstart=begin, ignoretz=True)
    except (ValueError, TypeError) as error:
        raise InvalidInputError("rrule schedule", rule, f"is no recurrence rule: {error}") from error
    found = (at.replace(tzinfo=here).timestamp() for at in dates.xafter(first, count=_MOST_STARTS, inc=True))
    return tuple(itertools.takewhile(lambda at_s: at_s < end_s, found)) if first < last else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """What is promised or expected of one column.

    Attributes:
        type: Type name as the contract says it, lower case; None for any.
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
        waits: Whether the caller holds its slot until the callee has finished.
        parameters: Parameters given whose values are known; None if the code does not say.
        unknown: Names of parameters that are given with a value that only the run knows.
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
    """A deployment as the graph sees it.

    Attributes:
        name: "flow/deployment".
        pool: Work pool; None if it has none.
        queue: Work queue in the pool.
        schedules: When Prefect starts it.
        estimate: How long a run takes; None if nothing is known.
        terms: What its runs are worth, what they read and write.
        limit: Prefect's concurrency limit of the deployment.
        parameters: Default parameters.
        schema: JSON schema of the parameters; None if not known.
        expects: Columns it needs, per dataset read.
        promises: Columns its contract promises, per dataset written.
        arrivals_per_hour: Observed rate of runs that no schedule made; None if not known.
        paused: Whether its schedules are paused.
        job_variables: What it sets for the infrastructure of its runs.
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
        """The best estimate there is: history, else the author's, else `DEFAULT_ESTIMATE`."""
        if self.estimate is not None:
            return self.estimate
        if self.terms.expected_s is not None:
            return Estimate(p50_s=self.terms.expected_s, p90_s=1.5 * self.terms.expected_s)
        return DEFAULT_ESTIMATE

    @property
    def p95_s(self) -> float:
        """95 % quantile of a run's duration, seconds, if durations are lognormal."""
        return self.duration.p50_s * math.exp(_Z95 * self.duration.sigma)

    @property
    def mean_s(self) -> float:
        """Mean duration of a run, seconds, if durations are lognormal."""
        return self.duration.p50_s * math.exp(self.duration.sigma**2 / 2)

    @property
    def active_schedules(self) -> tuple[Schedule, ...]:
        """Schedules that start runs now."""
        return () if self.paused else tuple(schedule for schedule in self.schedules if schedule.active)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """What the rules need of a work pool.

    Attributes:
        name: Prefect's name of it.
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
    """How an overloaded pool will fare on the day with the most work.

    Attributes:
        hours: Hours from the instant of the inventory in which runs come due that wait for long.
        longest_wait_s: The longest that one of them waits for a slot.
    """

    hours: tuple[int, ...]
    longest_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything the conflict rules look at besides the graph.

    Attributes:
        steps: Deployments by name.
        pools: Work pools by name.
        calls: Calls and automation starts between deployments.
        external: Datasets that nobody here has to produce.
        prices: What capacity costs and what lateness weighs.
        at_s: The instant from which schedules are looked at.
        congestion: What is foreseen of overloaded pools, by name; empty if nobody has looked.
    """

    steps: Mapping[str, DeploymentNode]
    pools: Mapping[str, PoolFacts] = field(default_factory=dict)
    calls: tuple[DeploymentCall, ...] = ()
    external: frozenset[str] = frozenset()
    prices: Prices = field(default_factory=Prices)
    at_s: float = 0.0
    congestion: Mapping[str, Congestion] = field(default_factory=dict)
