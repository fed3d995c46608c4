"""What could be otherwise: settings, queues, schedules, retries and terms that the history suggests to try."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from prefect_intelligent.domain.deadlines import format_span
from prefect_intelligent.history.runs_frame import duration_s
from prefect_intelligent.recommendations.model import Array, ProposedChange, ReplayInput

MOST_SLOTS: Final = 512
"""Slots of a pool without a limit, and the largest limit proposed."""

_FEW: Final = 3
_RETRIED: Final = 10
_RESCUED: Final = 0.05
_LATE_ANYWAY: Final = 0.8


def propose(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Everything worth trying; which of it saves money is for the twin to say.

    Args:
        past: Settings, prices and what is known of the pool.
        runs: Those of its runs that can be replayed.
    """
    return [
        *_pool_limits(past, runs),
        *_queue_limits(past, runs),
        *_orders(past, runs),
        *_splits(past, runs),
        *_merges(past, runs),
        *_schedules(runs),
        *_retries(runs),
        *_unread(past, runs),
        *_deadlines(runs),
    ]


def _of(runs: pd.DataFrame) -> pd.Series:
    deployment: pd.Series = runs["deployment"].astype(str)
    return deployment


def _serving(past: ReplayInput) -> list[str]:
    """Queues from first to last served."""
    return [queue.name for queue in sorted(past.queues, key=lambda q: (q.priority, q.name))]


def _busy(runs: pd.DataFrame) -> Array:
    """Slots that were held, every five minutes."""
    started, ended = runs["started_s"].to_numpy(dtype=float), runs["ended_s"].to_numpy(dtype=float)
    at = np.arange(started.min(), ended.max(), 300.0)
    held: Array = (
        np.searchsorted(np.sort(started), at, side="right") - np.searchsorted(np.sort(ended), at, side="right")
    ).astype(float)
    return held


