"""Point-in-time features: what was known of every deployment, queue and kind of run at each instant.

Training and serving use the same `FeatureState`. It is updated by three kinds of events in the order in which they
happened (a run was submitted, started, finished) and gives the features of a run that is submitted at any instant.
Features cannot leak: an outcome enters by `finish` only. `find_leaks` tests that for any encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from prefect_intelligent.forecasting.key_statistics import KEY_FEATURES, KeyStatistics
from prefect_intelligent.forecasting.parameter_tree import PARAMETER_FEATURES, Parameters, ParameterStatistics
from prefect_intelligent.history.run_parameters import unpack
from prefect_intelligent.history.runs_frame import settled

Array = npt.NDArray[np.float64]
Levels = Mapping[str, tuple[str, ...]]
"""Name of a level to the columns whose values make its key, finest first; no columns is one key for all runs.

The columns of `UNKNOWN_AT_SUBMISSION` are the only column of their level, and are looked up by the deployment: `host`
is the host of its last start, `cause` the cause of its last failure (with the statistics of all runs that failed by
it), `inputs` the worst of its upstream deployments, `checks` the worst of the quality checks of their outputs.
The level of `BY_PARAMETERS` has the features of `ParameterStatistics`.
"""
BY_PARAMETERS: Final = ("parameters",)
UNKNOWN_AT_SUBMISSION: Final = ("host", "cause", "inputs", "checks")


class OutputCheck(NamedTuple):
    """A quality check of an output of a deployment, at an instant in Unix seconds."""

    at_s: float
    deployment: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known beside the runs themselves.

    Attributes:
        upstream: Deployment to the deployments whose outputs it reads.
        output_checks: Quality checks of outputs, in order of time.
    """

    upstream: Mapping[str, Sequence[str]] = field(default_factory=dict)
    output_checks: Sequence[OutputCheck] = ()


NO_CONTEXT: Final = Context()

LEVELS_SWF: Final[Levels] = {
    "the same work": ("deployment", "size", "expected_s"),
    "this size": ("deployment", "size"),
    "this time limit": ("deployment", "expected_s"),
    "the deployment": ("deployment",),
    "the queue": ("queue",),
    "the pool": ("pool",),
}
_OF_PARAMETERS: Final[Levels] = {
    "the same parameters": ("deployment", "parameters"),
    "runs with such parameters": BY_PARAMETERS,
}
LEVELS_SWF_PARAMETERS: Final[Levels] = {**LEVELS_SWF, **_OF_PARAMETERS}
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
LEVELS_PREFECT_PARAMETERS: Final[Levels] = {**_OF_PARAMETERS, **LEVELS_PREFECT}

RUN_FEATURES: Final[Mapping[str, str]] = {
    "hour": "hour of the day",
    "weekday": "day of the week",
    "log_size": "size of the run",
    "log_expected": "the estimate given",
    "oldest_in_flight": "age of the runs under way",
    "youngest_in_flight": "age of the runs under way",
    "upstream_failed": "failed upstream deployments",
}


