"""Paired statistics over training seeds, scenarios and episodes.

Ratios of cost are averaged as logarithms, so that halving and doubling cancel. Confidence intervals are percentile
bootstraps, stratified by scenario, over training seeds and episodes at once (Agarwal et al., NeurIPS 2021): a seed's
episodes stay together, an episode is the same day for every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from prefect_intelligent.policy.census import Array
from prefect_intelligent.replay.bootstrap import (
    ConfidenceInterval,
    percentile_interval,
    resample_means,
    resample_table,
)

RESAMPLES: Final = 10_000


def geometric_ratio(ratios: Sequence[Array], seed: int = 0, resamples: int = RESAMPLES) -> ConfidenceInterval:
    """Geometric mean over scenarios of the geometric mean over seeds and episodes.

    Args:
        ratios: Per scenario, shape (training seeds, episodes): cost over the rival's cost of the same day.
        seed: Of the bootstrap.
        resamples: Bootstrap samples.
    """
    rng = np.random.default_rng(seed)
    logs = [np.log(np.atleast_2d(scenario)) for scenario in ratios]
    value = np.mean([scenario.mean() for scenario in logs])
    drawn = np.zeros(resamples)
    for scenario in logs:
        drawn += resample_means(scenario, rng, resamples) / len(logs)
    return _ratio(percentile_interval(float(value), drawn))


def interquartile_mean(values: Array) -> float:
    """Mean of the middle half; robust like the median, but using half of the data."""
    flat = np.sort(np.ravel(values))
    n = len(flat)
    weight = np.clip(np.minimum(np.arange(1, n + 1) - 0.25 * n, 0.75 * n - np.arange(n)), 0.0, 1.0)
    return float((flat * weight).sum() / weight.sum())


def interquartile_ratio(ratios: Sequence[Array], seed: int = 0, resamples: int = 1000) -> ConfidenceInterval:
    """Interquartile mean of all ratios (as logarithms), with the same bootstrap as `geometric_ratio`.

    Args:
        ratios: Per scenario, shape (training seeds, episodes).
        seed: Of the bootstrap.
        resamples: Bootstrap samples.
    """
    rng = np.random.default_rng(seed)
    logs = [np.log(np.atleast_2d(scenario)) for scenario in ratios]
    value = interquartile_mean(np.concatenate([scenario.ravel() for scenario in logs]))
    drawn = np.empty(resamples)
    for number in range(resamples):
        drawn[number] = interquartile_mean(np.concatenate([resample_table(table, rng).ravel() for table in logs]))
    return _ratio(percentile_interval(value, drawn))


def _ratio(logarithm: ConfidenceInterval) -> ConfidenceInterval:
    """An estimate of a logarithm as a ratio."""
    return ConfidenceInterval(*(float(np.exp(value)) for value in logarithm))


def probability_of_improvement(ratios: Array) -> float:
    """Share of paired episodes that are better than the rival's; ties count half."""
    return float((ratios < 1).mean() + 0.5 * (ratios == 1).mean())


def performance_profile(ratios: Array, at: Sequence[float]) -> list[float]:
    """Share of episodes whose ratio is at most each of the thresholds."""
    return [float((ratios <= threshold).mean()) for threshold in at]
