"""W1: claims outlive deploys and deletions, depend on no other claim, and give back what owners have set last."""

import json
import uuid

import pytest

from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from tests.field.owners import CANCEL_NEW, Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

MEMORY = {"memory": {"type": "integer", "default": 512}, "avoid_hosts": {"type": "array", "default": []}}


@pytest.fixture
def key():
    return f"ds/{uuid.uuid4().hex[:8]}"


def hold(key, *owners):
    names = tuple(owner.name for owner in owners)
    assert PrefectDownstream().hold(key, names) == names


def look():
    """What every pass does, and what `held` says."""
    return PrefectDownstream().held()


def release(key):
    return set(PrefectDownstream().release(key))


@pytest.mark.parametrize("limit", [None, 3])
def test_a_deploy_or_a_deletion_of_one_leaves_the_hold_of_the_other(field, key, limit):
    one, two = Owner(field, limit=limit), Owner(field, limit=limit)
    hold(key, one, two)
    assert not one.starts()
    one.deploy(limit=limit)
    assert not two.starts()
    assert look()[one.name] == (key,)
    assert not one.starts()
    one.delete()
    assert not two.starts()
    look()
    assert release(key) == {two.name}
    assert two.values()["limit"] == limit
    assert two.starts()


@pytest.mark.parametrize(("before", "after"), [(7, 3), (None, 5), (4, None), (2, 2), (None, None)])
def test_a_release_gives_back_what_a_deploy_has_set_meanwhile(field, key, before, after):
    one, two = Owner(field, limit=before), Owner(field, limit=before)
    hold(key, one, two)
    one.deploy(limit=after, options=CANCEL_NEW if after == 3 else None)
    look()
    assert not one.starts()
    release(key)
    found = one.values()
    assert (found["limit"], found["taken"] or 0) == (after, 0)
    assert found["options"] == (CANCEL_NEW | {"grace_period_seconds": None} if after == 3 else None)
    assert two.values()["limit"] == before
    assert one.starts()
    assert two.starts()


def test_deployed_without_a_limit_and_then_with_one(field, key):
    owner = Owner(field, limit=2)
    hold(key, owner)
    for limit in (None, 6, None, 4):
        owner.deploy(limit=limit)
        if limit == 6:
            look()
    look()
    assert not owner.starts()
    release(key)
    assert owner.values()["limit"] == 4
    owner.deploy(limit=None)
    owner.deploy(limit=1)  # Prefect makes the limit anew: no name of ours is in the way
    assert owner.values()["limit"] == 1


def test_made_again_while_it_is_held_it_is_held_again(field, key):
    owner = Owner(field, limit=1)
    hold(key, owner)
    owner.delete()
    assert look()[owner.name] == (key,)
    owner.deploy(limit=9)
    look()
    assert not owner.starts()
    release(key)
    assert owner.values()["limit"] == 9
    assert owner.starts()


def test_a_second_hold_lasts_longer_than_the_first(field, key):
    owner = Owner(field)
    hold(key, owner)
    hold(f"{key} too", owner)
    owner.deploy(limit=2)
    assert release(key) == set()
    assert not owner.starts()
    assert release(f"{key} too") == {owner.name}
    assert owner.values()["limit"] == 2
    assert owner.starts()


def test_a_limit_that_others_use_too_is_left_alone(field, key):
    name = f"warehouse-{uuid.uuid4().hex[:6]}"
    common = field.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": 4})["id"]
    held, free = Owner(field), Owner(field)
    for owner in (held, free):
        owner.edit(global_concurrency_limit_id=common)
    hold(key, held)
    look()
    assert not held.starts()
    assert free.starts()
    release(key)
    assert held.stored()["global_concurrency_limit"]["id"] == common
    assert held.values()["limit"] == 4
    assert held.starts()


def test_a_limit_that_the_owner_attaches_meanwhile_is_kept(field, key):
    name = f"warehouse-{uuid.uuid4().hex[:6]}"
    common = field.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": 4})["id"]
    owner = Owner(field, limit=2)
    hold(key, owner)
    owner.edit(global_concurrency_limit_id=common)
    look()
    assert not owner.starts()
    release(key)
    assert owner.stored()["global_concurrency_limit"]["id"] == common


def test_runs_in_flight_neither_open_a_hold_nor_are_they_forgotten(field, key):
    owner = Owner(field, limit=2)
    first, second = owner.begin(), owner.begin()
    hold(key, owner)
    field.set_state(first, "COMPLETED")
    look()
    assert not owner.starts()
    release(key)
    assert owner.values()["taken"] == 1
    assert owner.starts()
    field.set_state(second, "COMPLETED")
    assert owner.values()["taken"] == 0


def test_nothing_of_a_hold_is_left(field, key):
    owner = Owner(field)
    before = owner.values()
    hold(key, owner)
    release(key)
    assert owner.values() == before
    limits = field.call("POST", "/v2/concurrency_limits/filter", {"limit": 200})
    assert not [limit["name"] for limit in limits if owner.id in limit["name"]]
    body = {"variables": {"tags": {"all_": ["prefect-intelligent-hold"]}}, "limit": 200}
    assert not [v for v in field.call("POST", "/variables/filter", body) if owner.name in str(v["value"])]


