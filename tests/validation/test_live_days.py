"""Days on a real server with the worker that holds runs: dispatched as in the twin, and steered by the product."""

import sys
from pathlib import Path

import pytest

from benchmarks.live.arms import choose_arms
from benchmarks.live.day import draw_day, shape_day
from benchmarks.live.holding_worker import SECONDS, HoldingWorker
from benchmarks.live.real_day import play_day
from benchmarks.live.twin_day import twin_costs
from simulations.against_prefect import POLL_S, compare, record_day
from simulations.scenario import load_scenario
from tests.real_prefect import Process, RealServer

SHORT_DAY = Path(__file__).parents[2] / "benchmarks" / "live" / "short-day.toml"


def start_holding_worker(server: RealServer, pool: str) -> Process:
    command = ["-m", "benchmarks.live.holding_worker", "--pool", pool, "--poll", f"{POLL_S:g}"]
    return Process([sys.executable, *command], server.env(), server.home / "holding-worker.log")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
def test_the_holding_worker_is_served_as_the_process_worker_is():
    figures = compare(record_day(runs=24, seed=1, start_worker=start_holding_worker), worlds=100, seed=1)
    assert figures["order_agreement"] == pytest.approx(1.0, abs=0.02)
    assert figures["wait_p50_error"] < 0.10
    assert figures["wait_p90_error"] < 0.10


@pytest.mark.worker
def test_it_holds_a_run_for_its_seconds_and_keeps_the_limit_of_a_deployment(prefect_server: RealServer, workers):
    api = prefect_server.api()
    pool = api.pool(type=HoldingWorker.type)
    deployment = api.deployment(pool, "default", concurrency_limit=1)
    ids = [api.run(deployment, parameters={SECONDS: 1.5}) for _ in range(2)]
    workers.callback(start_holding_worker(prefect_server, pool).stop)
    runs = api.wait(ids)
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * 2
    states = [api.call("GET", f"/flow_run_states/?flow_run_id={run_id}") for run_id in ids]
    spans = []
    for each in states:
        at = {state["type"]: state["timestamp"] for state in sorted(each, key=lambda state: state["timestamp"])[::-1]}
        assert list(at) == ["COMPLETED", "RUNNING", "PENDING", "SCHEDULED"]
        spans.append((at["PENDING"], at["COMPLETED"]))
    (_, first_end), (second_begin, _) = sorted(spans)
    assert first_end <= second_begin, "the limit of the deployment is one run at a time"


@pytest.mark.slow
@pytest.mark.worker
def test_a_steered_day_is_decided_in_the_time_of_the_day_and_costs_less(prefect_server: RealServer, tmp_path: Path):
    day = draw_day(shape_day(load_scenario(str(SHORT_DAY))), seed=0, factor=10.0)
    default, rule, _ = choose_arms("shipped", 1.0)
    unsteered = play_day(prefect_server, day, default, 10.0, tmp_path)
    steered = play_day(prefect_server, day, rule, 10.0, tmp_path)
    assert unsteered.decisions == 0
    assert steered.decisions > 3
    # Only seconds of the day give an interval of this size: the day has lasted a tenth of that by the clock.
    assert steered.decided_every_s is not None
    assert steered.decided_every_s > 5.0
    assert steered.cost.total_usd < unsteered.cost.total_usd
    assert sum(cost.total_usd for cost in twin_costs(day, rule)) < sum(c.total_usd for c in twin_costs(day, default))
