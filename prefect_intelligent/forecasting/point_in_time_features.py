"""What was known when: the past of every deployment, queue and kind of work, as of each instant.

One ledger serves training and serving. It is fed three kinds of events in the order in which they happened (a run was
submitted, started, finished) and can be asked at any moment how a run that is submitted now looks. It cannot leak: an
outcome enters by `finish` and by nothing else. `find_leaks` proves that for any encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.forecasting.key_statistics import PER_LEVEL, KeyStatistics
from prefect_intelligent.history.runs_frame import settled

Array = npt.NDArray[np.float64]
Levels = Mapping[str, tuple[str, ...]]
"""Name of a level to the columns whose values make its key, finest first; no columns is everything together.

Four columns are not known of a run when it is submitted, and stand alone: `host` is the one its deployment ran on last,
`cause` what its deployment failed by last (whoever fails by it), `inputs` the worst of the deployments it reads from,
and `checks` the worst of the quality checks of what those write.
"""
LATE: Final = ("host", "cause", "inputs", "checks")


class Verified(NamedTuple):
    """A quality check of what a deployment wrote."""

    at_s: float
    deployment: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of the world around the runs.

    Attributes:
        upstream: Deployment to the deployments whose outputs it reads.
        verified: Quality checks in order of time.
    """

    upstream: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verified: Sequence[Verified] = ()


NOTHING: Final = Context()

LEVELS_SWF: Final[Levels] = {
    "the same work": ("deployment", "size", "expected_s"),
    "this size": ("deployment", "size"),
    "this time limit": ("deployment", "expected_s"),
    "the deployment": ("deployment",),
    "the queue": ("queue",),
    "the pool": ("pool",),
}
LEVELS_PREFECT: Final[Levels] = {
    "the same work": ("deployment", "size"),
    "this version": ("deployment", "version"),
    "the deployment": ("deployment",),
    "its host": ("host",),
    "its last kind of failure": ("cause",),
    "its inputs": ("inputs",),
    "the checks of its inputs": ("checks",),
    "the queue": ("pool", "queue"),
    "the pool": ("pool",),
}

GLOBAL: Final[Mapping[str, str]] = {
    "hour": "hour of the day",
    "weekday": "day of the week",
    "log_size": "size of the run",
    "log_expected": "the estimate given",
    "oldest_in_flight": "age of the runs under way",
    "youngest_in_flight": "age of the runs under way",
    "upstream_failed": "failed upstream deployments",
}


class Work(NamedTuple):
    """What is known of a run when it is submitted. The columns of a run that a level may be keyed by."""

    run_id: str
    deployment: str
    pool: str | None = None
    queue: str | None = None
    version: str | None = None
    size: float = math.nan
    expected_s: float = math.nan


@dataclass(frozen=True, slots=True)
class _Flight:
    """A run under way."""

    work: Work
    pasts: tuple[KeyStatistics, ...]
    submitted_s: float
    started_s: float | None = None


