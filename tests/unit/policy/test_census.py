"""What a policy sees of a snapshot, column by column."""

import math

import pytest

from prefect_intelligent.domain import (
    Estimate,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    Resource,
    Run,
    RunPhase,
    Snapshot,
)
from prefect_intelligent.policy.census import P, Q, take_census

NOW = 10_000.0


def run(name, phase=RunPhase.WAITING, *, scheduled=NOW - 100, p50=60.0, p90=None, due=None, usd=1.0, **more):
    return Run(
        id=name,
        deployment="flow/deployment",
        queue="any",
        phase=phase,
        scheduled_s=scheduled,
        estimate=Estimate(p50_s=p50, p90_s=p90 or p50),
        due_s=due,
        late_usd_per_hour=usd,
        **more,
    )


@pytest.fixture(scope="module")
def census():
    urgent = QueueState(
        setting=QueueSetting(name="urgent", priority=20, limit=3),
        waiting=(
            run("w1", p50=100, due=NOW + 500, usd=2),  # slack 400
            run("w2", p50=30, due=NOW + 10, usd=5, failure_probability=0.5),  # slack -20: will be late
            run("w3", p50=30, due=NOW - 5, usd=1),  # slack -35: is late, and the most urgent
        ),
        active=(run("a1", RunPhase.RUNNING, p50=50, started_s=NOW - 20, resources=("api",)),),
        upcoming=(
            run("u1", RunPhase.UPCOMING, scheduled=NOW + 600, p50=40, due=NOW + 900),
            run("u2", RunPhase.UPCOMING, scheduled=NOW + 7200, p50=40),
        ),
        arrivals_per_hour=6.0,
    )
    idle = QueueState(setting=QueueSetting(name="idle", priority=10, paused=True))
    snapshot = Snapshot(
        at_s=NOW,
        pool=PoolSetting(name="pool", limit=8),
        queues=(urgent, idle),
        prices=Prices(slot_usd_per_hour=0.2, idle_fraction=0.5, lateness_weight=3),
        resources=(Resource(name="api", capacity=2),),
    )
    return take_census(snapshot)


@pytest.mark.parametrize(
    ("column", "urgent", "idle"),
    [
        (Q.PRESENT, 1, 1),
        (Q.PAUSED, 0, 1),
        (Q.LIMIT, 3, math.inf),
        (Q.RANK, 1, 0),
        (Q.WAITING, 3, 0),
        (Q.ACTIVE, 1, 0),
        (Q.WAITING_WORK_S, 160, 0),
        (Q.ACTIVE_LEFT_S, 30, 0),
        (Q.HEAD_WAIT_S, 100, 0),
        (Q.HEAD_ESTIMATE_S, 100, 0),
        (Q.HEAD_SLACK_S, 400, math.inf),
        (Q.HEAD_USD_PER_HOUR, 2, 0),
        (Q.URGENT_ESTIMATE_S, 30, 0),
        (Q.URGENT_SLACK_S, -35, math.inf),
        (Q.URGENT_USD_PER_HOUR, 1, 0),
        (Q.URGENT_AHEAD_S, 130, 0),
        (Q.DUE_IN_S, -5, math.inf),
        (Q.LATE, 2, 0),
        (Q.ACCRUING_USD_PER_HOUR, 1, 0),
        (Q.VALUE_USD_PER_HOUR, 8, 0),
        (Q.ESTIMATE_S, 50, 0),  # (100 + 30 + 30 + 50 + 40) / 5
        (Q.SPREAD, 0, 0),
        (Q.FAILURE_PROBABILITY, 0.5 / 3, 0),
        (Q.ARRIVALS_PER_HOUR, 6, 0),
        (Q.UPCOMING, 1, 0),
        (Q.UPCOMING_WORK_S, 40, 0),
        (Q.NEXT_IN_S, 600, math.inf),
        (Q.NEXT_SLACK_S, 860, math.inf),
        (Q.RESOURCE_CAPACITY, 2, math.inf),
        (Q.RESOURCE_ACTIVE, 1, 0),
    ],
)
def test_a_queue_column(census, column, urgent, idle):
    assert census[column] == pytest.approx([urgent, idle])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (P.LIMIT, 8),
        (P.ACTIVE, 1),
        (P.HOUR, NOW / 3600),
        (P.SLOT_USD_PER_HOUR, 0.2),
        (P.IDLE_FRACTION, 0.5),
        (P.LATENESS_WEIGHT, 3),
        (P.PAUSED, 0),
    ],
)
def test_a_pool_column(census, column, value):
    assert census[column] == pytest.approx(value)


def test_a_run_that_outlives_its_median_is_expected_to_need_longer_the_longer_it_overruns():
    running = run("a", RunPhase.RUNNING, p50=100, started_s=NOW - 300)
    assert running.remaining_s(NOW) == 100.0  # 200 s over the median: half of that again
    assert run("b", RunPhase.RUNNING, p50=100, started_s=NOW - 100).remaining_s(NOW) == 1.0


def test_the_spread_of_an_estimate_is_that_of_a_lognormal():
    assert Estimate(p50_s=60, p90_s=60 * math.exp(1.2815515655446004)).sigma == pytest.approx(1.0)
