"""Candidates: changes of settings, queues, schedules, retries and deadlines that the history suggests."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain.spans import describe_span, format_span
from prefect_intelligent.history.runs_frame import duration_s
from prefect_intelligent.policy.census import Array
from prefect_intelligent.recommendations.model import ProposedChange, ReplayInput

MOST_SLOTS: Final = 512
"""Slots assumed for a pool without a limit, and the largest limit proposed."""

_NEEDS_MOST_SLOTS: Final = (
    "needs most_slots: a controller never gives a pool more than it was given; set pools.{0}.most_slots = {1}, or "
    "raise the limit of the pool yourself"
)
_MOST_OF_A_KIND: Final = 3
_LEAST_RETRIED: Final = 10
_MOST_RESCUED: Final = 0.05
_LEAST_MISSED: Final = 0.8


def propose(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Return all candidates; `evaluate` computes which of them save money.

    Args:
        inputs: Settings, prices and runs of the pool.
        runs: The runs that can be replayed.
    """
    return [
        *_pool_limits(inputs, runs),
        *_queue_limits(inputs, runs),
        *_orders(inputs, runs),
        *_splits(inputs, runs),
        *_merges(inputs, runs),
        *_schedules(inputs, runs),
        *_retries(runs),
        *_unread(inputs, runs),
        *_deadlines(runs),
    ]


def _deployment_of(runs: pd.DataFrame) -> pd.Series:
    deployment: pd.Series = runs["deployment"].astype(str)
    return deployment


def _serving_order(inputs: ReplayInput) -> list[str]:
    """Return the names of queues in the order in which they are served."""
    return [queue.name for queue in sorted(inputs.queues, key=lambda q: (q.priority, q.name))]


def _busy_slots(runs: pd.DataFrame) -> Array:
    """Return the number of occupied slots, sampled every five minutes."""
    started, ended = runs["started_s"].to_numpy(dtype=float), runs["ended_s"].to_numpy(dtype=float)
    at = np.arange(started.min(), ended.max(), 300.0)
    occupied: Array = (
        np.searchsorted(np.sort(started), at, side="right") - np.searchsorted(np.sort(ended), at, side="right")
    ).astype(float)
    return occupied


