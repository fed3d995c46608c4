"""What the parameters of runs tell of their outcome: a small regression tree over the last runs of one kind.

It is grown again as runs end, so that a forecast never knows more than had ended by then.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import Estimate
from prefect_intelligent.history.run_parameters import Value

Array = npt.NDArray[np.float64]
Parameters = tuple[tuple[str, Value], ...]
"""Name and value of each, by name."""

PARAMETER_FEATURES: Final[Mapping[str, str]] = {
    "failure_rate": "share of failures",
    "failure_runs": "runs finished",
    "log_duration": "usual duration",
    "duration_runs": "runs finished",
    "failure_rate_anywhere": "share of failures",
    "log_duration_anywhere": "usual duration",
}
"""Name of each feature to its wording in a reason; the last two are of all deployments."""

_WINDOW: Final = 2000
"""Ended runs that are remembered of a kind."""
_FIRST: Final = 20
_GROWTH: Final = 1.15
_MOST_BETWEEN: Final = 250
_DEPTH: Final = 4
_MIN_LEAF: Final = 5
_MOST_CATEGORIES: Final = 32
"""Words of a parameter that are told apart; the rarer ones are one."""
_SIGNIFICANT: Final = 14.0
"""How often the variance of what is left a cut has to explain, and twice the log of the number of parameters more: the
best of all cuts through noise does not."""
_PRIOR_RUNS: Final = 2.0
_NOTHING: Final = math.nan
_Z90: Final = 1.2815515655446004
_MAX_LOG: Final = 20.0
_SHORTEST_S: Final = 0.001
_LEAST: Final = 0.002  # probability that odds are taken of


@dataclass(frozen=True, slots=True)
class Leaf:
    """Mean of the outcome of `runs` runs, shrunk to that of all, and its standard deviation."""

    mean: float
    runs: int
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """Runs whose parameter is a number up to `at`, or a word that `words` has as True, are below."""

    name: str
    at: float
    words: Mapping[Value, bool]
    missing_below: bool
    below: Node
    above: Node

    def side(self, value: Value | None) -> Node:
        """Where a run with that value belongs; rare words, and what is missing, are on one side."""
        if isinstance(value, float) and not self.words:
            is_below = value <= self.at
        else:
            is_below = self.words.get(value, self.missing_below) if value is not None else self.missing_below
        return self.below if is_below else self.above


Node = Leaf | Cut


class ParameterTrees:
    """Failures and durations of the runs of one kind by their parameters."""

    __slots__ = ("_ended", "_next", "_since", "durations", "failure_rate", "failures", "log_duration")

    def __init__(self) -> None:
        self._ended: deque[tuple[Parameters, float, float]] = deque(maxlen=_WINDOW)
        self._since, self._next = 0, _FIRST
        self.failures: Node | None = None
        """Share of failed runs; None while too few have ended."""
        self.durations: Node | None = None
        """Mean of log(1 + seconds); None while too few have ended."""
        self.failure_rate = self.log_duration = _NOTHING
        """Means over all parameters, when the trees were grown."""

    def finish(self, parameters: Parameters, log_duration: float, failed: bool) -> None:
        """A run ended."""
        self._ended.append((parameters, float(failed), log_duration))
        self._since += 1
        if self._since < self._next:
            return
        self._since, self._next = 0, min(_MOST_BETWEEN, max(5, int(len(self._ended) * (_GROWTH - 1.0))))
        rows = [dict(each) for each, _, _ in self._ended]
        columns = list(_columns(rows))
        every = np.arange(len(rows))
        bad, logs = (np.array([each[place] for each in self._ended]) for place in (1, 2))
        self.failure_rate, self.log_duration = float(bad.mean()), float(logs.mean())
        self.failures = _grow(columns, bad, every, self.failure_rate, _DEPTH)
        self.durations = _grow(columns, logs, every, self.log_duration, _DEPTH)


def look_up(tree: Node | None, parameters: Mapping[str, Value]) -> Leaf | None:
    """The leaf of a run with these parameters."""
    while isinstance(tree, Cut):
        tree = tree.side(parameters.get(tree.name))
    return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterEffect:
    """By how much a run differs from an expectation, because of its parameters.

    Attributes:
        failures, durations: Trees of its deployment.
        failure_rate: Share of failed runs for which the expectation holds.
        log_duration: Mean of log(1 + seconds) for which it holds; None if it holds for no parameters in particular, and
            then the duration is that of the tree.
    """

    failures: Node
    durations: Node
    failure_rate: float
    log_duration: float | None

    def duration(self, expected: Estimate, parameters: Mapping[str, Value]) -> Estimate:
        """Its duration, where `expected` is the one without this knowledge."""
        leaf = None if isinstance(self.durations, Leaf) else look_up(self.durations, parameters)
        if leaf is None:
            return expected
        if self.log_duration is None:
            high = leaf.mean + _Z90 * leaf.spread
            p50_s, p90_s = (max(_SHORTEST_S, math.expm1(min(log, _MAX_LOG))) for log in (leaf.mean, high))
            return Estimate(p50_s=p50_s, p90_s=p90_s)
        factor = math.exp(min(max(leaf.mean - self.log_duration, -_MAX_LOG), _MAX_LOG))
        return Estimate(
            p50_s=max(_SHORTEST_S, expected.p50_s * factor), p90_s=max(_SHORTEST_S, expected.p90_s * factor)
        )

    def failure_probability(self, expected: float, parameters: Mapping[str, Value]) -> float:
        """Its failure probability, where `expected` is the one without this knowledge."""
        leaf = None if isinstance(self.failures, Leaf) else look_up(self.failures, parameters)
        if leaf is None:
            return expected
        odds = _odds(expected) * _odds(leaf.mean) / _odds(self.failure_rate)
        return odds / (1.0 + odds)


def _odds(probability: float) -> float:
    known = min(max(probability, _LEAST), 1.0 - _LEAST)
    return known / (1.0 - known)


class ParameterStatistics:
    """Trees of every deployment and of all runs together."""

    def __init__(self) -> None:
        self._trees: dict[str | None, ParameterTrees] = {}

    def finish(self, deployment: str, parameters: Parameters, log_duration: float, failed: bool) -> None:
        """A run ended after log(1 + seconds)."""
        if parameters:
            for kind in (deployment, None):
                self._trees.setdefault(kind, ParameterTrees()).finish(parameters, log_duration, failed)

    def effect(self, deployment: str, expected_of: Parameters | None) -> ParameterEffect | None:
        """How parameters change what is expected of a deployment's runs; None if they tell nothing yet.

        Args:
            deployment: Name of it.
            expected_of: Parameters for which the expectation holds; None if it is one over all parameters.
        """
        trees = self._trees.get(deployment)
        if trees is None or trees.failures is None or trees.durations is None:
            return None
        if isinstance(trees.failures, Leaf) and isinstance(trees.durations, Leaf):
            return None
        rate, log_duration = trees.failure_rate, None
        if expected_of is not None:
            failures, durations = _leaves(trees, dict(expected_of))
            rate = failures.mean if failures else rate
            log_duration = durations.mean if durations else trees.log_duration
        return ParameterEffect(
            failures=trees.failures, durations=trees.durations, failure_rate=rate, log_duration=log_duration
        )

    def features(self, deployment: str, parameters: Parameters) -> tuple[float, ...]:
        """The features of a run, in the order of `PARAMETER_FEATURES`; NaN is unknown."""
        if not parameters:
            return (_NOTHING,) * len(PARAMETER_FEATURES)
        given = dict(parameters)
        own, all_ = (self._trees.get(kind) for kind in (deployment, None))
        failures, durations = _leaves(own, given)
        failures_anywhere, durations_anywhere = _leaves(all_, given)
        return (
            *((failures.mean, math.log1p(failures.runs)) if failures else (_NOTHING, _NOTHING)),
            *((durations.mean, math.log1p(durations.runs)) if durations else (_NOTHING, _NOTHING)),
            failures_anywhere.mean if failures_anywhere else _NOTHING,
            durations_anywhere.mean if durations_anywhere else _NOTHING,
        )


def _leaves(trees: ParameterTrees | None, parameters: Mapping[str, Value]) -> tuple[Leaf | None, Leaf | None]:
    if trees is None:
        return None, None
    return look_up(trees.failures, parameters), look_up(trees.durations, parameters)


@dataclass(frozen=True, slots=True)
class _Column:
    """One parameter of all rows.

    Attributes:
        name: Its name.
        numbers: Its numbers, NaN where there is none; shape (rows,).
        words: Its frequent words, if it has words.
        codes: Place of each row's word among them, -1 where it is rare or missing; None if it has numbers.
    """

    name: str
    numbers: Array
    words: tuple[Value, ...] = ()
    codes: npt.NDArray[np.int64] | None = None


def _columns(rows: Sequence[Mapping[str, Value]]) -> Iterator[_Column]:
    for name in sorted({name for row in rows for name in row}):
        values = [row.get(name) for row in rows]
        numbers = np.array([value if isinstance(value, float) else math.nan for value in values])
        words = Counter(value for value in values if value is not None and not isinstance(value, float))
        frequent = tuple(word for word, count in words.most_common(_MOST_CATEGORIES) if count >= _MIN_LEAF)
        if np.isfinite(numbers).any():
            yield _Column(name, numbers)
        if frequent:
            place: dict[Value | None, int] = {word: code for code, word in enumerate(frequent)}
            yield _Column(name, numbers, frequent, np.array([place.get(value, -1) for value in values]))


def _grow(columns: Sequence[_Column], target: Array, rows: npt.NDArray[np.int64], above: float, depth: int) -> Node:
    """The tree over these rows; `above` is the mean to which theirs is shrunk."""
    count = len(rows)
    mean = (float(target[rows].sum()) + _PRIOR_RUNS * above) / (count + _PRIOR_RUNS)
    if depth == 0 or not columns or float(np.ptp(target[rows])) == 0.0:
        return Leaf(mean, count, float(target[rows].std()))
    found = max((_best_cut(column, target[rows], rows) for column in columns), key=lambda cut: cut.gain)
    left = float(((target[rows] - target[rows].mean()) ** 2).sum()) - found.gain
    needed = _SIGNIFICANT + 2.0 * math.log(len(columns))
    if found.gain <= needed * max(left, 1e-9) / (count - 1):
        return Leaf(mean, count, float(target[rows].std()))
    below, over = (_grow(columns, target, part, mean, depth - 1) for part in (rows[found.below], rows[~found.below]))
    return Cut(found.column.name, found.at, found.words, found.missing_below, below, over)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A cut of some rows, with the sum of squares that it explains."""

    column: _Column
    gain: float
    at: float
    words: Mapping[Value, bool]
    missing_below: bool
    below: npt.NDArray[np.bool_]


