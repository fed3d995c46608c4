"""How the pool's workers poll and start runs, and how attempts fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.history.runs_frame import settled
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.spec import WorkerSpec
from simulations.calibration.observed import Observed

ENOUGH: Final = 10
"""Observations below which the settings are kept."""

_AT_ONCE_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Polls:
    """Polls and start-up times of the workers; None where too little was observed.

    Attributes:
        poll_s: Mean time between two polls.
        prefetch_s: How long before its scheduled start a run is claimed.
        startup_s: Median time from a slot to running.
        startup_spread: Standard deviation of its logarithm.
        claims: Number of claims of runs that found a free slot.
        starts: Number of measured start-ups.
    """

    poll_s: float | None
    prefetch_s: float | None
    startup_s: float | None
    startup_spread: float | None
    claims: int
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How attempts of one deployment end.

    Attributes:
        fails: Share of attempts that fail.
        crashes: Share of attempts lost with their infrastructure.
        retries: Retries after a failure.
        retry_delay_s: Median pause before a retry.
        attempts: Attempts that this is computed from.
    """

    fails: float
    crashes: float
    retries: int
    retry_delay_s: float
    attempts: int


def fit_polls(observed: Observed, scheduled: npt.NDArray[np.bool_], workers: Sequence[WorkerSpec] = ()) -> Polls:
    """Poll period, prefetch and start-up time from the changes of state.

    A run that finds a free slot waits for the next poll, half a period on average. A run known in
    advance is claimed by the first poll within the prefetch time before its schedule.

    Args:
        observed: The pool.
        scheduled: Which runs of `observed.runs` were known in advance, shape (runs,).
        workers: Its workers, if they are told apart.
    """
    claimed = _first(observed.passages, "PENDING")
    if claimed.empty:
        return Polls(poll_s=None, prefetch_s=None, startup_s=None, startup_spread=None, claims=0, starts=0)
    started = _first(observed.passages, "RUNNING").set_index("run_id")["at_s"]
    claimed["started_s"] = claimed["run_id"].map(started)
    startup = (claimed["started_s"] - np.maximum(claimed["at_s"], claimed["scheduled_s"])).to_numpy(float)
    late_enough = (claimed["at_s"] >= claimed["scheduled_s"]).to_numpy()
    startup = startup[late_enough & np.isfinite(startup) & (startup > 0)]
    free = claimed[_found_room(observed, claimed, workers)]
    known = _known_keys(observed.runs, scheduled)
    is_known = np.array(
        [(name, round(at, 3)) in known for name, at in zip(free["deployment"], free["scheduled_s"], strict=True)],
        dtype=bool,
    )
    delay = (free["at_s"] - free["scheduled_s"]).to_numpy(float)
    poll_s, prefetch_s = _poll_and_prefetch(delay[~is_known], delay[is_known])
    enough = len(startup) >= ENOUGH
    return Polls(
        poll_s=poll_s,
        prefetch_s=prefetch_s,
        startup_s=round(float(np.median(startup)), 2) if enough else None,
        startup_spread=round(float(np.std(np.log(startup))), 3) if enough else None,
        claims=len(delay),
        starts=len(startup),
    )


def fit_failures(runs: pd.DataFrame, passages: pd.DataFrame) -> Failures:
    """Shares of failed and crashed attempts of one deployment, and its retries.

    Args:
        runs: Its runs.
        passages: Changes of state of its runs.
    """
    ended = runs[settled(runs)]
    attempts = ended["attempts"].fillna(1.0).clip(lower=1.0).to_numpy(float)
    failed, crashed = (ended["state"] == "FAILED").to_numpy(), (ended["state"] == "CRASHED").to_numpy()
    total = attempts.sum()
    bad = np.where(failed, attempts, attempts - 1.0).sum()
    retries = int(np.median(attempts[failed])) - 1 if failed.any() else int(attempts.max(initial=1.0)) - 1
    return Failures(
        fails=float(f"{bad / max(total, 1.0):.3g}"),
        crashes=float(f"{crashed.sum() / max(total, 1.0):.3g}"),
        retries=max(0, retries),
        retry_delay_s=_retry_delay_s(passages),
        attempts=int(total),
    )


def _first(passages: pd.DataFrame, state: str) -> pd.DataFrame:
    """The first passage of each run into a state."""
    return passages[passages["state"] == state].drop_duplicates("run_id").reset_index(drop=True)


