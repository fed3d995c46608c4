"""Metrics of runs: waiting, service, lateness, utilisation, throughput and costs, by pool, queue, deployment and more.

Built for a million runs in seconds: groups are integer codes, each column is sorted once for all quantiles, and the
objective is evaluated once per group, since costs are linear in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.analytics.group_stats import Array, Codes, SortedColumn, SparseColumn, group_codes
from prefect_intelligent.analytics.trends import Trend, TrendChange, find_changes, find_trend
from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.objective import busy_usd, idle_usd, lateness_usd
from prefect_intelligent.domain.slot_account import SlotAccount
from prefect_intelligent.errors import InvalidInputError

DIMENSIONS: Final = ("pool", "queue", "deployment", "version", "host", "hour")
_MAX_ROWS: Final = 1000
_SERIES: Final = ("failure_share", "service_p50_s", "wait_p50_s", "cost_usd")
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics:
    """Metrics of a group of runs; None is unknown.

    Attributes:
        runs: Runs submitted in the span.
        ended: Runs of these that have ended.
        failed: Runs that failed or crashed.
        cancelled: Runs that were cancelled.
        wait_p50_s, wait_p90_s: Seconds from the scheduled start to taking a slot.
        service_p50_s, service_p90_s: Seconds from taking a slot to the end.
        late: Runs that ended after their due instant.
        due: Ended runs that have a due instant.
        lateness_p90_s: 90 % quantile of the lateness of late runs.
        busy_s: Slot seconds held.
        useful_usd: Cost of slots held by runs that completed.
        wasted_usd: Cost of slots held by runs that failed, crashed or were cancelled.
        overhead_usd: Cost billed beyond the time held (minimum billing).
        lateness_usd: Cost of lateness at the prices of the runs.
        failure_usd: Cost of failures at the prices of the runs.
        idle_usd: Cost of slots paid for and not held; of pools and hours only, if the number of slots is known.
    """

    runs: int
    ended: int
    failed: int
    cancelled: int
    wait_p50_s: float | None
    wait_p90_s: float | None
    service_p50_s: float | None
    service_p90_s: float | None
    late: int
    due: int
    lateness_p90_s: float | None
    busy_s: float
    useful_usd: float
    wasted_usd: float
    overhead_usd: float
    lateness_usd: float
    failure_usd: float
    idle_usd: float | None = None

    @property
    def failure_share(self) -> float | None:
        """Share of the ended runs that failed; None if none has ended."""
        return self.failed / self.ended if self.ended else None

    @property
    def on_time_share(self) -> float | None:
        """Share of the runs with a due instant that were on time; None if there is none."""
        return 1.0 - self.late / self.due if self.due else None

    @property
    def cost_usd(self) -> float:
        """Cost of slots, lateness and failures, without idle slots."""
        return self.useful_usd + self.wasted_usd + self.overhead_usd + self.lateness_usd + self.failure_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Metrics of the runs of one span.

    Attributes:
        since_s, until_s: The span, Unix seconds.
        total: Metrics of all runs.
        by: Dimension to group to metrics, most expensive groups first.
        throughput_per_hour: Ended runs per hour.
        utilisation: Slot seconds held over slot seconds paid for, 0 to 1; None if the number of slots is unknown.
        idle_usd: Cost of idle slots; None if the number of slots is unknown.
        days: Length of the part of the span in which there was the pool, as far as that is known.
        daily: One row per day: start, runs, failure share, median service, median wait, cost.
        changes: Lasting changes of the level of daily series.
        trends: Significant trends of daily series.
        mended: Runs with impossible instants, which were corrected.
    """

    since_s: float
    until_s: float
    total: RunMetrics
    by: Mapping[str, Mapping[str, RunMetrics]]
    throughput_per_hour: float
    utilisation: float | None
    idle_usd: float | None
    days: float
    daily: tuple[Mapping[str, float | None], ...]
    changes: tuple[TrendChange, ...]
    trends: tuple[Trend, ...]
    mended: int

    @property
    def total_usd(self) -> float:
        """The objective: what the runs cost, and the slots that none of them held."""
        return self.total.cost_usd + (self.idle_usd or 0.0)

    @property
    def usd_per_day(self) -> float:
        """The objective per day; what every command names as the cost of the history."""
        return self.total_usd / self.days


