"""Notes of a work pool on a real server."""

import pytest

from prefect_intelligent.errors import ConflictError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.pool_notes import TAG, PoolNotes

pytestmark = pytest.mark.server


@pytest.fixture
def client(prefect_api):
    return PrefectApi(prefect_api)


def ours(client, pool):
    """Names of the variables that hold notes of the pool."""
    body = {"variables": {"tags": {"all_": [TAG]}}}
    found = [variable["name"] for page in client.pages("/variables/filter", body) for variable in page]
    return [name for name in found if pool.replace("-", "_").lower() in name]


def test_a_note_is_kept_and_replaced(api, client):
    pool = api.pool()
    notes = PoolNotes(client, pool)
    assert notes.read("switch") is None
    for value in ({"position": "on"}, {"position": "off", "by": "é"}):
        notes.write("switch", value)
        assert PoolNotes(client, pool).read("switch") == value
    assert notes.read("original") is None


def test_a_long_note_is_kept_in_parts_that_are_removed_with_it(api, client):
    pool = api.pool()
    notes = PoolNotes(client, pool)
    for rows in (400, 900, 3, 400):
        value = {"records": [['"queue"', number, None] for number in range(rows)]}
        notes.write("original", value)
        assert notes.read("original") == value
    assert len(ours(client, pool)) > 2
    notes.write("original", {"records": []})
    assert len(ours(client, pool)) == 1


def test_a_pool_made_anew_has_no_notes_of_the_one_before(api, client):
    pool = api.pool()
    notes = PoolNotes(client, pool)
    notes.write("switch", {"position": "on"})
    client.call("DELETE", f"/work_pools/{pool}")
    with pytest.raises(ConflictError, match="does not exist"):
        notes.read("switch")
    api.call("POST", "/work_pools/", {"name": pool, "type": "process"})
    assert notes.read("switch") is None
    notes.write("switch", {"position": "off"})
    assert notes.read("switch") == {"position": "off"}


@pytest.mark.parametrize("value", ["on", 3, {"pool": "x"}, ["on"]])
def test_a_note_that_a_person_has_edited_is_empty_and_not_absent(api, client, value):
    pool = api.pool()
    notes = PoolNotes(client, pool)
    notes.write("switch", {"position": "on"})
    (name,) = ours(client, pool)
    client.call("PATCH", f"/variables/name/{name}", {"value": value})
    assert notes.read("switch") == {}


def test_a_note_of_which_a_part_is_gone_is_empty(api, client):
    pool = api.pool()
    notes = PoolNotes(client, pool)
    notes.write("original", {"records": ["x" * 9_000]})
    part = max(ours(client, pool), key=len)
    client.call("DELETE", f"/variables/name/{part}")
    assert notes.read("original") == {}
