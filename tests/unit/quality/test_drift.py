import numpy as np
import pytest

from prefect_intelligent.quality.drift import WEEK_S, value_baseline

DAY_S = 86400.0


def series(values, step_s=DAY_S):
    return [i * step_s for i in range(len(values))], list(values)


def test_too_little_past_says_nothing():
    assert value_baseline(*series([1.0] * 7), 7 * DAY_S) is None


def test_a_value_like_its_past_is_near_and_a_new_level_is_far():
    rng = np.random.default_rng(3)
    at_s, values = series(rng.normal(1000, 20, 60))
    usual = value_baseline(at_s, values, 60 * DAY_S)
    assert usual is not None
    assert abs(usual.distance(1000)) < 2
    assert usual.distance(1400) > 5
    assert usual.distance(600) < -5


def test_one_outlier_in_the_past_does_not_move_the_baseline():
    at_s, values = series([100.0, 101, 99, 100, 102, 98, 100, 101, 99, 100_000, 100])
    usual = value_baseline(at_s, values, 11 * DAY_S)
    assert usual is not None
    assert usual.centre == pytest.approx(100, abs=2)


def test_a_count_that_was_always_zero_stands_out_when_it_is_not():
    usual = value_baseline(*series([0.0] * 20), 20 * DAY_S)
    assert usual is not None
    assert usual.distance(1.0) > 5
    assert usual.distance(0.0) == 0


def test_a_weekly_season_is_recognised():
    rng = np.random.default_rng(5)
    at_s = [i * DAY_S for i in range(70)]
    values = [(200.0 if (i % 7) >= 5 else 1000.0) + rng.normal(0, 5) for i in range(70)]
    sunday = 70 * DAY_S + 6 * DAY_S
    usual = value_baseline(at_s, values, sunday)
    assert usual is not None
    assert usual.seasonal
    assert abs(usual.distance(200.0)) < 4
    assert usual.distance(1000.0) > 5
    assert sunday % WEEK_S == 6 * DAY_S


def test_a_slow_trend_is_followed():
    at_s, values = series(np.linspace(100, 200, 50))
    usual = value_baseline(at_s, values, 50 * DAY_S)
    assert usual is not None
    assert usual.centre > 160
