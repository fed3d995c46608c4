"""W2: a version records what the owner set, not what we hold; deploying a version keeps the claim."""

import uuid
from collections.abc import Iterator

import pytest

from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, ResourceChange
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from tests.field.owners import CANCEL_NEW, Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def server(sqlite) -> Iterator[PrefectPipelineServer]:
    api = PrefectApi(timeout_s=30.0)
    yield PrefectPipelineServer(api)
    api.close()


@pytest.fixture
def key():
    return f"ds/{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("limit", [None, 4])
def test_a_rollback_to_a_version_that_was_made_while_it_was_held(sqlite, server, key, limit, tmp_path):
    owner, history = Owner(sqlite, limit=limit), InMemoryHistory()
    transactions = Transactions(server, history, ManualClock())
    versions = VersionStore(history, FsspecBlobStore(str(tmp_path)), ManualClock())
    rollout = Rollout(transactions, versions, str(tmp_path))
    PrefectDownstream().hold(key, [owner.name])
    kept = rollout.keep_current(owner.name, "me")
    assert kept is not None
    PrefectDownstream().release(key)
    owner.deploy(limit=9, options=CANCEL_NEW)
    rollout.roll_back(owner.name, kept.id[:12])
    assert (owner.values()["limit"], owner.values()["options"]) == (limit, None)


@pytest.mark.parametrize(("limit", "options"), [(None, None), (5, None), (1, CANCEL_NEW), (None, CANCEL_NEW)], ids=str)
def test_what_is_read_while_it_is_held_is_what_the_owner_set(sqlite, server, key, limit, options):
    owner = Owner(sqlite, limit=limit, options=options, job_variables={"env": {"A": "1"}})
    before = server.read(DEPLOYMENT + owner.name)
    PrefectDownstream().hold(key, [owner.name])
    assert server.read(DEPLOYMENT + owner.name) == before
    assert server.read_all(DEPLOYMENT)[DEPLOYMENT + owner.name] == before
    PrefectDownstream().release(key)
    server.write(DEPLOYMENT + owner.name, before)
    found = owner.values()
    assert (found["limit"], found["job_variables"]) == (limit, {"env": {"A": "1"}})
    assert (found["options"] or {}).get("collision_strategy") == (options or {}).get("collision_strategy")


def test_a_version_made_under_more_memory_has_the_owners(sqlite, server, key):
    owner = Owner(sqlite, job_variables={"memory": 512})
    template = sqlite.call("GET", f"/work_pools/{owner.pool}")["base_job_template"]
    template["variables"]["properties"]["memory"] = {"type": "integer", "default": 256}
    sqlite.call("PATCH", f"/work_pools/{owner.pool}", {"base_job_template": template})
    actions = PrefectPreventionActions()
    actions.resize(key, [owner.name], 4.0)
    kept = server.read(DEPLOYMENT + owner.name)
    assert kept is not None
    assert kept["job_variables"] == {"memory": 512}
    server.write(DEPLOYMENT + owner.name, {**kept, "job_variables": {"memory": 700}})
    assert owner.values()["job_variables"] == {"memory": 2800}
    actions.release(key)
    assert owner.values()["job_variables"] == {"memory": 700}


@pytest.mark.parametrize("limit", [None, 3])
def test_a_version_deployed_while_it_is_held_keeps_the_hold(sqlite, server, key, limit):
    owner = Owner(sqlite, limit=limit)
    PrefectDownstream().hold(key, [owner.name])
    kept = server.read(DEPLOYMENT + owner.name)
    assert kept is not None
    for number in (8, None, 2):
        server.write(DEPLOYMENT + owner.name, {**kept, "concurrency_limit": number})
        assert not owner.starts()
        found = server.read(DEPLOYMENT + owner.name)
        assert found is not None
        assert found["concurrency_limit"] == number
    PrefectDownstream().release(key)
    assert owner.values()["limit"] == 2
    assert owner.starts()


def test_a_pause_that_is_taken_back_keeps_what_the_owner_has_set_meanwhile(sqlite, server):
    owner = Owner(sqlite, limit=2)
    transactions = Transactions(server, InMemoryHistory(), ManualClock())
    resource = DEPLOYMENT + owner.name
    before = server.read(resource)
    assert before is not None
    transactions.begin("drain", [ResourceChange(resource=resource, before=before, after={**before, "paused": True})])
    assert owner.values()["paused"]
    owner.edit(concurrency_limit=6, tags=["mine"])
    transactions.abandon()
    found = owner.values()
    assert (found["paused"], found["limit"], owner.stored()["tags"]) == (False, 6, ["mine"])