def _pool_limits(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Other limits of the pool: quantiles of what was busy, and multiples where runs were late."""
    now = past.pool.limit
    if now is None:
        return []
    busy = _busy(runs)
    quantiles = {share: int(np.ceil(np.quantile(busy, share))) for share in (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)}
    wanted = {max(1, value + extra) for value in quantiles.values() for extra in (0, 1)}
    wanted |= {max(now + 1, round(now * factor)) for factor in (1.25, 1.5, 2.0, 3.0)}
    waits = (runs["started_s"] - runs["scheduled_s"]).clip(lower=0.0)
    evidence = (
        f"Of {now} slots {quantiles[0.5]} were busy half of the time and {quantiles[0.95]} at the 95 % quantile; "
        f"one run in ten waited {float(waits.quantile(0.9)) / 60:.0f} min or more."
    )
    return [
        ProposedChange(
            kind="pool-limit",
            subject=past.pool.name,
            title=f"{'Lower' if limit < now else 'Raise'} the limit of pool {past.pool.name} from {now} to {limit}",
            evidence=evidence,
            pool_limit=limit,
        )
        for limit in sorted(wanted - {now})
        if limit <= MOST_SLOTS
    ]


def _lateness(runs: pd.DataFrame) -> pd.Series:
    """Money per queue that was spent on lateness."""
    late_h = ((runs["ended_s"] - runs["due_s"]) / 3600.0).clip(lower=0.0).fillna(0.0)
    money = late_h * runs["late_usd_per_hour"].fillna(0.0)
    spent: pd.Series = money.groupby(runs["queue"].astype(str)).sum().sort_values(ascending=False)
    return spent


def _queue_limits(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Wider limits for queues whose own limit makes runs late."""
    found = []
    spent = _lateness(runs)
    for queue in past.queues:
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


def _orders(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Late and dear queues moved to the front."""
    order = _serving(past)
    found = []
    for name, money in list(_lateness(runs).items())[:3]:
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


def _schedules(runs: pd.DataFrame) -> list[ProposedChange]:
    """Deployments whose runs start together with many others, moved by half an hour or more; those with most work."""
    minute = (runs["scheduled_s"] // 300.0).astype(np.int64)
    together = minute.map(minute.value_counts())
    work = duration_s(runs)
    crowded = runs[together >= 3]
    if crowded.empty:
        return []
    weight = work[together >= 3].groupby(crowded["deployment"].astype(str)).sum().sort_values(ascending=False)
    found = []
    for name in weight.index[:6]:
        own = runs["deployment"].astype(str) == name
        share = float((together[own] >= 3).mean())
        if share < 0.5:
            continue
        for shift_min in (-120, -60, -30, 30, 60, 120):
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


def _splits(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Deployments that pay for lateness while cheaper ones share their queue, given a queue of their own before it."""
    late_h = ((runs["ended_s"] - runs["due_s"]) / 3600.0).clip(lower=0.0).fillna(0.0)
    price = runs["late_usd_per_hour"].fillna(0.0)
    spent = (late_h * price).groupby([runs["queue"].astype(str), _of(runs)]).sum().sort_values(ascending=False)
    dear = price.groupby(_of(runs)).median()
    order = _serving(past)
    found = []
    for row in spent.head(_FEW).rename("usd").rename_axis(["queue", "name"]).reset_index().to_dict("records"):
        queue, name, money = str(row["queue"]), str(row["name"]), float(row["usd"])
        beside = [other for other in _of(runs)[runs["queue"].astype(str) == queue].unique() if other != name]
        if money <= 0 or not any(dear[other] < dear[name] for other in beside):
            continue
        lane = f"{queue}-{name.replace('/', '-')}"
        at = order.index(queue)
        evidence = f"Its lateness cost ${money:.2f} behind {len(beside)} other deployments of queue {queue}."
        found.append(
            ProposedChange(
                kind="split",
                subject=name,
                title=f"Give {name} a queue of its own before {queue}",
                evidence=evidence,
                order=(*order[:at], lane, *order[at:]),
                homes={name: lane},
            )
        )
    return found


def _merges(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Two limited queues of which one makes runs late, as one queue with both limits."""
    spent = _lateness(runs)
    limited = [queue for queue in past.queues if queue.limit is not None]
    pairs = [(float(spent.get(a.name, 0.0)) + float(spent.get(b.name, 0.0)), a, b) for a, b in combinations(limited, 2)]
    found = []
    for money, a, b in sorted(pairs, key=lambda pair: (-pair[0], pair[1].name, pair[2].name))[:_FEW]:
        if money <= 0:
            continue
        kept, gone = (a, b) if a.priority <= b.priority else (b, a)
        movers = sorted(_of(runs)[runs["queue"].astype(str) == gone.name].unique())
        both = (kept.limit or 0) + (gone.limit or 0)
        found.append(
            ProposedChange(
                kind="merge",
                subject=" and ".join(sorted((a.name, b.name))),
                title=f"Merge queue {gone.name} into {kept.name}, with a limit of {both}",
                evidence=f"Their runs cost ${money:.2f} by lateness under limits of {kept.limit} and {gone.limit}.",
                limits={kept.name: both},
                homes=dict.fromkeys(movers, kept.name),
            )
        )
    return found


def _retries(runs: pd.DataFrame) -> list[ProposedChange]:
    """Deployments whose retries hardly ever help."""
    again = runs[runs["attempts"] > 1]
    rescued = (again["state"] == "COMPLETED").groupby(_of(again)).agg(["mean", "size"])
    found = []
    for name, row in rescued.sort_values("size", ascending=False).iterrows():
        if row["size"] < _RETRIED or row["mean"] > _RESCUED:
            continue
        evidence = f"Of {int(row['size'])} runs that were tried again {row['mean']:.0%} completed."
        found.append(
            ProposedChange(
                kind="retries",
                subject=str(name),
                title=f"Stop retrying {name}",
                evidence=evidence,
                once=(str(name),),
                by_hand=f"set retries=0 on the flow of {name}, or retry only what can heal",
            )
        )
    return found[:_FEW]


def _unread(past: ReplayInput, runs: pd.DataFrame) -> list[ProposedChange]:
    """Deployments that nobody needs."""
    known = set(_of(runs))
    return [
        ProposedChange(
            kind="unread",
            subject=name,
            title=f"Pause {name}: nobody reads what it makes",
            evidence="No deployment declares its outputs as inputs, and no price is agreed for its lateness.",
            without=(name,),
            by_hand=f"ask its owner, then pause {name} (prefect deployment pause)",
        )
        for name in past.unread
        if name in known
    ]


def _deadlines(runs: pd.DataFrame) -> list[ProposedChange]:
    """Deadlines that most runs miss even if they start at once."""
    work, within = duration_s(runs), runs["due_s"] - runs["scheduled_s"]
    due = runs[within.notna()]
    missed = (work > within)[within.notna()].groupby(_of(due)).mean()
    found = []
    for name, share in missed[missed >= _LATE_ANYWAY].items():
        own = _of(runs) == name
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