def test_a_share_is_divided_and_a_deploy_of_one_leaves_that_of_the_other(field, key):
    actions = PrefectPreventionActions()
    one, two = Owner(field, limit=7), Owner(field)
    assert set(actions.share(key, [one.name, two.name], 2)) == {one.name, two.name}
    running = [one.begin(), two.begin()]
    assert not one.starts()
    assert not two.starts()
    one.deploy(limit=3)
    assert not two.starts()
    actions.mend()
    assert not one.starts()
    one.delete()
    assert not two.starts()
    actions.mend()
    assert two.starts()  # nobody else is there to share with
    actions.release(key)
    assert two.values()["limit"] is None
    for run in running[1:]:
        field.set_state(run, "COMPLETED")


def test_a_share_goes_to_who_has_runs_waiting(field, key):
    actions = PrefectPreventionActions()
    idle, busy = Owner(field), Owner(field)
    actions.share(key, sorted([idle.name, busy.name]), 1)
    waiting = busy.run(in_s=-5.0)
    actions.mend()
    assert busy.starts(waiting)
    actions.release(key)


def test_a_share_never_allows_more_than_the_owner(field, key):
    actions = PrefectPreventionActions()
    owner = Owner(field, limit=1)
    actions.share(key, [owner.name], 5)
    owner.begin()
    assert not owner.starts()
    owner.deploy(limit=5)  # as many as the share: still told from it
    actions.mend()
    actions.release(key)
    assert owner.values()["limit"] == 5


def test_memory_and_hosts_outlive_a_deploy_and_the_owners_values_come_back(field, key):
    actions, owner = PrefectPreventionActions(), Owner(field, job_variables={"memory": 512})
    template = field.call("GET", f"/work_pools/{owner.pool}")["base_job_template"]
    template["variables"]["properties"] |= MEMORY
    field.call("PATCH", f"/work_pools/{owner.pool}", {"base_job_template": template})
    actions.resize(key, [owner.name], 2.0)
    actions.avoid(f"{key} host", [owner.name], "host-1")
    assert owner.values()["job_variables"] == {"memory": 1024, "avoid_hosts": ["host-1"]}
    owner.deploy(job_variables={"memory": 600, "stream": True})
    assert actions.mend()
    assert owner.values()["job_variables"] == {"memory": 1200, "avoid_hosts": ["host-1"], "stream": True}
    assert actions.mend() == ()
    actions.release(key)
    assert owner.values()["job_variables"] == {"memory": 600, "avoid_hosts": ["host-1"], "stream": True}
    owner.deploy()
    actions.release(f"{key} host")
    assert owner.values()["job_variables"] == {}


def test_what_stands_is_not_written_again(field, key):
    owner = Owner(field)
    hold(key, owner)
    actions = PrefectPreventionActions()
    before = owner.stored()["updated"]
    assert actions.mend() == ()
    assert owner.stored()["updated"] == before
    owner.deploy()
    assert [note for note in actions.mend() if owner.name in note]
    assert actions.mend() == ()
    release(key)


@pytest.mark.parametrize("limit", [None, 7])
def test_holds_and_shares_of_version_0_2_are_taken_over(field, key, limit):
    held, shared = Owner(field, limit=limit, options=CANCEL_NEW), Owner(field, limit=limit)
    options = held.values()["options"]
    common = field.call("GET", "/v2/concurrency_limits/prefect-intelligent-hold", ok=False)
    if "id" not in common:
        body = {"name": "prefect-intelligent-hold", "limit": 1, "active_slots": 1_000_000}
        common = field.call("POST", "/v2/concurrency_limits/", body)
    name = f"prefect-intelligent-share-{uuid.uuid4().hex[:16]}"
    share = field.call("POST", "/v2/concurrency_limits/", {"name": name, "limit": 1})
    for owner, theirs, claims in ((held, common, ["hold", 0]), (shared, share, ["share", 1])):
        own = owner.stored()["global_concurrency_limit"] or {}
        value = {"id": owner.id, "name": owner.name, "limit": own.get("id"), "claims": {key: claims}}
        value |= {"options": owner.values()["options"], "job_variables": {}}
        field.call(
            "POST",
            "/variables/",
            {
                "name": f"prefect_intelligent_hold_{owner.id.replace('-', '_')}",
                "value": json.dumps(value),
                "tags": ["prefect-intelligent-hold"],
            },
        )
        owner.edit(global_concurrency_limit_id=theirs["id"], concurrency_options={"collision_strategy": "ENQUEUE"})
    assert look()[held.name] == (key,)
    assert held.stored()["global_concurrency_limit"]["name"] != "prefect-intelligent-hold"
    assert not held.starts()
    shared.begin()
    assert not shared.starts()
    held.deploy(limit=2, options=CANCEL_NEW)
    release(key)
    assert (held.values()["limit"], held.values()["options"]) == (2, options)
    assert (shared.values()["limit"], shared.values()["options"]) == (limit, None)
    assert held.starts()
