"""W8: the owner's collision strategy stays in force while we hold."""

import uuid

import pytest

from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from tests.field.owners import CANCEL_NEW, Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def key():
    return f"ds/{uuid.uuid4().hex[:8]}"


def proposed(owner, run):
    """What becomes of a run that a worker proposes to start."""
    owner.api.set_state(run, "PENDING")
    return owner.api.read_run(run)["state"]["name"]


def test_runs_that_the_owner_wants_cancelled_do_not_pile_up(sqlite, key):
    owner = Owner(sqlite, limit=1, options=CANCEL_NEW)
    due = [owner.run(in_s=-60.0 * minute) for minute in range(5, 0, -1)]
    PrefectDownstream().hold(key, [owner.name])
    PrefectDownstream().held()
    assert owner.values()["options"]["collision_strategy"] == "CANCEL_NEW"
    assert [proposed(owner, run) for run in due] == ["Cancelled"] * 5
    PrefectDownstream().release(key)
    last = owner.run(in_s=-1.0)
    assert proposed(owner, last) == "Pending"
    assert owner.values()["limit"] == 1


def test_runs_that_the_owner_lets_wait_wait(sqlite, key):
    for limit, options in ((2, None), (None, None), (None, CANCEL_NEW)):
        owner = Owner(sqlite, limit=limit, options=options)
        before = owner.values()
        run = owner.run(in_s=-5.0)
        PrefectDownstream().hold(key, [owner.name])
        assert proposed(owner, run) == "AwaitingConcurrencySlot"
        PrefectDownstream().release(key)
        assert proposed(owner, run) == "Pending"
        sqlite.set_state(run, "CANCELLED")
        assert owner.values() == before


def test_a_strategy_that_is_deployed_meanwhile_is_in_force_at_once(sqlite, key):
    owner = Owner(sqlite, options=CANCEL_NEW)
    PrefectDownstream().hold(key, [owner.name])
    owner.deploy(limit=1, options=CANCEL_NEW)
    PrefectDownstream().held()
    assert proposed(owner, owner.run(in_s=-1.0)) == "Cancelled"
    owner.deploy(limit=None)
    PrefectDownstream().held()
    assert proposed(owner, owner.run(in_s=-1.0)) == "AwaitingConcurrencySlot"
    PrefectDownstream().release(key)
    assert (owner.values()["limit"], owner.values()["options"]) == (None, None)


def test_a_share_keeps_the_strategy(sqlite, key):
    owner = Owner(sqlite, limit=3, options=CANCEL_NEW)
    actions = PrefectPreventionActions()
    actions.share(key, [owner.name], 1)
    owner.begin()
    assert proposed(owner, owner.run(in_s=-1.0)) == "Cancelled"
    actions.release(key)
    assert proposed(owner, owner.run(in_s=-1.0)) == "Pending"