def analyse(
    runs: pd.DataFrame,
    *,
    since_s: float,
    until_s: float,
    prices: Prices | None = None,
    slots: SlotAccount | float | None = None,
    dimensions: Sequence[str] = DIMENSIONS,
) -> RunReport:
    """Metrics of the runs that were submitted between two instants.

    Args:
        runs: As from `as_runs`.
        since_s: Start of the span, Unix seconds.
        until_s: End of the span, Unix seconds.
        prices: Prices of capacity; free by default.
        slots: Slots that are paid for, i.e. the pool's limit over time, or one number for the whole span; None if it
            has none.
        dimensions: Columns to group by; "hour" is the hour of the day, UTC.

    Raises:
        InvalidInputError: The span is empty.
    """
    if not until_s > since_s:
        raise InvalidInputError("span", f"{since_s} to {until_s}", "its end must be after its start")
    submitted = runs["submitted_s"].to_numpy(dtype=float)
    inside = (submitted >= since_s) & (submitted < until_s)
    part = runs if bool(inside.all()) else runs[inside]
    money = prices or Prices()
    columns = _Columns(part, money)
    span = until_s - since_s
    account = slots if slots is None or isinstance(slots, SlotAccount) else SlotAccount.constant(slots, since_s)
    edges = _edges(since_s, until_s)
    paid, idle_s = _paid_and_idle(account, part, edges)
    by: dict[str, dict[str, RunMetrics]] = {}
    for dimension in dimensions:
        codes, names = group_codes(part, dimension)
        if len(names) == 0:
            continue
        metrics = columns.metrics(codes, len(names))
        if idle_s is not None and dimension == "hour":
            metrics = _with_idle(metrics, _by_hour(idle_s, edges), money)
        if idle_s is not None and dimension == "pool" and len(names) == 1:
            metrics = _with_idle(metrics, idle_s.sum(keepdims=True), money)
        order = sorted(range(len(names)), key=lambda group: (-metrics[group].cost_usd, names[group]))
        if dimension == "hour":
            order = sorted(order, key=lambda group: names[group])
        by[dimension] = {names[group]: metrics[group] for group in order[:_MAX_ROWS] if metrics[group].runs}
    total = columns.metrics(np.zeros(len(part), dtype=np.int64), 1)[0]
    idle = None if idle_s is None else _with_idle([total], idle_s.sum(keepdims=True), money)[0].idle_usd
    daily = _daily(columns, part, since_s)
    return RunReport(
        since_s=since_s,
        until_s=until_s,
        total=total,
        by=by,
        throughput_per_hour=total.ended / (span / _HOUR_S),
        utilisation=min(1.0, total.busy_s / paid) if paid else None,
        idle_usd=idle,
        days=(until_s - (since_s if account is None else min(max(since_s, account.begun_s), until_s - 1.0))) / _DAY_S,
        daily=daily,
        changes=tuple(change for series in _SERIES for change in find_changes(daily, series)),
        trends=tuple(trend for series in _SERIES if (trend := find_trend(daily, series)) is not None),
        mended=int(runs.attrs.get("mended", 0)),
    )


def _with_idle(metrics: Sequence[RunMetrics], idle_s: Array, prices: Prices) -> list[RunMetrics]:
    """The metrics with the cost of idle slot seconds."""
    return [
        replace(row, idle_usd=idle_usd(max(0.0, float(seconds)), prices.slot_usd_per_hour, prices.idle_fraction))
        for row, seconds in zip(metrics, idle_s, strict=True)
    ]


def _paid_and_idle(account: SlotAccount | None, runs: pd.DataFrame, edges: Array) -> tuple[float | None, Array | None]:
    """Slot seconds paid for, and the idle ones between the edges; None of both without a limit."""
    if account is None or not account.limited:
        return None, None
    started, ended = runs["started_s"].to_numpy(dtype=float), runs["ended_s"].to_numpy(dtype=float)
    known = np.isfinite(started)
    idle_s = account.idle_s(edges, started[known], np.where(np.isfinite(ended), ended, np.inf)[known])
    return float(account.paid_s(edges).sum()), idle_s


def _edges(since_s: float, until_s: float) -> Array:
    """Both ends of the span and every full hour between them."""
    inner = np.arange(np.floor(since_s / _HOUR_S) + 1, np.ceil(until_s / _HOUR_S)) * _HOUR_S
    return np.concatenate([[since_s], inner, [until_s]])


