"""The bootstrap: known intervals, paired draws, tables of two factors."""

import numpy as np
import pytest

from prefect_intelligent.replay.bootstrap import bootstrap, cost_ratio, mean, resample_means, resample_table, total
from prefect_intelligent.replay.spending import SpendingCurve


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_for_many_values():
    saved = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = bootstrap(mean, [saved], np.random.default_rng(1))
    half_width = 1.96 * saved.std() / np.sqrt(len(saved))
    assert found.value == saved.mean()
    assert (found.low, found.high) == pytest.approx((saved.mean() - half_width, saved.mean() + half_width), abs=0.02)


def test_a_total_is_the_mean_times_the_number_of_values():
    saved = np.random.default_rng(2).normal(size=30)
    means, totals = (bootstrap(statistic, [saved], np.random.default_rng(3)) for statistic in (mean, total))
    assert totals == pytest.approx([30 * end for end in means])


def test_costs_are_drawn_in_pairs_so_that_a_constant_ratio_has_no_uncertainty():
    reference = np.random.default_rng(4).exponential(size=60)
    assert bootstrap(cost_ratio, [0.8 * reference, reference], np.random.default_rng(5)) == pytest.approx(
        (0.8, 0.8, 0.8)
    )


def test_the_same_seed_gives_the_same_interval_and_other_quantiles_another():
    saved = np.random.default_rng(6).normal(size=20)
    wide, again, narrow = (
        bootstrap(mean, [saved], np.random.default_rng(7), resamples=400, quantiles=ends)
        for ends in ((0.025, 0.975), (0.025, 0.975), (0.25, 0.75))
    )
    assert wide == again
    assert wide.low < narrow.low < narrow.high < wide.high


def test_means_of_tables_are_those_of_tables_whose_rows_and_columns_are_drawn():
    table = np.random.default_rng(8).normal(size=(4, 25)) + np.arange(4.0)[:, None]
    rng = np.random.default_rng(9)
    drawn = np.array([resample_table(table, rng).mean() for _ in range(4000)])
    means = resample_means(table, rng, 4000)
    assert np.quantile(means, [0.025, 0.5, 0.975]) == pytest.approx(np.quantile(drawn, [0.025, 0.5, 0.975]), abs=0.08)


def test_money_is_interpolated_between_decisions():
    curve = SpendingCurve(at_s=np.array([0.0, 10.0, 20.0]), usd=np.array([0.0, 1.0, 4.0]))
    assert curve.spent_by(np.array([5.0, 10.0, 15.0, 99.0])).tolist() == [0.5, 1.0, 2.5, 4.0]
