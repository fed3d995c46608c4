"""Figures of episodes against worlds whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from prefect_intelligent.twin.model.state import CRASHED
from prefect_intelligent.twin.model.stop_run import stop_run
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from simulations.metrics import EpisodeMetrics, conditional_value_at_risk, measure
from simulations.theory import station


def one_slot() -> World:
    """Three runs of ten minutes that all come at once to one slot, due after 500 s at 6 USD per hour of lateness."""
    world = station(np.zeros(3), np.full(3, 600.0), np.zeros(3), slots=1)
    world.runs["due_s"] = 500.0
    world.deployments["late_usd_per_hour"] = 6.0
    return world


def test_lateness_and_waits_of_three_runs_in_one_slot() -> None:
    twin = Twin(one_slot())
    twin.finish()
    found = measure(twin)
    assert found.miss_rate == [1.0]
    assert found.weighted_late_hours == pytest.approx([(100 + 700 + 1300) * 6 / 3600])
    assert found.lateness_usd == pytest.approx(found.weighted_late_hours)
    assert found.cost_usd == pytest.approx(found.capacity_usd + found.lateness_usd + found.failure_usd)
    assert (found.wait_p50_s, found.wait_p95_s, found.wait_p99_s) == (
        pytest.approx([600.0]),
        pytest.approx([1140.0]),
        pytest.approx([1188.0]),
    )
    assert found.late_cvar95_s == pytest.approx([1300.0])
    assert (found.runs, found.late_runs, found.failed_runs, found.finished) == ([3], [3], [0], [1])
    assert np.isnan(found.violations).all()


def test_a_run_that_has_not_ended_is_late_but_not_missed_yet() -> None:
    twin = Twin(one_slot())
    twin.advance(610.0)
    found = measure(twin, np.array([2.0]))
    assert (found.late_runs, found.finished, found.violations) == ([3], [0], [2])
    assert found.weighted_late_hours == pytest.approx([100 * 6 / 3600])


def test_a_crashed_run_has_failed() -> None:
    twin = Twin(one_slot())
    twin.advance(10.0)
    assert stop_run(twin.world, twin.state, 0, 0, CRASHED)
    twin.finish()
    assert measure(twin).failed_runs == [1]


def test_batches_are_joined_in_order() -> None:
    twin = Twin(one_slot())
    twin.advance(610.0)
    early = measure(twin)
    twin.finish()
    joined = EpisodeMetrics.join([early, measure(twin)])
    assert joined.finished.tolist() == [0, 1]
    assert joined.runs.tolist() == [3, 3]


def test_the_tail_is_the_mean_of_the_worst_values() -> None:
    assert conditional_value_at_risk(np.arange(100.0)) == 97.0  # mean of 95 to 99
    assert conditional_value_at_risk(np.zeros(0)) == 0.0