def _by_hour(amounts: Array, edges: Array) -> Array:
    """Amounts between instants, summed over the hours of the day (UTC), shape (24,)."""
    hours = (edges[:-1] % _DAY_S // _HOUR_S).astype(np.int64)
    return np.bincount(hours, weights=amounts, minlength=24).astype(float)


class _Columns:
    """The columns of a table of runs from which metrics are computed, prepared once."""

    def __init__(self, runs: pd.DataFrame, prices: Prices) -> None:
        def column(name: str) -> Array:
            return runs[name].to_numpy(dtype=float)

        scheduled, submitted, started, ended = (
            column(name) for name in ("scheduled_s", "submitted_s", "started_s", "ended_s")
        )
        self._prices = prices
        state = runs["state"]
        has_ended = np.isfinite(ended)
        failed = runs["failed"].to_numpy(dtype=bool)
        cancelled = (state == "CANCELLED").to_numpy(dtype=bool)
        completed = (state == "COMPLETED").to_numpy(dtype=bool)
        self._open, self._failed, self._cancelled = (
            SparseColumn(~has_ended),
            SparseColumn(failed),
            SparseColumn(cancelled),
        )
        self._waits = SortedColumn(np.maximum(0.0, started - np.where(np.isfinite(scheduled), scheduled, submitted)))
        service = ended - started
        self._services = SortedColumn(service)
        due = column("due_s")
        has_due = has_ended & np.isfinite(due) & ~cancelled
        late_s = np.where(has_due & (ended > due), ended - due, 0.0)
        self._due, self._late = SparseColumn(has_due), SparseColumn(late_s > 0)
        self._latenesses = SortedColumn(np.where(late_s > 0, late_s, np.nan))
        held = np.nan_to_num(service, nan=0.0)
        self._useful_s = SparseColumn(np.where(completed, held, 0.0))
        self._wasted_s = SparseColumn(np.where(completed, 0.0, held))
        self._overhead_s = SparseColumn(
            np.where(np.isfinite(service), np.maximum(0.0, prices.min_billing_s - held), 0.0)
        )
        self._late_usd = SparseColumn(late_s * np.nan_to_num(column("late_usd_per_hour"), nan=0.0))
        self._failure_usd = SparseColumn(np.where(failed, np.nan_to_num(column("failure_usd"), nan=0.0), 0.0))

    def metrics(self, codes: Codes, groups: int) -> list[RunMetrics]:
        """Metrics of each group; rows with code -1 are left out."""
        runs = np.bincount(codes + 1, minlength=groups + 1)[1:]
        counted = (self._open, self._failed, self._cancelled, self._late, self._due)
        unended, failed, cancelled, late, due = (column.totals(codes, groups) for column in counted)
        wait = self._waits.quantiles(codes, groups, (0.5, 0.9))
        service = self._services.quantiles(codes, groups, (0.5, 0.9))
        lateness = self._latenesses.quantiles(codes, groups, (0.9,))
        summed = (self._useful_s, self._wasted_s, self._overhead_s, self._late_usd, self._failure_usd)
        useful_s, wasted_s, overhead_s, late_usd, failure_usd = (column.totals(codes, groups) for column in summed)
        price, weight = self._prices.slot_usd_per_hour, self._prices.lateness_weight
        return [
            RunMetrics(
                runs=int(runs[g]),
                ended=int(runs[g] - unended[g]),
                failed=int(failed[g]),
                cancelled=int(cancelled[g]),
                wait_p50_s=_known(wait[g, 0]),
                wait_p90_s=_known(wait[g, 1]),
                service_p50_s=_known(service[g, 0]),
                service_p90_s=_known(service[g, 1]),
                late=int(late[g]),
                due=int(due[g]),
                lateness_p90_s=_known(lateness[g, 0]),
                busy_s=float(useful_s[g] + wasted_s[g]),
                useful_usd=busy_usd(float(useful_s[g]), price, 0.0),
                wasted_usd=busy_usd(float(wasted_s[g]), price, 0.0),
                overhead_usd=busy_usd(float(overhead_s[g]), price, 0.0),
                lateness_usd=lateness_usd(1.0, float(late_usd[g]), weight),  # late_usd is seconds times price already
                failure_usd=float(failure_usd[g]),
            )
            for g in range(groups)
        ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _daily(columns: _Columns, runs: pd.DataFrame, since_s: float) -> tuple[Mapping[str, float | None], ...]:
    """Metrics per day (UTC)."""
    if runs.empty:
        return ()
    first = since_s // 86400.0
    days = (runs["submitted_s"].to_numpy(dtype=float) // 86400.0 - first).astype(np.int64)
    metrics = columns.metrics(days, int(days.max()) + 1)
    return tuple(
        {
            "day_s": (first + day) * 86400.0,
            "runs": row.runs,
            "failure_share": row.failure_share,
            "service_p50_s": row.service_p50_s,
            "wait_p50_s": row.wait_p50_s,
            "cost_usd": row.cost_usd,
        }
        for day, row in enumerate(metrics)
    )
