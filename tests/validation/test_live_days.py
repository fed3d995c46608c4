"""Days on a real server with the worker that holds runs: dispatched as in the twin, and steered by the product."""

from pathlib import Path

import pytest

from benchmarks.live.arms import Arm
from benchmarks.live.day import draw_day, shape_day
from benchmarks.live.holding_worker import SECONDS, HoldingWorker
from benchmarks.live.real_day import play_day
from simulations.against_prefect.comparison import compare
from simulations.against_prefect.days import ONE_WORKER, PROCESS_DAY, plan_day
from simulations.against_prefect.recording import record_day
from simulations.against_prefect.recording import start_holding_worker as start_worker
from simulations.scenario import load_scenario
from tests.real_prefect import Process, RealServer

ONE_SLOT = """
purpose = "Four runs of bulk are due before two reports, on one slot."
hours = 0.02

[[pools]]
limit = 1
max_slots = 1
queues = [{ name = "bulk", priority = 1 }, { name = "reports", priority = 2 }]

[[deployments]]
name = "bulk/load"
queue = "bulk"
arrivals = { kind = "interval", every_s = 3600, offset_s = 2, runs = 4 }
duration = { median_s = 30, cv = 0.1 }
deadline = "5m"

[[deployments]]
name = "reports/board"
queue = "reports"
late_usd_per_hour = 60.0
arrivals = { kind = "interval", every_s = 3600, offset_s = 20, runs = 2 }
duration = { median_s = 15, cv = 0.1 }
deadline = "1m"
"""


def start_holding_worker(server: RealServer, pool: str) -> Process:
    return start_worker(server, pool, ONE_WORKER, server.home / "polls.json")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
def test_the_holding_worker_is_served_as_the_process_worker_is():
    figures = compare(record_day(plan_day(PROCESS_DAY, 24, seed=1)), worlds=100, seed=1)
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


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.worker
def test_a_steered_day_is_decided_in_the_time_of_the_day(prefect_server: RealServer, tmp_path: Path):
    scenario = tmp_path / "one-slot.toml"
    scenario.write_text(ONE_SLOT)
    day = draw_day(shape_day(load_scenario(str(scenario))), seed=0, factor=4.0)
    found = play_day(prefect_server, day, Arm(name="rule", policy="atc"), 4.0, tmp_path)
    # The bulk is first in the pool's own order: without a controller every report would begin after the last of it.
    began: dict[str, list[float]] = {"bulk": [], "reports": []}
    for planned, run in zip(day.runs, found.runs, strict=True):
        began[planned.queue].append(run.started_s)
    assert max(began["reports"]) < max(began["bulk"])
    # By the clock the day has lasted a quarter of this, and the decisions came four times as often.
    assert found.lasted_s > sum(run.work_s for run in day.runs)
    assert found.decided_every_s is not None
    assert 5.0 < found.decided_every_s < found.lasted_s
    assert found.held_longer_s < 5.0
