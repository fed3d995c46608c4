"""Bootstrap confidence intervals of means, totals and ratios of cost.

All intervals are percentile intervals (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13). A
sample x of n values is drawn with replacement B times, and the statistic s is computed of each resample x*. The
interval of s(x) is from the lower to the upper quantile (2.5 % and 97.5 %) of the B values s(x*).

* Paired values (two policies on the same days) are drawn with the same indices, so that the variance which they have in
  common cancels.
* A value of a time series is the total of a block of time, because values within a block depend on each other
  (Carlstein 1986, "The use of subseries values for estimating the variance of a general statistic from a stationary
  sequence").
* In a table of training seeds and episodes, rows and columns are drawn independently of each other (Owen 2007, "The
  pigeonhole bootstrap"), so that the episodes of a seed stay together and an episode is the same for every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from prefect_intelligent.policy.census import Array

QUANTILES_95: Final = (0.025, 0.975)
"""Ends of a 95 % interval."""
_RESAMPLES: Final = 4000
_TABLES_AT_ONCE: Final = 1000
_LEAST_COST_USD: Final = 1e-9


class ConfidenceInterval(NamedTuple):
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., Array],
    samples: Sequence[Array],
    rng: np.random.Generator,
    *,
    resamples: int = _RESAMPLES,
    quantiles: tuple[float, float] = QUANTILES_95,
) -> ConfidenceInterval:
    """Return a statistic of one or more paired samples with its percentile interval.

    Args:
        statistic: Takes an array per sample, shape (..., n), and reduces the last axis.
        samples: Samples of the same length, each of shape (n,); they are resampled with the same indices.
        rng: Draws the indices.
        resamples: Number of resamples.
        quantiles: Lower and upper end of the interval, 0 to 1.
    """
    n = len(samples[0])
    drawn = rng.integers(0, n, (resamples, n))
    value = float(statistic(*samples))
    return percentile_interval(value, statistic(*(sample[drawn] for sample in samples)), quantiles)


def mean(values: Array) -> Array:
    """Return means over the last axis: a statistic for `bootstrap`."""
    found: Array = values.mean(axis=-1)
    return found


def total(values: Array) -> Array:
    """Return sums over the last axis: a statistic for `bootstrap`."""
    found: Array = values.sum(axis=-1)
    return found


def cost_ratio(cost: Array, reference: Array) -> Array:
    """Return ratios of sums over the last axis, sum(cost) / sum(reference): a statistic for `bootstrap`."""
    found: Array = cost.sum(axis=-1) / np.maximum(reference.sum(axis=-1), _LEAST_COST_USD)
    return found


def percentile_interval(
    value: float, drawn: Array, quantiles: tuple[float, float] = QUANTILES_95
) -> ConfidenceInterval:
    """Return an estimate with the quantiles of the values that the bootstrap gave, shape (resamples,)."""
    low, high = np.quantile(drawn, quantiles)
    return ConfidenceInterval(value, float(low), float(high))


def resample_means(table: Array, rng: np.random.Generator, resamples: int) -> Array:
    """Return means of resampled tables, shape (resamples,); rows and columns are drawn independently.

    A mean is computed from the numbers of times that each row and each column is drawn, which are multinomial.

    Args:
        table: Shape (rows, columns), e.g. (training seeds, episodes).
        rng: Draws the rows and columns.
        resamples: Number of resamples.
    """
    rows, columns = table.shape
    means = np.empty(resamples)
    for first in range(0, resamples, _TABLES_AT_ONCE):
        count = min(_TABLES_AT_ONCE, resamples - first)
        row_weights = rng.multinomial(rows, np.full(rows, 1 / rows), count) / rows
        column_weights = rng.multinomial(columns, np.full(columns, 1 / columns), count) / columns
        means[first : first + count] = np.einsum("rs,se,re->r", row_weights, table, column_weights)
    return means


def resample_table(table: Array, rng: np.random.Generator) -> Array:
    """Return one resampled table, of the same shape; rows and columns are drawn independently."""
    rows, columns = table.shape
    drawn_rows, drawn_columns = rng.integers(0, rows, rows), rng.integers(0, columns, columns)
    resampled: Array = table[drawn_rows][:, drawn_columns]
    return resampled