def _pool_limits(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose other limits of the pool: quantiles of the occupied slots, and multiples of the present limit."""
    now = inputs.pool.limit
    if now is None:
        return []
    busy = _busy_slots(runs)
    quantiles = {share: int(np.ceil(np.quantile(busy, share))) for share in (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)}
    wanted = {max(1, value + extra) for value in quantiles.values() for extra in (0, 1)}
    wanted |= {max(now + 1, round(now * factor)) for factor in (1.25, 1.5, 2.0, 3.0)}
    waits = (runs["started_s"] - runs["scheduled_s"]).clip(lower=0.0)
    evidence = (
        f"Of {now} slots {quantiles[0.5]} were busy half of the time and {quantiles[0.95]} at the 95 % quantile; "
        f"one run in ten waited {describe_span(float(waits.quantile(0.9)))} or more."
    )
    return [
        ProposedChange(
            kind="pool-limit",
            subject=inputs.pool.name,
            title=f"{'Lower' if limit < now else 'Raise'} the limit of pool {inputs.pool.name} from {now} to {limit}",
            evidence=evidence,
            pool_limit=limit,
            by_hand="" if limit <= (inputs.most_slots or now) else _NEEDS_MOST_SLOTS.format(inputs.pool.name, limit),
        )
        for limit in sorted(wanted - {now})
        if limit <= MOST_SLOTS
    ]


def _lateness_usd(runs: pd.DataFrame) -> pd.Series:
    """Return the cost of lateness by queue, US dollars, largest first."""
    late_h = ((runs["ended_s"] - runs["due_s"]) / 3600.0).clip(lower=0.0).fillna(0.0)
    money = late_h * runs["late_usd_per_hour"].fillna(0.0)
    spent: pd.Series = money.groupby(runs["queue"].astype(str)).sum().sort_values(ascending=False)
    return spent


def _queue_limits(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose higher limits for limited queues with late runs."""
    found = []
    spent = _lateness_usd(runs)
    for queue in inputs.queues:
        money = float(spent.get(queue.name, 0.0))
        if queue.limit is None or money <= 0:
            continue
        for limit in (queue.limit + 1, 2 * queue.limit, None):
            to = "no limit" if limit is None else str(limit)
            found.append(
                ProposedChange(
                    kind="queue-limit",
                    subject=queue.name,
                    title=f"Raise the limit of queue {queue.name} from {queue.limit} to {to}",
                    evidence=f"Its runs cost ${money:.2f} by lateness under a limit of {queue.limit}.",
                    limits={queue.name: limit},
                )
            )
    return found


def _orders(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose to serve the queues with the highest cost of lateness first."""
    order = _serving_order(inputs)
    found = []
    for name, money in list(_lateness_usd(runs).items())[:3]:
        if float(money) <= 0 or str(name) == order[0]:
            continue
        after = (str(name), *(other for other in order if other != name))
        ahead = order.index(str(name))
        found.append(
            ProposedChange(
                kind="order",
                subject=str(name),
                title=f"Serve queue {name} first",
                evidence=f"Its runs cost ${float(money):.2f} by lateness while {ahead} queues went first.",
                order=after,
            )
        )
    return found


def _schedules(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose to move schedules whose runs start together with many others, those with the most work first.

    A schedule moved by its own period is the same schedule, so it is moved by less.
    """
    minute = (runs["scheduled_s"] // 300.0).astype(np.int64)
    concurrent = minute.map(minute.value_counts())
    work = duration_s(runs)
    crowded = runs[concurrent >= 3]
    if crowded.empty:
        return []
    weight = work[concurrent >= 3].groupby(crowded["deployment"].astype(str)).sum().sort_values(ascending=False)
    found = []
    for name in weight.index[:6]:
        own = runs["deployment"].astype(str) == name
        share = float((concurrent[own] >= 3).mean())
        if share < 0.5 or (inputs.scheduled is not None and name not in inputs.scheduled):
            continue
        period_s = _period_s(runs["scheduled_s"][own])
        for shift_min in (-120, -60, -30, 30, 60, 120):
            if period_s is not None and abs(60.0 * shift_min) >= 0.99 * period_s:
                continue
            way = "later" if shift_min > 0 else "earlier"
            found.append(
                ProposedChange(
                    kind="schedule",
                    subject=str(name),
                    title=f"Start {name} {abs(shift_min)} min {way}",
                    evidence=f"{share:.0%} of its runs are due within five minutes of others.",
                    shift_s={str(name): 60.0 * shift_min},
                    by_hand=f"change the schedule of {name} where it is deployed",
                )
            )
    return found


def _period_s(scheduled_s: pd.Series) -> float | None:
    """Return the median distance between the scheduled starts of a deployment, seconds; None with one start only."""
    starts = np.unique(scheduled_s.dropna().to_numpy(dtype=float))
    return float(np.median(np.diff(starts))) if len(starts) > 1 else None


def _splits(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose own queues for deployments with a cost of lateness that share their queue with cheaper ones."""
    late_h = ((runs["ended_s"] - runs["due_s"]) / 3600.0).clip(lower=0.0).fillna(0.0)
    price = runs["late_usd_per_hour"].fillna(0.0)
    queue_of, deployment_of = runs["queue"].astype(str), _deployment_of(runs)
    spent = (late_h * price).groupby([queue_of, deployment_of]).sum().sort_values(ascending=False)
    median_price = price.groupby(deployment_of).median()
    order = _serving_order(inputs)
    found = []
    dearest = spent.head(_MOST_OF_A_KIND).rename("usd").rename_axis(["queue", "name"]).reset_index()
    for row in dearest.to_dict("records"):
        queue, name, money = str(row["queue"]), str(row["name"]), float(row["usd"])
        others = [other for other in deployment_of[queue_of == queue].unique() if other != name]
        if money <= 0 or not any(median_price[other] < median_price[name] for other in others):
            continue
        own_queue = f"{queue}-{name.replace('/', '-')}"
        at = order.index(queue)
        evidence = f"Its lateness cost ${money:.2f} behind {len(others)} other deployments of queue {queue}."
        found.append(
            ProposedChange(
                kind="split",
                subject=name,
                title=f"Give {name} a queue of its own before {queue}",
                evidence=evidence,
                order=(*order[:at], own_queue, *order[at:]),
                assignments={name: own_queue},
            )
        )
    return found


def _merges(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose to merge two limited queues with late runs into one queue with the sum of both limits."""
    spent = _lateness_usd(runs)
    limited = [queue for queue in inputs.queues if queue.limit is not None]
    pairs = [(float(spent.get(a.name, 0.0)) + float(spent.get(b.name, 0.0)), a, b) for a, b in combinations(limited, 2)]
    found = []
    for money, a, b in sorted(pairs, key=lambda pair: (-pair[0], pair[1].name, pair[2].name))[:_MOST_OF_A_KIND]:
        if money <= 0:
            continue
        kept, gone = (a, b) if a.priority <= b.priority else (b, a)
        moved = sorted(_deployment_of(runs)[runs["queue"].astype(str) == gone.name].unique())
        both = (kept.limit or 0) + (gone.limit or 0)
        found.append(
            ProposedChange(
                kind="merge",
                subject=" and ".join(sorted((a.name, b.name))),
                title=f"Merge queue {gone.name} into {kept.name}, with a limit of {both}",
                evidence=f"Their runs cost ${money:.2f} by lateness under limits of {kept.limit} and {gone.limit}.",
                limits={kept.name: both},
                assignments=dict.fromkeys(moved, kept.name),
            )
        )
    return found


def _retries(runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose to stop retries of deployments whose retries hardly ever succeed."""
    again = runs[runs["attempts"] > 1]
    rescued = (again["state"] == "COMPLETED").groupby(_deployment_of(again)).agg(["mean", "size"])
    found = []
    for name, row in rescued.sort_values("size", ascending=False).iterrows():
        if row["size"] < _LEAST_RETRIED or row["mean"] > _MOST_RESCUED:
            continue
        evidence = f"Of {int(row['size'])} runs that were tried again {row['mean']:.0%} completed."
        found.append(
            ProposedChange(
                kind="retries",
                subject=str(name),
                title=f"Stop retrying {name}",
                evidence=evidence,
                without_retries=(str(name),),
                by_hand=f"set retries=0 on the flow of {name}, or retry only what can heal",
            )
        )
    return found[:_MOST_OF_A_KIND]


def _unread(inputs: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose to pause deployments whose outputs no deployment reads."""
    known = set(_deployment_of(runs))
    return [
        ProposedChange(
            kind="unread",
            subject=name,
            title=f"Pause {name}: nobody reads what it makes",
            evidence="No deployment declares its outputs as inputs, and no price is agreed for its lateness.",
            paused=(name,),
            by_hand=f"ask its owner, then pause {name} (prefect deployment pause)",
        )
        for name in inputs.unread
        if name in known
    ]


def _deadlines(runs: pd.DataFrame) -> list[ProposedChange]:
    """Propose longer deadlines where most runs would miss theirs even without waiting."""
    work, within = duration_s(runs), runs["due_s"] - runs["scheduled_s"]
    due = runs[within.notna()]
    missed = (work > within)[within.notna()].groupby(_deployment_of(due)).mean()
    found = []
    for name, share in missed[missed >= _LEAST_MISSED].items():
        own = _deployment_of(runs) == name
        needed = float(np.ceil(work[own].quantile(0.95) / 300.0) * 300.0)
        median, agreed = float(work[own].median()), float(within[own].median())
        now, takes = format_span(round(agreed)), format_span(round(median))
        found.append(
            ProposedChange(
                kind="deadline",
                subject=str(name),
                title=f"Agree on a deadline of {format_span(needed)} for {name}, or make it faster",
                evidence=f"It is due after {now} and takes {takes} in the median: {float(share):.0%} of its runs would "
                "be late even if they started at once.",
                due_s={str(name): needed},
                by_hand=f"change deadline= of {name} with whoever asked for it",
            )
        )
    return found
