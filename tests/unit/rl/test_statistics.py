"""The paired statistics against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rl.evaluation.statistics import (
    geometric_ratio,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)


def test_geometric_ratio_of_equal_ratios_is_that_ratio_without_uncertainty() -> None:
    assert geometric_ratio([np.full((3, 5), 0.8), np.full((3, 7), 0.8)]) == pytest.approx((0.8, 0.8, 0.8))


def test_scenarios_count_alike_however_many_episodes_they_have() -> None:
    found = geometric_ratio([np.full((1, 100), 0.5), np.full((1, 2), 2.0)])
    assert found.value == pytest.approx(1.0)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for number in range(100):
        ratios = np.exp(rng.normal(0.1, 0.3, (1, 40)))
        found = geometric_ratio([ratios], seed=number, resamples=500)
        covered += found.low <= np.exp(0.1) <= found.high
    assert 85 <= covered <= 100


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (5, 40))
    alike = geometric_ratio([np.exp(noise)])
    apart = geometric_ratio([np.exp(noise + np.linspace(-0.5, 0.5, 5)[:, None])])
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


@pytest.mark.parametrize("count", [4, 8, 40, 100])
def test_interquartile_mean_is_the_trimmed_mean(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_small_figures() -> None:
    assert probability_of_improvement(np.array([0.5, 1.0, 2.0, 0.9])) == 0.625
    assert performance_profile(np.array([0.8, 1.0, 1.2]), [0.9, 1.0, 2.0]) == pytest.approx([1 / 3, 2 / 3, 1.0])