class FeatureState:
    """The past as of now.

    Args:
        levels: Keys by which the past is kept.
        upstream: Deployment to the deployments whose outputs it reads.
    """

    def __init__(self, levels: Levels = LEVELS_PREFECT, upstream: Mapping[str, Sequence[str]] | None = None) -> None:
        self.levels = dict(levels)
        self._upstream = dict(upstream or {})
        self._late = {columns[0]: level for level, columns in self.levels.items() if columns and columns[0] in LATE}
        self._pasts: dict[tuple[Any, ...], KeyStatistics] = {}
        self._flights: dict[str, _Flight] = {}
        self._by_deployment: dict[str, dict[str, float]] = {}
        self._last_host: dict[str, str] = {}
        self._last_cause: dict[str, str] = {}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `look`, "level: feature" or the feature alone."""
        return (*GLOBAL, *(f"{level}: {feature}" for level in self.levels for feature in PER_LEVEL))

    def _past(self, level: str, *key: Any) -> KeyStatistics:
        past = self._pasts.get((level, *key))
        if past is None:
            past = self._pasts[(level, *key)] = KeyStatistics()
        return past

    def _pasts_of(self, work: Work) -> tuple[KeyStatistics, ...]:
        """Those of the keys that are known when a run is submitted."""
        return tuple(
            self._past(level, *(_plain(getattr(work, column)) for column in columns))
            for level, columns in self.levels.items()
            if level not in self._late.values()
        )

    def look(self, work: Work, at_s: float) -> list[float]:
        """How a run submitted at `at_s` looks; changes nothing that matters."""
        ages = self._by_deployment.get(work.deployment)
        last = [past.last_failed for past in self._inputs(work.deployment)]
        known = [value for value in last if value == value]
        row = [
            at_s % 86400.0 / 3600.0,
            float(at_s // 86400.0 % 7),
            math.log1p(work.size) if work.size >= 0 else math.nan,
            math.log1p(work.expected_s) if work.expected_s >= 0 else math.nan,
            math.log1p(max(0.0, at_s - min(ages.values()))) if ages else math.nan,
            math.log1p(max(0.0, at_s - max(ages.values()))) if ages else math.nan,
            sum(known) / len(known) if known else math.nan,
        ]
        early = iter(self._pasts_of(work))
        for columns in self.levels.values():
            late = bool(columns) and columns[0] in LATE
            row.extend((self._late_past(columns[0], work.deployment) if late else next(early)).features(at_s))
        return row

    def _late_past(self, column: str, deployment: str) -> KeyStatistics:
        """What a run that is submitted now will probably meet; an empty past if that is not known."""
        if column in ("host", "cause"):
            last = (self._last_host if column == "host" else self._last_cause).get(deployment)
            return _UNKNOWN if last is None else self._past(self._late[column], last)
        of = self._inputs(deployment) if column == "inputs" else self._checks(deployment)
        return max(of, key=_badness, default=_UNKNOWN)

    def _inputs(self, deployment: str) -> list[KeyStatistics]:
        """The pasts of the deployments it reads from, as far as they have one."""
        level = next((level for level, columns in self.levels.items() if columns == ("deployment",)), None)
        keys = [(level, name) for name in self._upstream.get(deployment, ())]
        return [self._pasts[key] for key in keys if key in self._pasts]

    def _checks(self, deployment: str) -> list[KeyStatistics]:
        keys = [(self._late["checks"], name) for name in self._upstream.get(deployment, ())]
        return [self._pasts[key] for key in keys if key in self._pasts]

    def submit(self, work: Work, at_s: float) -> None:
        """A run was submitted."""
        pasts = self._pasts_of(work)
        self._flights[work.run_id] = _Flight(work, pasts, at_s)
        for past in pasts:
            past.submit(at_s)

    def start(self, run_id: str, at_s: float, *, host: str | None = None) -> None:
        """It took its slot. Ignored if the run is not known or has started before."""
        flight = self._flights.get(run_id)
        if flight is None or flight.started_s is not None:
            return
        pasts = flight.pasts
        if host is not None and "host" in self._late:
            self._last_host[flight.work.deployment] = host
            on_host = self._past(self._late["host"], host)
            on_host.submit(at_s)
            pasts = (*pasts, on_host)
        self._flights[run_id] = _Flight(flight.work, pasts, flight.submitted_s, at_s)
        self._by_deployment.setdefault(flight.work.deployment, {})[run_id] = at_s
        for past in pasts:
            past.running += 1

    def finish(self, run_id: str, at_s: float, *, failed: bool | None, cause: str | None = None) -> None:
        """It ended; `failed` is None for a run that tells nothing (cancelled, or never started)."""
        flight = self._flights.pop(run_id, None)
        if flight is None:
            return
        if flight.started_s is not None:
            self._by_deployment[flight.work.deployment].pop(run_id, None)
        for past in flight.pasts:
            past.in_flight -= 1
            past.running -= flight.started_s is not None
        if failed is None or flight.started_s is None:
            return
        took_s = max(0.0, at_s - flight.started_s)
        for past in flight.pasts:
            past.finish(at_s, took_s, flight.work.expected_s, failed)
        if failed and cause is not None and "cause" in self._late:
            self._last_cause[flight.work.deployment] = cause
            self._past(self._late["cause"], cause).finish(at_s, took_s, math.nan, True)

    def verify(self, check: Verified) -> None:
        """What a deployment wrote was checked."""
        if "checks" in self._late:
            self._past(self._late["checks"], check.deployment).finish(check.at_s, 0.0, math.nan, check.failed)


_UNKNOWN: Final = KeyStatistics()


def _badness(past: KeyStatistics) -> tuple[float, float]:
    """Worst last: the last one failed, then how many failed lately; unknown is no worse than good."""
    return (
        past.last_failed if past.last_failed == past.last_failed else 0.0,
        past.failure_recent if past.failure_recent == past.failure_recent else 0.0,
    )


def _plain(value: Any) -> Any:
    """A key part; all missing values are one key."""
    return None if value is None or value != value else value


Encoder = Callable[[pd.DataFrame], tuple[Array, tuple[str, ...]]]
"""A table of runs to one row of features per run, and their names."""

_SUBMIT, _START, _FINISH = 0, 1, 2  # at one instant: look first, so that what ends in the same second is not yet known


def events(runs: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """(kind, row) of everything that happened to `runs`, in order; kind is 0 submitted, 1 started, 2 finished."""
    moments = np.concatenate([runs["submitted_s"], runs["started_s"], runs["ended_s"]]).astype(float)
    kinds = np.repeat([_SUBMIT, _START, _FINISH], len(runs))
    rows = np.tile(np.arange(len(runs)), 3)
    known = np.isfinite(moments)
    moments, kinds, rows = moments[known], kinds[known], rows[known]
    for at in np.lexsort((rows, kinds, moments)):
        yield int(kinds[at]), int(rows[at])


def works(runs: pd.DataFrame) -> list[Work]:
    """The part of each run that is known at its submission."""
    columns = ("deployment", "pool", "queue", "version", "size", "expected_s")
    ids = [str(row) for row in range(len(runs))]
    return [Work(*row) for row in zip(ids, *(runs[name].tolist() for name in columns), strict=True)]


def replay_into(
    ledger: FeatureState,
    runs: pd.DataFrame,
    verified: Sequence[Verified] = (),
    *,
    before: Callable[[int, Work], None] | None = None,
) -> None:
    """Tell a ledger everything that is known to have happened to `runs`, in order.

    Args:
        ledger: Is told.
        runs: As from `as_runs`.
        verified: Quality checks in order of time.
        before: Called with the row and what is known of it just before the ledger is told that it was submitted.
    """
    work = works(runs)
    submitted, started, ended = (runs[name].to_numpy() for name in ("submitted_s", "started_s", "ended_s"))
    hosts, causes = ([_plain(value) for value in runs[name].tolist()] for name in ("host", "cause"))
    counts, failed = settled(runs).to_numpy(), runs["failed"].to_numpy()
    checks = iter(verified)
    check = next(checks, None)
    for kind, row in events(runs):
        at_s = (submitted, started, ended)[kind][row]
        while check is not None and check.at_s < at_s:
            ledger.verify(check)
            check = next(checks, None)
        if kind == _SUBMIT:
            if before is not None:
                before(row, work[row])
            ledger.submit(work[row], at_s)
        elif kind == _START:
            ledger.start(work[row].run_id, at_s, host=hosts[row])
        else:
            tells = bool(failed[row]) if counts[row] else None
            ledger.finish(work[row].run_id, at_s, failed=tells, cause=causes[row])
    while check is not None:
        ledger.verify(check)
        check = next(checks, None)


def encode(
    runs: pd.DataFrame, levels: Levels = LEVELS_PREFECT, around: Context = NOTHING, since_s: float = -math.inf
) -> tuple[Array, tuple[str, ...]]:
    """Features of every run as of its submission: shape (n_runs, n_features), and their names.

    Rows submitted before `since_s` are remembered but not looked at: all of their features are NaN.
    """
    ledger = FeatureState(levels, around.upstream)
    features = np.full((len(runs), len(ledger.feature_names)), np.nan)
    submitted = runs["submitted_s"].to_numpy()

    def look(row: int, work: Work) -> None:
        if submitted[row] >= since_s:
            features[row] = ledger.look(work, submitted[row])

    replay_into(ledger, runs, around.verified, before=look)
    return features, ledger.feature_names


def find_leaks(encoder: Encoder, runs: pd.DataFrame, rng: np.random.Generator, *, cuts: int = 8) -> tuple[str, ...]:
    """Names of the features that know something before it happened; empty if the encoder is honest.

    At `cuts` random instants everything that happened later is made up anew (outcomes swapped, ends moved, later runs
    given other outcomes, causes, hosts and durations), and the rows submitted by then are encoded again. A feature that
    changes has looked into the future.
    """
    honest, names = encoder(runs)
    leaking: set[str] = set()
    for at in rng.choice(len(runs), size=min(cuts, len(runs)), replace=False):
        instant = float(runs["submitted_s"].iloc[at])
        other = runs.copy()
        unknown = ~(runs["ended_s"] < instant)
        other.loc[unknown, "failed"] = ~runs.loc[unknown, "failed"].astype(bool)
        other.loc[unknown, "state"] = np.where(other.loc[unknown, "failed"], "FAILED", "COMPLETED")
        later = instant + rng.exponential(3600.0, int(unknown.sum()))
        other.loc[unknown, "ended_s"] = np.maximum(later, other.loc[unknown, "started_s"].fillna(instant))
        other.loc[unknown, "cause"] = "made up"
        waiting = ~(runs["started_s"] < instant)
        other.loc[waiting, "host"] = "made up"
        moved = np.maximum(instant, runs.loc[waiting, "submitted_s"]) + rng.exponential(600.0, int(waiting.sum()))
        other.loc[waiting, "started_s"] = moved
        other.loc[waiting, "ended_s"] = moved + rng.exponential(3600.0, int(waiting.sum()))
        again, _ = encoder(other)
        then = runs["submitted_s"].to_numpy() <= instant
        differs = ~np.isclose(honest[then], again[then], rtol=1e-9, atol=1e-12, equal_nan=True)
        leaking.update(names[column] for column in np.flatnonzero(differs.any(axis=0)))
    return tuple(sorted(leaking))
