"""D4: of a deployment at its own limit only what can start counts, and its queue does not stand before others."""

import pytest

from prefect_intelligent.domain import RelativeDeadline, Terms
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.testing.history import InMemoryHistory
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def api(sqlite):
    client = PrefectApi(timeout_s=30.0)
    yield client
    client.close()


def crowd(field, api):
    """Four slots; a dear deployment with a limit of 1 and 30 late runs above, cheap ones in the queue below."""
    pool = field.pool(limit=4)
    field.queue(pool, "dear", priority=10)
    field.queue(pool, "cheap", priority=20)
    dear = Owner(field, pool, limit=1, work_queue_name="dear")
    cheap = Owner(field, pool, work_queue_name="cheap")
    publish_terms(api, dear.flow, Terms(deadline=RelativeDeadline(within_s=1.0), late_usd_per_hour=98.0))
    publish_terms(api, cheap.flow, Terms(deadline=RelativeDeadline(within_s=1.0), late_usd_per_hour=1.0))
    runs = [dear.run(in_s=-float(60 - place)) for place in range(30)]
    return pool, dear, cheap, runs, [cheap.run(in_s=-5.0) for _ in range(6)]


def test_only_what_can_start_counts(sqlite, api):
    pool, dear, _, runs, others = crowd(sqlite, api)
    queue = PrefectOrchestrator(api, pool).observe().queue("dear")
    assert ([run.id for run in queue.waiting], queue.blocked) == ([runs[0]], 29)
    sqlite.set_state(runs[0], "PENDING")
    snapshot = PrefectOrchestrator(api, pool).observe()
    assert (snapshot.queue("dear").waiting, snapshot.queue("dear").blocked) == ((), 29)
    assert len(snapshot.queue("cheap").waiting) == len(others)
    dear.deploy(limit=3, work_queue_name="dear")
    assert len(PrefectOrchestrator(api, pool).observe().queue("dear").waiting) == 2


def test_a_limit_that_others_use_up_counts_too(sqlite, api):
    owner, other = Owner(sqlite), Owner(sqlite)
    body = {"name": f"shared-{owner.short}-{owner.flow}", "limit": 2}
    common = sqlite.call("POST", "/v2/concurrency_limits/", body)["id"]
    for each in (owner, other):
        each.edit(global_concurrency_limit_id=common)
    waiting = [owner.run(in_s=-2.0) for _ in range(3)]
    other.begin()
    queue = PrefectOrchestrator(api, owner.pool).observe().queue("default")
    assert (len(queue.waiting), queue.blocked) == (1, len(waiting) - 1)


def test_its_queue_gives_way_while_none_of_its_runs_can_start(sqlite, api):
    pool, _, _, runs, others = crowd(sqlite, api)
    config = ControllerConfig(
        policy=parse_policy("atc"), rule=parse_policy("atc"), guard=GuardSettings(interval_s=0.0, hysteresis=0.0)
    )
    orchestrator, history = PrefectOrchestrator(api, pool), InMemoryHistory()
    set_if_unset(history, pool, "on", SystemClock().now_s(), by="me")

    def passes():
        reconcile(orchestrator, history, SystemClock(), config)
        return orchestrator.settings()[1]

    passes()
    assert sqlite.polled(pool)[0] == runs[0]  # it is dear, and can start
    sqlite.set_state(runs[0], "PENDING")
    queues = {queue.name: queue.priority for queue in passes()}
    assert queues["cheap"] < queues["dear"]
    assert set(sqlite.polled(pool)) <= set(others)
    sqlite.set_state(runs[0], "COMPLETED")
    queues = {queue.name: queue.priority for queue in passes()}
    assert queues["dear"] < queues["cheap"]
