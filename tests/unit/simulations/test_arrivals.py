"""When runs come: each process at known instants, or with the rate and the shape that it promises."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from prefect_intelligent.errors import InvalidInputError
from simulations.arrivals import DAY_S, HOUR_S, SHAPES, Backfill, Bursts, Cron, Interval, Poisson, RRule
from simulations.workload import Duration

MONDAY_S = 1767571200.0  # 2026-01-05, 00:00 UTC


def rng(seed=0):
    return np.random.default_rng(seed)


def at(*when, zone="UTC"):
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()


def test_an_interval_is_counted_from_the_day_and_repeats_its_runs():
    times = Interval(every_s=3600, offset_s=600, runs=2).times(MONDAY_S + 1800, MONDAY_S + 3 * HOUR_S, rng())
    assert times.tolist() == [MONDAY_S + 4200, MONDAY_S + 4200, MONDAY_S + 7800, MONDAY_S + 7800]


def test_cron_keeps_its_wall_clock_time_over_both_changes_of_daylight_saving():
    cron = Cron(cron="30 7 * * *", timezone="Europe/Paris")
    spring = cron.times(at(2026, 3, 28), at(2026, 3, 31), rng())
    autumn = cron.times(at(2026, 10, 24), at(2026, 10, 27), rng())
    for times in (spring, autumn):
        local = [datetime.fromtimestamp(one, ZoneInfo("Europe/Paris")) for one in times]
        assert [(each.hour, each.minute) for each in local] == [(7, 30)] * 3
    assert np.diff(spring).tolist() == [23 * HOUR_S, 24 * HOUR_S]
    assert np.diff(autumn).tolist() == [25 * HOUR_S, 24 * HOUR_S]


def test_a_recurrence_rule_of_prefect():
    times = RRule(rrule="FREQ=DAILY;BYDAY=MO,WE;BYHOUR=6", runs=1).times(MONDAY_S, MONDAY_S + 7 * DAY_S, rng())
    assert [datetime.fromtimestamp(one, UTC).strftime("%a %H:%M") for one in times] == ["Mon 06:00", "Wed 06:00"]


def test_poisson_has_its_rate_its_daily_shape_and_its_weekend():
    times = Poisson(per_hour=60, shape="office", weekend=0.25).times(MONDAY_S, MONDAY_S + 28 * DAY_S, rng())
    weekday = (times // DAY_S + 3) % 7 < 5
    assert weekday.sum() / (20 * 24) == pytest.approx(60, rel=0.02)
    assert (~weekday).sum() / (8 * 24) == pytest.approx(15, rel=0.05)
    hour = (times[weekday] % DAY_S // HOUR_S).astype(int)
    seen = np.bincount(hour, minlength=24) / len(hour)
    wanted = np.array(SHAPES["office"]) / sum(SHAPES["office"])
    assert np.abs(seen - wanted).max() < 0.006
    assert np.all(np.diff(times) >= 0)


def test_poisson_is_poisson_and_bursts_are_not():
    span_s = 60 * DAY_S
    flat = Poisson(per_hour=30).times(MONDAY_S, MONDAY_S + span_s, rng(1))
    bursts = Bursts(per_day=24, size=30, spread_s=60).times(MONDAY_S, MONDAY_S + span_s, rng(1))
    for times, low, high in ((flat, 0.9, 1.1), (bursts, 10.0, 100.0)):
        counts = np.histogram(times, bins=int(span_s // 300))[0]
        assert low < counts.var() / counts.mean() < high
        assert len(times) / (span_s / HOUR_S) == pytest.approx(30, rel=0.1)


def test_bursts_stay_within_their_spread():
    times = Bursts(per_day=1, size=40, spread_s=120).times(MONDAY_S, MONDAY_S + 50 * DAY_S, rng(2))
    gaps = np.diff(times)
    assert np.quantile(gaps, 0.9) < 30
    assert len(times) / 50 == pytest.approx(40, rel=0.4)


def test_a_backfill_comes_at_once_or_not_at_all():
    assert Backfill(at_s=60, runs=3).times(1000.0, 2000.0, rng()).tolist() == [1060.0] * 3
    assert len(Backfill(at_s=6000, runs=3).times(1000.0, 2000.0, rng())) == 0


def test_what_is_known_in_advance():
    assert Interval(every_s=60).known
    assert Cron(cron="0 * * * *").known
    assert RRule(rrule="FREQ=DAILY").known
    assert not Poisson(per_hour=1).known
    assert not Bursts(per_day=1, size=2).known
    assert not Backfill(at_s=0, runs=1).known


@pytest.mark.parametrize(
    "make",
    [
        lambda: Interval(every_s=0),
        lambda: Interval(every_s=60, runs=0),
        lambda: Cron(cron="every morning"),
        lambda: RRule(rrule="FREQ=SOMETIMES"),
        lambda: Poisson(per_hour=-1),
        lambda: Poisson(per_hour=1, shape="evening"),
        lambda: Poisson(per_hour=1, shape=(1.0, 2.0)),
        lambda: Bursts(per_day=1, size=0),
        lambda: Bursts(per_day=1, size=2, spread_s=-1),
        lambda: Backfill(at_s=-1, runs=1),
        lambda: Duration(median_s=-1),
        lambda: Duration(median_s=60, cv=-1),
        lambda: Duration(median_s=60, tail=0.1, tail_shape=1.0),
        lambda: Duration(samples=(3.0, -2.0)),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(InvalidInputError):
        make()


def test_durations_are_lognormal_heavy_tailed_or_as_recorded():
    body = Duration(median_s=300, cv=0.5).draw(40_000, rng())
    assert np.median(body) == pytest.approx(300, rel=0.02)
    assert np.std(body) / np.mean(body) == pytest.approx(0.5, rel=0.05)
    heavy = Duration(median_s=300, cv=0.5, tail=0.05, tail_shape=1.2).draw(40_000, rng())
    assert np.quantile(heavy, 0.999) > 8 * np.quantile(body, 0.999)
    assert set(Duration(samples=(3.0, 5.0)).draw(100, rng())) == {3.0, 5.0}
    assert np.ptp(Duration(median_s=42, cv=0).draw(10, rng())) == 0
