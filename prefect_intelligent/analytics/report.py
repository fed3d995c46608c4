"""From the history to what people read: analytics, causes and health of a span, as JSON-ready values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from prefect_intelligent.analytics.cost_budget import cost_budget
from prefect_intelligent.analytics.failure_signatures import group_causes
from prefect_intelligent.analytics.health import Health, deployment_health, group_health
from prefect_intelligent.analytics.run_metrics import DIMENSIONS, RunMetrics, RunReport, analyse
from prefect_intelligent.domain import Prices


def make_report(
    runs: pd.DataFrame,
    *,
    since_s: float,
    until_s: float,
    prices: Prices,
    slots: float | None = None,
    dimensions: Sequence[str] = DIMENSIONS,
) -> dict[str, Any]:
    """The report as one JSON-ready object; NaN and infinities do not occur in it."""
    report = analyse(runs, since_s=since_s, until_s=until_s, prices=prices, slots=slots, dimensions=dimensions)
    return {
        "since_s": since_s,
        "until_s": until_s,
        "total": metrics_dict(report.total),
        "throughput_per_hour": report.throughput_per_hour,
        "utilisation": report.utilisation,
        "slots": slots,
        "money": _money(report),
        "by": {name: {key: metrics_dict(f) for key, f in groups.items()} for name, groups in report.by.items()},
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
        "total_usd": total.cost_usd + (report.idle_usd or 0.0),
    }


def metrics_dict(figures: RunMetrics) -> dict[str, Any]:
    """A group's figures with its shares."""
    return {
        **asdict(figures),
        "failure_share": figures.failure_share,
        "on_time_share": figures.on_time_share,
        "cost_usd": figures.cost_usd,
    }


def all_health(
    runs: pd.DataFrame,
    now_s: float,
    *,
    target: float,
    quality: Mapping[str, tuple[float, int]] | None = None,
    prices: Prices | None = None,
    budgets: Mapping[str, float] | None = None,
) -> dict[str, list[Health]]:
    """Health of every deployment, queue and pool of a table of runs (ordered by submission), worst first.

    Args:
        runs: As from the history.
        now_s: The present.
        target: Share of time in which a deployment's promise must hold.
        quality: Deployment to the severity-weighted share of passed checks and their number.
        prices: What capacity costs; without, what runs cost is left out.
        budgets: Deployment to what its runs may cost a day, US dollars; one without is held against its own past.
    """
    known, agreed = quality or {}, budgets or {}
    deployments: dict[str, Health] = {}
    homes: dict[str, tuple[str, str]] = {}
    column = runs["deployment"].astype("category")
    codes = column.cat.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(column.cat.categories) + 1))
    for code, name in enumerate(column.cat.categories):
        rows = order[ends[code] : ends[code + 1]]
        if len(rows) == 0:
            continue
        own = runs.iloc[rows]
        deployments[str(name)] = deployment_health(
            str(name),
            own,
            now_s,
            target=target,
            quality=known.get(str(name)),
            spent=None if prices is None else cost_budget(own, now_s, prices, agreed.get(str(name))),
        )
        last = own.iloc[-1]
        homes[str(name)] = (_text(last["pool"]), _text(last["queue"]))
    pools: dict[str, list[Health]] = {}
    queues: dict[str, list[Health]] = {}
    for name, health in deployments.items():
        pool, queue = homes[name]
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
    """Health with what each term takes from the score."""
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