def _best_cut(column: _Column, target: Array, rows: npt.NDArray[np.int64]) -> _Candidate:
    """The best cut through one parameter; it explains nothing if there is none.

    Words are put in the order of their means: the best of all ways to part them lies along it (Fisher 1958).
    """
    ranks: Array | None = None
    if column.codes is None:
        values = column.numbers[rows]
    else:
        codes = column.codes[rows] + 1
        sizes = np.bincount(codes, minlength=len(column.words) + 1)
        means = np.bincount(codes, target, len(column.words) + 1) / np.maximum(sizes, 1)
        ranks = np.empty(len(means))
        ranks[np.argsort(means, kind="stable")] = np.arange(len(means))
        values = ranks[codes]
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    ordered, sums = values[order], np.cumsum(target[order])
    sizes_below = np.flatnonzero(ordered[1:] > ordered[:-1]) + 1
    sizes_below = sizes_below[(sizes_below >= _MIN_LEAF) & (sizes_below <= len(order) - _MIN_LEAF)]
    if not len(sizes_below):
        return _Candidate(column, 0.0, -math.inf, {}, False, np.zeros(len(rows), dtype=bool))
    total, count, below = sums[-1], len(order), sums[sizes_below - 1]
    gains = below**2 / sizes_below + (total - below) ** 2 / (count - sizes_below) - total**2 / count
    best = int(np.argmax(gains))
    size = int(sizes_below[best])
    at = float(ordered[size - 1] + (ordered[size] - ordered[size - 1]) / 2)
    if ranks is None:
        missing_below = size * 2 >= count
        low = np.where(np.isfinite(values), values <= at, missing_below)
        return _Candidate(column, float(gains[best]), at, {}, missing_below, low)
    words = {word: bool(ranks[code] <= at) for code, word in enumerate(column.words, start=1)}
    return _Candidate(column, float(gains[best]), at, words, bool(ranks[0] <= at), values <= at)