class SubmittedRun(NamedTuple):
    """What is known of a run when it is submitted; levels may use its fields as columns."""

    run_id: str
    deployment: str
    pool: str | None = None
    queue: str | None = None
    version: str | None = None
    size: float = math.nan
    expected_s: float = math.nan
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A run that has not ended, with the statistics of its keys."""

    run: SubmittedRun
    statistics: tuple[KeyStatistics, ...]
    submitted_s: float
    started_s: float | None = None


def feature_names(levels: Levels) -> tuple[str, ...]:
    """Names of the features of a run: those of `RUN_FEATURES`, then "level: feature"."""
    names = list(RUN_FEATURES)
    for level, columns in levels.items():
        names += [f"{level}: {name}" for name in (PARAMETER_FEATURES if columns == BY_PARAMETERS else KEY_FEATURES)]
    return tuple(names)


class FeatureState:
    """Statistics of all keys as of the last event.

    Args:
        levels: Keys for which statistics are kept.
        upstream: Deployment to the deployments whose outputs it reads.
    """

    def __init__(self, levels: Levels = LEVELS_PREFECT, upstream: Mapping[str, Sequence[str]] | None = None) -> None:
        self.levels = dict(levels)
        self._upstream = dict(upstream or {})
        self._unknown_levels = {
            columns[0]: level
            for level, columns in self.levels.items()
            if columns and columns[0] in UNKNOWN_AT_SUBMISSION
        }
        self.parameters = ParameterStatistics() if BY_PARAMETERS in self.levels.values() else None
        """What parameters tell; None if no level asks for it."""
        self._statistics: dict[tuple[Any, ...], KeyStatistics] = {}
        self._in_flight: dict[str, _InFlight] = {}
        self._started: dict[str, dict[str, float]] = {}  # deployment to run id to start
        self._last_host: dict[str, str] = {}
        self._last_cause: dict[str, str] = {}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`: those of `RUN_FEATURES`, then "level: feature"."""
        return feature_names(self.levels)

    def _of_key(self, level: str, *key: Any) -> KeyStatistics:
        found = self._statistics.get((level, *key))
        if found is None:
            found = self._statistics[(level, *key)] = KeyStatistics()
        return found

    def _of_run(self, run: SubmittedRun) -> tuple[KeyStatistics, ...]:
        """Statistics of the keys that are known when the run is submitted."""
        return tuple(
            self._of_key(level, *(_plain(getattr(run, column)) for column in columns))
            for level, columns in self.levels.items()
            if level not in self._unknown_levels.values() and columns != BY_PARAMETERS
        )

    def features(self, run: SubmittedRun, at_s: float) -> list[float]:
        """Features of a run that is submitted at `at_s`, in the order of `feature_names`; NaN is unknown."""
        started = self._started.get(run.deployment)
        last = [statistics.last_failed for statistics in self._of_inputs(run.deployment)]
        known = [value for value in last if value == value]
        row = [
            at_s % 86400.0 / 3600.0,
            float(at_s // 86400.0 % 7),
            math.log1p(run.size) if run.size >= 0 else math.nan,
            math.log1p(run.expected_s) if run.expected_s >= 0 else math.nan,
            math.log1p(max(0.0, at_s - min(started.values()))) if started else math.nan,
            math.log1p(max(0.0, at_s - max(started.values()))) if started else math.nan,
            sum(known) / len(known) if known else math.nan,
        ]
        of_known_keys = iter(self._of_run(run))
        for columns in self.levels.values():
            if columns == BY_PARAMETERS:
                assert self.parameters is not None
                row.extend(self.parameters.features(run.deployment, run.parameters))
            elif columns and columns[0] in UNKNOWN_AT_SUBMISSION:
                row.extend(self._of_unknown(columns[0], run.deployment).features(at_s))
            else:
                row.extend(next(of_known_keys).features(at_s))
        return row

    def _of_unknown(self, column: str, deployment: str) -> KeyStatistics:
        """Statistics for a column of `UNKNOWN_AT_SUBMISSION`; empty ones if the deployment has none yet."""
        if column in ("host", "cause"):
            last = (self._last_host if column == "host" else self._last_cause).get(deployment)
            return _EMPTY if last is None else self._of_key(self._unknown_levels[column], last)
        found = self._of_inputs(deployment) if column == "inputs" else self._of_checks(deployment)
        return max(found, key=_badness, default=_EMPTY)

    def _of_inputs(self, deployment: str) -> list[KeyStatistics]:
        """Statistics of the upstream deployments that have any."""
        level = next((level for level, columns in self.levels.items() if columns == ("deployment",)), None)
        keys = [(level, name) for name in self._upstream.get(deployment, ())]
        return [self._statistics[key] for key in keys if key in self._statistics]

    def _of_checks(self, deployment: str) -> list[KeyStatistics]:
        """Statistics of the quality checks of the upstream deployments that have any."""
        keys = [(self._unknown_levels["checks"], name) for name in self._upstream.get(deployment, ())]
        return [self._statistics[key] for key in keys if key in self._statistics]

    def submit(self, run: SubmittedRun, at_s: float) -> None:
        """A run was submitted."""
        found = self._of_run(run)
        self._in_flight[run.run_id] = _InFlight(run, found, at_s)
        for statistics in found:
            statistics.submit(at_s)

    def start(self, run_id: str, at_s: float, *, host: str | None = None) -> None:
        """A run took its slot. Ignored if the run is unknown or has started before."""
        in_flight = self._in_flight.get(run_id)
        if in_flight is None or in_flight.started_s is not None:
            return
        run, found = in_flight.run, in_flight.statistics
        if host is not None and "host" in self._unknown_levels:
            self._last_host[run.deployment] = host
            of_host = self._of_key(self._unknown_levels["host"], host)
            of_host.submit(at_s)
            found = (*found, of_host)
        self._in_flight[run_id] = _InFlight(run, found, in_flight.submitted_s, at_s)
        self._started.setdefault(run.deployment, {})[run_id] = at_s
        for statistics in found:
            statistics.running += 1

    def finish(self, run_id: str, at_s: float, *, failed: bool | None, cause: str | None = None) -> None:
        """A run ended; `failed` is None if its outcome is not used (cancelled, or never started)."""
        in_flight = self._in_flight.pop(run_id, None)
        if in_flight is None:
            return
        run = in_flight.run
        if in_flight.started_s is not None:
            self._started[run.deployment].pop(run_id, None)
        for statistics in in_flight.statistics:
            statistics.in_flight -= 1
            statistics.running -= in_flight.started_s is not None
        if failed is None or in_flight.started_s is None:
            return
        took_s = max(0.0, at_s - in_flight.started_s)
        for statistics in in_flight.statistics:
            statistics.finish(at_s, took_s, run.expected_s, failed)
        if self.parameters is not None:
            self.parameters.finish(run.deployment, run.parameters, math.log1p(took_s), failed)
        if failed and cause is not None and "cause" in self._unknown_levels:
            self._last_cause[run.deployment] = cause
            self._of_key(self._unknown_levels["cause"], cause).finish(at_s, took_s, math.nan, True)

    def add_check(self, check: OutputCheck) -> None:
        """An output of a deployment was checked."""
        if "checks" in self._unknown_levels:
            statistics = self._of_key(self._unknown_levels["checks"], check.deployment)
            statistics.finish(check.at_s, 0.0, math.nan, check.failed)


_EMPTY: Final = KeyStatistics()


def _badness(statistics: KeyStatistics) -> tuple[float, float]:
    """Sort key, worst last: whether the last one failed, then the recent failures; unknown counts as good."""
    return (
        statistics.last_failed if statistics.last_failed == statistics.last_failed else 0.0,
        statistics.failure_recent if statistics.failure_recent == statistics.failure_recent else 0.0,
    )


def _plain(value: Any) -> Any:
    """A part of a key; all missing values are the same key."""
    return None if value is None or value != value else value


Encoder = Callable[[pd.DataFrame], tuple[Array, tuple[str, ...]]]
"""From a table of runs to one row of features per run, and the names of the features."""

_SUBMIT, _START, _FINISH = 0, 1, 2  # order at one instant: a run that ends when another is submitted is not yet known


def run_events(runs: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """(kind, row) of all events of `runs`, in order of time; kind is 0 submitted, 1 started, 2 finished."""
    instants = np.concatenate([runs["submitted_s"], runs["started_s"], runs["ended_s"]]).astype(float)
    kinds = np.repeat([_SUBMIT, _START, _FINISH], len(runs))
    rows = np.tile(np.arange(len(runs)), 3)
    known = np.isfinite(instants)
    instants, kinds, rows = instants[known], kinds[known], rows[known]
    for index in np.lexsort((rows, kinds, instants)):
        yield int(kinds[index]), int(rows[index])


def submitted_runs(runs: pd.DataFrame) -> list[SubmittedRun]:
    """What is known of each run of a table when it is submitted; the run id is the row number."""
    columns = ("deployment", "pool", "queue", "version", "size", "expected_s")
    ids = [str(row) for row in range(len(runs))]
    known = runs["parameters"].tolist() if "parameters" in runs.columns else [None] * len(runs)
    parameters = [unpack(text) for text in known]
    return [SubmittedRun(*row) for row in zip(ids, *(runs[name].tolist() for name in columns), parameters, strict=True)]


def replay_into(
    state: FeatureState,
    runs: pd.DataFrame,
    output_checks: Sequence[OutputCheck] = (),
    *,
    before: Callable[[int, SubmittedRun], None] | None = None,
) -> None:
    """Update a feature state by all events of `runs`, in order of time.

    Args:
        state: Is updated.
        runs: As from `as_runs`.
        output_checks: Quality checks of outputs, in order of time.
        before: Called with the row number and the run just before the state is updated by its submission.
    """
    submissions = submitted_runs(runs)
    submitted, started, ended = (runs[name].to_numpy() for name in ("submitted_s", "started_s", "ended_s"))
    hosts, causes = ([_plain(value) for value in runs[name].tolist()] for name in ("host", "cause"))
    usable, failed = settled(runs).to_numpy(), runs["failed"].to_numpy()
    checks = iter(output_checks)
    check = next(checks, None)
    for kind, row in run_events(runs):
        at_s = (submitted, started, ended)[kind][row]
        while check is not None and check.at_s < at_s:
            state.add_check(check)
            check = next(checks, None)
        if kind == _SUBMIT:
            if before is not None:
                before(row, submissions[row])
            state.submit(submissions[row], at_s)
        elif kind == _START:
            state.start(submissions[row].run_id, at_s, host=hosts[row])
        else:
            outcome = bool(failed[row]) if usable[row] else None
            state.finish(submissions[row].run_id, at_s, failed=outcome, cause=causes[row])
    while check is not None:
        state.add_check(check)
        check = next(checks, None)


def levels_of(runs: pd.DataFrame) -> Levels:
    """The levels for the runs of a Prefect pool: those of parameters would only repeat others where no run has any."""
    return LEVELS_PREFECT_PARAMETERS if runs["parameters"].notna().any() else LEVELS_PREFECT


def encode_runs(
    runs: pd.DataFrame, levels: Levels = LEVELS_PREFECT, context: Context = NO_CONTEXT, since_s: float = -math.inf
) -> tuple[Array, tuple[str, ...]]:
    """Features of every run as of its submission, shape (n_runs, n_features), and their names.

    Runs submitted before `since_s` only update the statistics: all of their features are NaN.
    """
    state = FeatureState(levels, context.upstream)
    features = np.full((len(runs), len(state.feature_names)), np.nan)
    submitted = runs["submitted_s"].to_numpy()

    def encode(row: int, run: SubmittedRun) -> None:
        if submitted[row] >= since_s:
            features[row] = state.features(run, submitted[row])

    replay_into(state, runs, context.output_checks, before=encode)
    return features, state.feature_names


def find_leaks(encoder: Encoder, runs: pd.DataFrame, rng: np.random.Generator, *, cuts: int = 8) -> tuple[str, ...]:
    """Names of the features that leak, i.e. depend on something that happened later; empty if there are none.

    At `cuts` random instants everything that happened later is replaced (outcomes swapped, ends moved, other causes,
    hosts and durations), and the runs submitted by then are encoded again. A feature that changes leaks.
    """
    before, names = encoder(runs)
    leaking: set[str] = set()
    for row in rng.choice(len(runs), size=min(cuts, len(runs)), replace=False):
        instant = float(runs["submitted_s"].iloc[row])
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
        differs = ~np.isclose(before[then], again[then], rtol=1e-9, atol=1e-12, equal_nan=True)
        leaking.update(names[column] for column in np.flatnonzero(differs.any(axis=0)))
    return tuple(sorted(leaking))