def _found_room(observed: Observed, claimed: pd.DataFrame, workers: Sequence[WorkerSpec]) -> npt.NDArray[np.bool_]:
    """Which runs became due while every limit had room, even with all runs due at the same instant."""
    room = _room_among(observed, claimed, np.ones(len(observed.runs), dtype=bool), observed.pool.limit)
    for queue in observed.queues:
        if queue.limit is not None:
            own = (observed.runs["queue"] == queue.name).to_numpy()
            room &= (claimed["queue"] != queue.name).to_numpy() | _room_among(observed, claimed, own, queue.limit)
    for names, limit in _limited(observed):
        own = observed.runs["deployment"].isin(names).to_numpy()
        room &= ~claimed["deployment"].isin(names).to_numpy() | _room_among(observed, claimed, own, limit)
    if workers:
        carried = np.zeros(len(claimed), dtype=bool)
        for worker in workers:
            polled = worker.queues or tuple(queue.name for queue in observed.queues)
            own = observed.runs["queue"].isin(polled).to_numpy()
            carried |= claimed["queue"].isin(polled).to_numpy() & _room_among(observed, claimed, own, worker.limit)
        room &= carried
    return room


def _limited(observed: Observed) -> list[tuple[set[str], int]]:
    """Deployments with a limit, together where they share it, and that limit."""
    found: dict[str, tuple[set[str], int]] = {}
    for name, facts in observed.deployments.items():
        if facts.limit is not None:
            found.setdefault(facts.limit_group or f"deployment {name}", (set(), facts.limit))[0].add(name)
    return list(found.values())


def _room_among(
    observed: Observed, claimed: pd.DataFrame, own: npt.NDArray[np.bool_], limit: int | None
) -> npt.NDArray[np.bool_]:
    """Whether no more of some runs than a limit were due and not over when each claimed run became due."""
    if limit is None:
        return np.ones(len(claimed), dtype=bool)
    runs = observed.runs[own]
    ended, due = runs["ended_s"].fillna(observed.end_s), claimed["scheduled_s"].to_numpy(float)
    within: npt.NDArray[np.bool_] = _present(runs["scheduled_s"], ended, due) <= limit
    return within


def _present(scheduled: pd.Series, ended: pd.Series, at_s: Array) -> Array:
    """Number of runs that are due (at the instant or before) and not over, at each instant."""
    due = np.searchsorted(np.sort(scheduled.to_numpy(float)), at_s, side="right")
    over = np.searchsorted(np.sort(ended.to_numpy(float)), at_s, side="right")
    out: Array = (due - over).astype(float)
    return out


def _known_keys(runs: pd.DataFrame, scheduled: npt.NDArray[np.bool_]) -> set[tuple[str, float]]:
    known = runs[scheduled]
    return {(name, round(at, 3)) for name, at in zip(known["deployment"], known["scheduled_s"], strict=True)}


def _poll_and_prefetch(ad_hoc: Array, known: Array) -> tuple[float | None, float | None]:
    """Poll period and prefetch from the waits of runs that found a free slot; negative waits are early claims."""
    prefetch_s = None
    if len(known) >= ENOUGH:
        prefetch_s = round(max(0.0, -float(np.quantile(known, 0.02))), 1)
    if len(ad_hoc) >= ENOUGH:
        poll_s = 2.0 * float(np.median(ad_hoc))
    elif len(known) >= ENOUGH and prefetch_s is not None:
        poll_s = 2.0 * (float(np.median(known)) + prefetch_s)
    else:
        return None, prefetch_s
    return round(max(_AT_ONCE_S, poll_s), 2), prefetch_s


def _retry_delay_s(passages: pd.DataFrame) -> float:
    """Median time from the end of a failed attempt to the next; 0 if none was observed."""
    pauses: list[float] = []
    for _, own in passages[passages["name"].isin(["AwaitingRetry", "Retrying"])].groupby("run_id"):
        waiting = math.nan
        for at_s, name in zip(own["at_s"], own["name"], strict=True):
            if name == "AwaitingRetry":
                waiting = at_s
            elif math.isfinite(waiting):
                pauses.append(at_s - waiting)
                waiting = math.nan
    return round(float(np.median(pauses)), 1) if pauses else 0.0
