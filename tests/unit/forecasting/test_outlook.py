"""What the history makes one expect of deployments, and of a run while it is at work."""

import threading

import numpy as np
import pandas as pd
import pytest

from prefect_intelligent.domain import Estimate
from prefect_intelligent.domain.heartbeats import Heartbeats
from prefect_intelligent.errors import StoreError
from prefect_intelligent.forecasting.adapters.outlook_cache import HistoryOutlooks
from prefect_intelligent.forecasting.forecaster import train
from prefect_intelligent.forecasting.in_flight_risk import failure_probability_now, survival_probability
from prefect_intelligent.forecasting.outlook import make_outlook
from prefect_intelligent.history.runs_frame import as_runs

NOW = 1_750_000_000.0


def history(count=60, name="a/x", seconds=100.0, failing=(), failed_s=10.0) -> pd.DataFrame:
    ended = NOW - 600.0 * np.arange(count)[::-1]
    bad = np.isin(np.arange(count), list(failing))
    took = np.where(bad, failed_s, seconds) * np.exp(np.random.default_rng(0).normal(0, 0.1, count))
    return as_runs(
        pd.DataFrame(
            {
                "deployment": name,
                "pool": "p",
                "submitted_s": ended - took,
                "started_s": ended - took,
                "ended_s": ended,
                "state": np.where(bad, "FAILED", "COMPLETED"),
            }
        )
    )


def test_thin_old_or_no_history_says_nothing():
    assert make_outlook(history(0), NOW) == {}
    assert make_outlook(history(1), NOW) == {}
    assert make_outlook(history(4), NOW) == {}
    assert make_outlook(history(60), NOW + 90_000.0) == {}
    assert make_outlook(history(60), NOW - 60_000.0) == {}


def test_recent_failures_count_more_than_old_ones():
    old = make_outlook(history(failing=range(5)), NOW)["a/x"]
    new = make_outlook(history(failing=range(55, 60)), NOW)["a/x"]
    assert old.failure_probability < 0.03
    assert new.failure_probability > 0.3
    assert old.runs == 60
    assert new.failed.p50_s == pytest.approx(10.0, rel=0.2)
    assert make_outlook(history(failing=[3]), NOW)["a/x"].failed is None


def test_durations_come_with_their_start_up():
    estimate = make_outlook(history(), NOW, start_up_s=7.0)["a/x"].estimate
    assert estimate.p50_s == pytest.approx(107.0, rel=0.1)
    assert estimate.p90_s > estimate.p50_s


def test_a_forecaster_takes_over():
    runs = history(400, failing=range(0, 400, 4))
    forecaster = train(runs, iterations=30)
    with_it, without = make_outlook(runs, NOW, forecaster)["a/x"], make_outlook(runs, NOW)["a/x"]
    assert with_it.failure_probability != without.failure_probability
    assert 0 < with_it.failure_probability < 1


def test_time_at_work_speaks_for_or_against_a_run():
    usual = Estimate(p50_s=100.0, p90_s=130.0)
    at_start, _ = failure_probability_now(0.2, 0.0, usual, Estimate(p50_s=10.0, p90_s=15.0))
    assert at_start == pytest.approx(0.2, abs=0.002)
    past_early_failures, reasons = failure_probability_now(0.2, 60.0, usual, Estimate(p50_s=10.0, p90_s=15.0))
    assert past_early_failures < 0.01
    assert "failures usually come after 10 s" in reasons[0].what
    hung, reasons = failure_probability_now(0.02, 500.0, usual)
    assert hung > 0.99
    assert "3.8 times what nine runs in ten need" in reasons[0].what
    assert failure_probability_now(0.02, -50.0, usual)[0] == pytest.approx(0.02, abs=0.002)


def test_silence_speaks_against_a_run():
    usual = Estimate(p50_s=1000.0, p90_s=1300.0)
    half_a_minute = Heartbeats(last_s=0.0, every_s=30.0)
    beating, _ = failure_probability_now(0.05, 310.0, usual, None, half_a_minute, 40.0)
    slow, _ = failure_probability_now(0.05, 310.0, usual, None, Heartbeats(last_s=0.0, every_s=600.0), 310.0)
    silent, reasons = failure_probability_now(0.05, 310.0, usual, None, half_a_minute, 310.0)
    assert beating < 0.06
    assert slow < 0.06
    assert silent > 0.95
    assert "no sign of life for 5.2 min" in reasons[0].what


def test_survival_is_that_of_a_lognormal():
    usual = Estimate(p50_s=100.0, p90_s=200.0)
    assert survival_probability(0.0, usual) == 1.0
    assert survival_probability(100.0, usual) == pytest.approx(0.5)
    assert survival_probability(200.0, usual) == pytest.approx(0.1, abs=1e-6)


def test_a_table_is_read_at_once_first_then_in_a_thread_and_kept_when_that_fails(tmp_path):
    gate, reads = threading.Event(), []

    def read(since_s):
        reads.append(since_s)
        if len(reads) == 2:
            gate.wait(10)
            return history(60, failing=range(50, 60))
        if len(reads) == 3:
            raise StoreError("gone")
        return history()

    outlooks = HistoryOutlooks(read, tmp_path, ttl_s=0.0, now=lambda: NOW)
    assert outlooks.of("a/x") is None
    outlooks.refresh()
    first, generation = outlooks.of("a/x"), outlooks.generation
    assert first.runs == 60
    outlooks.refresh()
    outlooks.refresh()
    assert (outlooks.of("a/x"), len(reads)) == (first, 2)
    gate.set()
    outlooks.wait()
    second = outlooks.of("a/x")
    assert second.failure_probability > first.failure_probability
    assert outlooks.generation == generation + 1
    outlooks.refresh()
    outlooks.wait()
    assert (outlooks.of("a/x"), len(reads)) == (second, 3)
