"""Metrics, causes and health of a span of the history, as JSON values for commands and pages."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from prefect_intelligent.analytics.cost_budget import cost_budget
from prefect_intelligent.analytics.failure_signatures import group_causes
from prefect_intelligent.analytics.health import Health, deployment_health, group_health
from prefect_intelligent.analytics.run_metrics import DIMENSIONS, RunMetrics, RunReport, analyse
from prefect_intelligent.domain import Prices
from prefect_intelligent.domain.slot_account import SlotAccount


def make_report(
    runs: pd.DataFrame,
    *,
    since_s: float,
    until_s: float,
    prices: Prices,
    slots: SlotAccount | float | None = None,
    dimensions: Sequence[str] = DIMENSIONS,
) -> dict[str, Any]:
    """The report as JSON values, without NaN and infinities; arguments as those of `analyse`."""
    report = analyse(runs, since_s=since_s, until_s=until_s, prices=prices, slots=slots, dimensions=dimensions)
    return {
        "since_s": since_s,
        "until_s": until_s,
        "days": report.days,
        "total": metrics_dict(report.total),
        "throughput_per_hour": report.throughput_per_hour,
        "utilisation": report.utilisation,
        "slots": slots.now if isinstance(slots, SlotAccount) else slots,
        "money": _money(report),
        "by": {name: {key: metrics_dict(m) for key, m in groups.items()} for name, groups in report.by.items()},
        "daily": list(report.daily),
        "changes": [asdict(change) for change in report.changes],
        "trends": [asdict(trend) for trend in report.trends],
        "causes": [asdict(cause) for cause in group_causes(runs)[:50]],
        "mended": report.mended,
    }


def _money(report: RunReport) -> dict[str, float | None]:
    total = report.total
    return {
        "useful_usd": total.useful_usd,
        "wasted_usd": total.wasted_usd,
        "overhead_usd": total.overhead_usd,
        "idle_usd": report.idle_usd,
        "lateness_usd": total.lateness_usd,
        "failure_usd": total.failure_usd,
        "total_usd": report.total_usd,
        "usd_per_day": report.usd_per_day,
    }


def metrics_dict(metrics: RunMetrics) -> dict[str, Any]:
    """The metrics of a group with its shares, as JSON values."""
    return {
        **asdict(metrics),
        "failure_share": metrics.failure_share,
        "on_time_share": metrics.on_time_share,
        "cost_usd": metrics.cost_usd,
    }


def all_health(
    runs: pd.DataFrame,
    now_s: float,
    *,
    target: float,
    quality: Mapping[str, tuple[float, int]] | None = None,
    prices: Prices | None = None,
    budgets: Mapping[str, float] | None = None,
    awaited: Collection[str] | None = None,
) -> dict[str, list[Health]]:
    """Health of every deployment, queue and pool of a table of runs (ordered by submission), worst first.

    Args:
        runs: As from the history.
        now_s: The present, Unix seconds.
        target: Service level: share of time in which outputs must not be late or missing, below 1.
        quality: Deployment to the severity-weighted share of passed checks and their number.
        prices: Prices of capacity; without them the cost term is unknown.
        budgets: Deployment to its budget, US dollars a day; without one its own past is the budget.
        awaited: Deployments that have a schedule or declare what they write; None if that is not known.
    """
    quality, budgets = quality or {}, budgets or {}
    deployments: dict[str, Health] = {}
    queue_of: dict[str, tuple[str, str]] = {}
    column = runs["deployment"].astype("category")
    codes = column.cat.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(column.cat.categories) + 1))
    for code, name in enumerate(column.cat.categories):
        rows = order[ends[code] : ends[code + 1]]
        if len(rows) == 0:
            continue
        part = runs.iloc[rows]
        deployments[str(name)] = deployment_health(
            str(name),
            part,
            now_s,
            target=target,
            quality=quality.get(str(name)),
            awaited=awaited is None or str(name) in awaited,
            cost=None if prices is None else cost_budget(part, now_s, prices, budgets.get(str(name))),
        )
        last = part.iloc[-1]
        queue_of[str(name)] = (_text(last["pool"]), _text(last["queue"]))
    pools: dict[str, list[Health]] = {}
    queues: dict[str, list[Health]] = {}
    for name, health in deployments.items():
        pool, queue = queue_of[name]
        pools.setdefault(pool, []).append(health)
        queues.setdefault(f"{pool}/{queue}", []).append(health)
    return {
        "deployments": worst_first(deployments.values()),
        "queues": worst_first(group_health(name, members) for name, members in queues.items()),
        "pools": worst_first(group_health(name, members) for name, members in pools.items()),
    }


_SEVERITY = {"degraded": 0, "warning": 1, "unknown": 2, "healthy": 3}


def worst_first(found: Any) -> list[Health]:
    """Worst status first, then lowest score, then name."""
    return sorted(found, key=lambda h: (_SEVERITY[h.status], 101.0 if h.score is None else h.score, h.name))


def health_dict(health: Health) -> dict[str, Any]:
    """Health as JSON values, with the points that each term takes from the score."""
    budget = health.budget
    return {
        "name": health.name,
        "status": str(health.status),
        "score": health.score,
        "gates": list(health.gates),
        "terms": [{**asdict(term), "takes": health.contribution(term)} for term in health.terms],
        "budget": None
        if budget is None
        else {
            "target": budget.target,
            "attained": budget.attained,
            "left": budget.left,
            "spent_s": budget.spent_s,
            "budget_s": budget.budget_s,
            "burn": {f"{int(width)}": rate for width, rate in budget.burn.items()},
            "action": budget.action,
        },
    }


def _text(value: Any) -> str:
    return "-" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
