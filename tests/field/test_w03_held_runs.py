"""W3: what is held does not stand in the way of what is not."""

import time
import uuid

import pytest

from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from tests.field.owners import CANCEL_NEW, Owner
from tests.real_prefect import unix_s

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

MANY = 12


@pytest.fixture
def key():
    return f"ds/{uuid.uuid4().hex[:8]}"


def crowded(api, **held):
    """A pool of two slots with many late runs of one deployment in the first queue, and a few others below."""
    pool = api.pool(limit=2)
    api.queue(pool, "above", priority=10)
    api.queue(pool, "below", priority=20)
    first, other = Owner(api, pool, work_queue_name="above", **held), Owner(api, pool, work_queue_name="below")
    runs = [first.run(in_s=-float(MANY - place)) for place in range(MANY)]
    return pool, first, other, runs, [other.run(in_s=-1.0) for _ in range(2)]


def poll(api, pool):
    """What a worker does: it proposes what it is given, and is refused what is held. Ids of the runs that start."""
    begun = []
    for run in api.polled(pool):
        if api.set_state(run, "PENDING")["status"] == "ACCEPT":
            begun.append(run)
    return begun


def test_others_start_at_the_next_poll_and_the_held_ones_keep_their_place(field, key):
    pool, first, _, runs, others = crowded(field)
    due = {run: field.read_run(run)["expected_start_time"] for run in runs[:3]}
    PrefectDownstream().hold(key, [first.name])
    assert sorted(poll(field, pool)) == sorted(others)
    for run in others:
        field.set_state(run, "COMPLETED")
    later = first.run(in_s=-1.0)
    PrefectDownstream().held()
    assert poll(field, pool) == []
    assert {run: field.read_run(run)["expected_start_time"] for run in due} == due
    PrefectDownstream().release(key)
    assert field.polled(pool) == runs[:2]
    found = [field.read_run(run) for run in (*runs, later)]
    assert all(run["state_type"] == "SCHEDULED" for run in found)
    times = [unix_s(run["next_scheduled_start_time"]) for run in found]
    assert times == sorted(times)
    assert times[-1] <= time.time()


def test_a_deploy_while_they_are_set_aside_loses_none(sqlite, key):
    owner = Owner(sqlite)
    runs = [owner.run(in_s=-5.0) for _ in range(3)]
    PrefectDownstream().hold(key, [owner.name])
    owner.deploy()
    PrefectDownstream().held()
    PrefectDownstream().release(key)
    assert [sqlite.read_run(run)["state_type"] for run in runs] == ["SCHEDULED"] * 3


def test_a_run_that_somebody_moves_meanwhile_stays_where_it_was_put(sqlite, key):
    owner = Owner(sqlite)
    run = owner.run(in_s=-5.0)
    PrefectDownstream().hold(key, [owner.name])
    tomorrow = time.time() + 86400.0
    state = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": _iso(tomorrow)}}
    sqlite.call("POST", f"/flow_runs/{run}/set_state", {"state": state})
    PrefectDownstream().release(key)
    assert unix_s(sqlite.read_run(run)["next_scheduled_start_time"]) == pytest.approx(tomorrow, abs=1.0)


def _iso(at_s):
    from tests.real_prefect import iso

    return iso(at_s)


def test_a_retry_in_its_process_is_not_moved(sqlite, key):
    owner = Owner(sqlite)
    run = owner.run(in_s=-5.0)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": {"scheduled_time": _iso(time.time() + 20)}}
    sqlite.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    before = sqlite.read_run(run)["next_scheduled_start_time"]
    PrefectDownstream().hold(key, [owner.name])
    assert sqlite.read_run(run)["next_scheduled_start_time"] == before
    PrefectDownstream().release(key)


def test_held_runs_do_not_count_as_waiting(sqlite, key):
    pool, first, other, _, others = crowded(sqlite)
    PrefectDownstream().hold(key, [first.name])
    orchestrator = PrefectOrchestrator(PrefectApi(timeout_s=30.0), pool)
    above = orchestrator.observe().queue("above")
    assert (above.waiting, above.upcoming, above.blocked) == ((), (), MANY)
    assert len(orchestrator.observe().queue("below").waiting) == len(others)
    PrefectDownstream().release(key)
    later = PrefectOrchestrator(PrefectApi(timeout_s=30.0), pool).observe().queue("above")
    assert (len(later.waiting), later.blocked) == (MANY, 0)
    del other


def test_runs_whose_owner_wants_them_cancelled_are_not_kept(sqlite, key):
    owner = Owner(sqlite, limit=1, options=CANCEL_NEW)
    run = owner.run(in_s=-5.0)
    PrefectDownstream().hold(key, [owner.name])
    assert sqlite.polled(owner.pool) == [run]
    PrefectDownstream().release(key)
