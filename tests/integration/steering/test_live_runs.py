"""The cache of live runs stays right while runs come, go, move and pile up."""

import time
from datetime import UTC, datetime

import pytest

from prefect_intelligent.domain import Estimate
from prefect_intelligent.forecasting.outlook import Outlook
from prefect_intelligent.policy.census import Q, take_census
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.adapters.live_runs import LiveRunCache
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from tests.real_prefect import clone_runs

pytestmark = pytest.mark.server


@pytest.fixture
def pool(api):
    name = api.pool()
    for number, queue in enumerate(("a", "b"), start=1):
        api.queue(name, queue, priority=10 * number)
    return name


@pytest.fixture
def client(prefect_server):
    return PrefectApi(prefect_server.api_url)


def ids(api, pool):
    return [queue["id"] for queue in api.queues(pool).values()]


def truth(api, pool):
    """Ids of the pool's scheduled runs, read plainly."""
    found, offset = set(), 0
    while True:
        body = {
            "work_pools": {"name": {"any_": [pool]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "offset": offset,
        }
        page = api.call("POST", "/flow_runs/filter", body)
        found |= {run["id"] for run in page}
        if len(page) < 200:
            return found
        offset += 200


def test_a_refresh_is_a_handful_of_calls_however_many_runs_wait(prefect_server, api, pool, client):
    clone_runs(prefect_server, api.run(api.deployment(pool, "a")), 700)
    cache = LiveRunCache(client, pool)
    cache.refresh(ids(api, pool))
    assert set(cache.scheduled) == truth(api, pool)
    before = client.calls
    cache.refresh(ids(api, pool))
    assert client.calls - before == 4


def test_runs_that_are_deleted_cancelled_or_started_leave(prefect_server, api, pool, client):
    deployment = api.deployment(pool, "a")
    runs = [api.run(deployment, in_s=-10 - i) for i in range(6)]
    cache = LiveRunCache(client, pool)
    cache.refresh(ids(api, pool))
    api.call("DELETE", f"/flow_runs/{runs[0]}")
    api.set_state(runs[1], "CANCELLED")
    api.set_state(runs[2], "PENDING")
    api.set_state(runs[3], "PENDING")
    api.set_state(runs[3], "RUNNING")
    api.set_state(runs[3], "COMPLETED")
    cache.refresh(ids(api, pool))
    assert set(cache.scheduled) == {runs[4], runs[5]} == truth(api, pool)
    assert set(cache.active) == {runs[2]}


def test_a_run_keeps_the_instant_at_which_it_took_its_slot(api, pool, client):
    run = api.run(api.deployment(pool, "a"))
    cache = LiveRunCache(client, pool)
    api.set_state(run, "PENDING")
    cache.refresh(ids(api, pool))
    taken_s = cache.active[run].taken_s
    time.sleep(0.3)
    api.set_state(run, "RUNNING")
    cache.refresh(ids(api, pool))
    assert (cache.active[run].state, cache.active[run].taken_s) == ("RUNNING", taken_s)


def test_a_rescheduled_run_is_noticed_and_keeps_its_expected_start(api, pool, client):
    run = api.run(api.deployment(pool, "a"), in_s=-100)
    cache = LiveRunCache(client, pool)
    cache.refresh(ids(api, pool))
    expected_s = cache.scheduled[run].expected_s
    later = datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    api.set_state(run, "SCHEDULED", state_details={"scheduled_time": later})
    cache.refresh(ids(api, pool))
    assert cache.scheduled[run].next_s == pytest.approx(time.time() + 600, abs=30)
    assert cache.scheduled[run].expected_s == expected_s
    far = datetime.fromtimestamp(time.time() + 90_000, UTC).isoformat()
    api.set_state(run, "SCHEDULED", state_details={"scheduled_time": far})
    cache.refresh(ids(api, pool))
    assert cache.scheduled == {}


def test_a_backlog_beyond_the_budget_is_counted_and_no_short_queue_is_hidden_by_a_long_one(
    prefect_server, api, pool, client
):
    clone_runs(prefect_server, api.run(api.deployment(pool, "a")), 900, spread_s=3600)
    urgent = api.run(api.deployment(pool, "b"))
    cache = LiveRunCache(client, pool, budget=300, per_queue=50)
    cache.refresh(ids(api, pool))
    assert urgent in cache.scheduled
    long_queue = api.queues(pool)["a"]["id"]
    remembered = [run for run in cache.scheduled.values() if run.queue_id == long_queue]
    assert len(remembered) + cache.beyond[long_queue] == 901
    assert len(cache.scheduled) < 600
    # Those remembered are the ones that Prefect serves first.
    first = [key for key in api.polled(pool) if key != urgent]
    assert {run.id for run in remembered} >= set(first[:200]) - {urgent}


def test_the_census_counts_runs_that_are_not_listed(prefect_server, api, pool, client):
    clone_runs(prefect_server, api.run(api.deployment(pool, "a")), 99)
    orchestrator = PrefectOrchestrator(client, pool)
    orchestrator._live_runs = LiveRunCache(client, pool, budget=10, per_queue=10)
    snapshot = orchestrator.observe()
    row = [queue.name for queue in snapshot.queues].index("a")
    assert snapshot.queue("a").beyond == 100 - len(snapshot.queue("a").waiting)
    assert take_census(snapshot)[Q.WAITING][row] == 100
    assert take_census(snapshot)[Q.WAITING_WORK_S][row] == pytest.approx(100 * 60.0)


def test_what_the_history_expects_reaches_the_snapshot_and_the_rest_falls_back(prefect_server, api, pool, client):
    class Outlooks:
        generation = 1

        def of(self, deployment):
            expected = Estimate(p50_s=40.0, p90_s=50.0)
            known = {"known/d": Outlook(estimate=expected, failure_probability=0.2, failed=None, runs=9)}
            return known.get(deployment)

        def refresh(self):
            pass

    known, unknown = api.deployment(pool, "a", flow="known"), api.deployment(pool, "a", flow="unknown")
    waiting, other, running = api.run(known), api.run(unknown), api.run(known)
    api.set_state(running, "RUNNING")
    found = {run.id: run for run in PrefectOrchestrator(client, pool, outlooks=Outlooks()).observe().runs()}
    assert (found[waiting].estimate.p50_s, found[waiting].failure_probability) == (40.0, 0.2)
    assert found[other].estimate.p50_s == 60.0
    later = PrefectOrchestrator(client, pool, outlooks=Outlooks(), now=lambda: time.time() + 600.0)
    hung = next(run for run in later.observe().runs() if run.id == running)
    assert hung.failure_probability > 0.95
