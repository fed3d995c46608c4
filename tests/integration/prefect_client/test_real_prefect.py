"""The helpers that other tests stand on: a server, a worker, runs by the thousand."""

import signal
import time

import pytest

from tests.real_prefect import RealServer, clone_runs, start_worker

FLOW = """
from prefect import flow

@flow
async def hello(who="you"):
    return who
"""


@pytest.mark.server
def test_pools_queues_and_runs_are_served_in_order_of_priority(api):
    pool = api.pool(limit=3)
    api.queue(pool, "low", priority=30)
    api.queue(pool, "high", priority=10, limit=1)
    low, high = api.deployment(pool, "low"), api.deployment(pool, "high")
    late = [api.run(low, in_s=-50), api.run(low, in_s=-40)]
    first, second = api.run(high, in_s=-2), api.run(high, in_s=-1)
    assert api.polled(pool) == [first, *late]
    assert second not in api.polled(pool)
    assert api.numbers(pool) == {
        "": (None, 3, False),
        "default": (1, None, False),
        "high": (10, 1, False),
        "low": (30, None, False),
    }


@pytest.mark.server
def test_runs_are_cloned_by_the_thousand(prefect_server, api):
    pool = api.pool()
    run = api.run(api.deployment(pool, "default"))
    clone_runs(prefect_server, run, 1000)
    assert api.call("POST", "/flow_runs/count", {"work_pools": {"name": {"any_": [pool]}}}) == 1001
    assert len(api.polled(pool)) == 200


@pytest.mark.postgres
@pytest.mark.server
def test_runs_are_cloned_on_postgres(postgres_server):
    api = postgres_server.api()
    pool = api.pool()
    run = api.run(api.deployment(pool, "default"))
    clone_runs(postgres_server, run, 50)
    assert len(api.polled(pool)) == 51


@pytest.mark.server
def test_a_killed_server_comes_back_with_its_data(own_server: RealServer):
    pool = own_server.api().pool()
    own_server.kill()
    assert not own_server.answers()
    own_server.start()
    assert own_server.api().queues(pool).keys() == {"default"}


@pytest.mark.worker
def test_a_process_worker_runs_a_flow_and_stops(prefect_server, api, workers, tmp_path):
    (tmp_path / "hello.py").write_text(FLOW)
    pool = api.pool()
    worker = start_worker(prefect_server, pool)
    workers.callback(worker.kill)
    deployment = api.deployment(pool, "default", flow="hello", entrypoint="hello.py:hello", path=tmp_path)
    (run,) = api.wait([api.run(deployment)])
    assert run["state_type"] == "COMPLETED", worker.tail()
    worker.signal(signal.SIGINT)
    deadline = time.monotonic() + 120
    while worker.popen.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert worker.popen.poll() == 0, worker.tail()
