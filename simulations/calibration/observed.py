"""The history of a pool: its runs, their changes of state, its queues, its deployments."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prefect_intelligent.domain import PoolSetting, QueueSetting, Terms
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.replay.workers import TAKEN, takers

if TYPE_CHECKING:
    from prefect_intelligent.wiring.history import SqlRuns

OCCUPIED = "prefect.concurrency-limit.acquired"
PASSAGES = ("run_id", "at_s", "state", "name", "deployment", "queue", "scheduled_s")
"""Columns of the changes of state."""
OCCUPIED_COLUMNS = ("run_id", "name", "slots", "limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFacts:
    """Settings of a deployment on the server.

    Attributes:
        schedules: Its schedules as Prefect has them: tables with `cron`, `interval` or `rrule`.
        limit: Its concurrency limit; None is unlimited.
        limit_group: Name of that limit if other deployments have the same one; None for one of its own.
        cancels_new: Whether a run beyond it is cancelled instead of waiting.
        terms: Its terms; None if there are none.
    """

    schedules: tuple[Mapping[str, Any], ...] = ()
    limit: int | None = None
    limit_group: str | None = None
    cancels_new: bool = False
    terms: Terms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A pool and what happened in it.

    Attributes:
        pool: Its settings now.
        queues: Its queues now, then those that have been deleted.
        runs: Table of `history.runs_frame`: ended and unfinished runs, by submission.
        passages: Changes of state, columns `PASSAGES`; empty if none were kept.
        deployments: Settings of each deployment, by name.
        start_s: Beginning of the observed time, Unix seconds.
        end_s: Its end.
        changes: How often a setting of the pool or of a queue changed in that time.
        workers: Which worker has taken a run, by the run's id, as far as events tell.
        occupied: Slots of global or tag limits that runs have taken: run_id, name, slots, limit.
    """

    pool: PoolSetting
    queues: tuple[QueueSetting, ...]
    runs: pd.DataFrame
    passages: pd.DataFrame
    start_s: float
    end_s: float
    deployments: Mapping[str, DeploymentFacts] = field(default_factory=dict)
    changes: int = 0
    workers: Mapping[str, str] = field(default_factory=dict)
    occupied: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(OCCUPIED_COLUMNS)))

    @property
    def span_s(self) -> float:
        """Length of the observed time."""
        return self.end_s - self.start_s


def observe_history(store: SqlRuns, pool: str | None, *, since_s: float, until_s: float) -> Observed:
    """Read the history of a pool.

    Args:
        store: The history.
        pool: Name of the work pool; None takes the only one that has runs.
        since_s: Beginning of the observed time.
        until_s: Its end.

    Raises:
        InvalidInputError: No run of that time has ended, or there are several pools and none was named.
        UnknownNameError: The history knows no such pool.
        StoreError: It cannot be read.
    """
    settings = store.queue_frame()
    name = _chosen(store, settings, pool, since_s, until_s)
    runs = store.run_frame(since_s=since_s, until_s=until_s, pool=name)
    ended = runs["ended_s"].notna() & runs["started_s"].notna()
    if not ended.any():
        days = (until_s - since_s) / 86400.0
        raise InvalidInputError(
            f"history of work pool {name!r}", "0 ended runs", f"in the last {days:g} days; look further back or sync it"
        )
    for column in ("deployment", "queue", "state"):
        runs[column] = runs[column].astype(object).where(runs[column].notna(), None)
    runs["queue"] = runs["queue"].fillna("default")
    runs["deployment"] = runs["deployment"].fillna("?")
    runs["scheduled_s"] = runs["scheduled_s"].fillna(runs["submitted_s"])
    own = settings[settings["pool"] == name]
    held = own[own["queue"] == ""].tail(1)
    limit = None if held.empty else _whole(held["limit"].iloc[0])
    first_s = float(runs["scheduled_s"].min())
    copied_s = store.cursor("runs")  # the history ends here
    if copied_s is None:
        copied_s = float(runs[["submitted_s", "ended_s"]].max().max())
    return Observed(
        pool=PoolSetting(name=name, limit=limit),
        queues=_queues(own, runs),
        runs=runs,
        passages=store.passage_frame(name, since_s=since_s),
        deployments=_deployments(store.deployment_frame()),
        start_s=max(since_s, min(first_s, copied_s)),
        end_s=min(until_s, copied_s),
        changes=int((own["at_s"] > since_s).sum()) - int(own[own["at_s"] > since_s]["queue"].nunique()),
        workers=takers(store.event_frame(since_s=since_s, prefix=TAKEN)["payload"]),
        occupied=_occupied(store.event_frame(since_s=since_s, prefix=OCCUPIED)["payload"]),
    )


def _occupied(payloads: Iterable[Any]) -> pd.DataFrame:
    """What events say of slots that runs have taken, oldest first."""
    told = [json.loads(str(text)) for text in payloads]
    return pd.DataFrame(told, columns=list(OCCUPIED_COLUMNS)).dropna()


def _chosen(store: SqlRuns, settings: pd.DataFrame, pool: str | None, since_s: float, until_s: float) -> str:
    """The named pool, or the only one that has runs."""
    if pool is not None and not store.run_frame(since_s=since_s, until_s=until_s, pool=pool, extra=False).empty:
        return pool
    seen = store.run_frame(since_s=since_s, until_s=until_s, extra=False)["pool"].dropna().astype(str).unique()
    known = sorted({*seen, *settings["pool"].astype(str)})
    if not known:
        raise InvalidInputError("history", "0 runs", "there is nothing to calibrate on; run `prefect-intelligent sync`")
    if pool is not None:
        if pool not in known:
            raise UnknownNameError("work pool", pool, known)
        return pool
    if len(seen) != 1:
        raise InvalidInputError("--pool", None, f"name one of {', '.join(known)}")
    return str(seen[0])


def _queues(own: pd.DataFrame, runs: pd.DataFrame) -> tuple[QueueSetting, ...]:
    """The queues with their settings now; deleted queues of recorded runs follow, served last."""
    last = own[own["queue"] != ""].groupby("queue").tail(1)
    found = {
        str(row.queue): QueueSetting(
            name=str(row.queue), priority=_whole(row.priority) or 1, limit=_whole(row.limit), paused=bool(row.paused)
        )
        for row in last.itertuples()
    }
    last_priority = max((queue.priority for queue in found.values()), default=0) + 1
    for name in sorted(set(runs["queue"].astype(str)) - found.keys()):
        found[name] = QueueSetting(name=name, priority=last_priority)
    return tuple(found[name] for name in sorted(found))


def _deployments(frame: pd.DataFrame) -> dict[str, DeploymentFacts]:
    found = {}
    details_of = [json.loads(str(text)) for text in frame["details"]]
    shared = Counter(details.get("limit_name") for details in details_of)
    for row, details in zip(frame.itertuples(), details_of, strict=True):
        terms = details.get("terms")
        schedules = tuple(each for each in details.get("schedules") or () if isinstance(each, Mapping))
        found[str(row.name)] = DeploymentFacts(
            schedules=() if row.paused else schedules,
            limit=_whole(details.get("concurrency_limit")),
            limit_group=limit if (limit := details.get("limit_name")) and shared[limit] > 1 else None,
            cancels_new=details.get("collision_strategy") == "CANCEL_NEW",
            terms=Terms.from_dict(terms) if terms else None,
        )
    return found


def _whole(value: Any) -> int | None:
    """A whole number; None if it is missing."""
    return None if value is None or not np.isfinite(float(value)) else int(value)
