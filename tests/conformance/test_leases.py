"""At most one leader, whatever the lease is made of."""

import time
import uuid

import pytest

from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.lease import PrefectLease
from prefect_intelligent.testing.lease import InMemoryLease, LeaseBoard

TTL_S = 5.0
PATIENCE = 2.0  # a busy server may take seconds for a call: on a real one everything lasts longer


@pytest.fixture(
    params=[
        "fake",
        pytest.param("sqlite", marks=pytest.mark.server),
        pytest.param("postgres", marks=[pytest.mark.server, pytest.mark.postgres]),
    ]
)
def leases(request):
    """A maker of leases that compete, and a way to let time pass."""
    if request.param == "fake":
        board = LeaseBoard()
        return lambda name, ttl_s=TTL_S: InMemoryLease(board, name, ttl_s), board.clock.sleep
    server = request.getfixturevalue("prefect_server" if request.param == "sqlite" else "postgres_server")
    pool = f"pool-{uuid.uuid4().hex[:6]}"

    def make(name, ttl_s=TTL_S):
        return PrefectLease(PrefectApi(server.api_url), pool, ttl_s * PATIENCE)

    return make, lambda seconds: time.sleep(seconds * PATIENCE)


def test_one_holds_it_and_gives_it_up(leases):
    make, _ = leases
    one, two = make("one"), make("two")
    assert not one.renew()
    assert one.acquire()
    assert one.acquire()
    assert not two.acquire()
    assert not two.renew()
    two.release()
    assert one.renew()
    one.release()
    assert two.acquire()
    assert not one.renew()


def test_it_is_kept_by_renewing_and_lapses_without_even_if_others_keep_asking(leases):
    make, sleep = leases
    one, two = make("one"), make("two")
    assert one.acquire()
    for _ in range(3):
        sleep(2.0)
        assert one.renew()
        assert not two.acquire()
    for _ in range(5):
        sleep(1.05)
        if two.acquire():
            break
    else:
        sleep(1.0)
        assert two.acquire()
    assert not one.renew()
    assert not one.acquire()
    one.release()
    assert two.renew()


@pytest.mark.parametrize("leases", ["fake", pytest.param("sqlite", marks=pytest.mark.server)], indirect=True)
def test_a_longer_time_to_live_is_not_cut_short_by_one_who_wants_a_shorter(leases):
    make, sleep = leases
    long, short = make("long", 60.0), make("short")
    assert short.acquire()
    short.release()
    assert long.acquire()
    sleep(6.0)
    assert not short.acquire()
    assert long.renew()


@pytest.mark.server
def test_it_is_kept_while_a_pass_takes_longer(prefect_server):
    pool = f"pool-{uuid.uuid4().hex[:6]}"
    one, two = (PrefectLease(PrefectApi(prefect_server.api_url), pool, TTL_S * PATIENCE) for _ in range(2))
    assert one.acquire()
    until = time.monotonic() + 1.5 * TTL_S * PATIENCE
    with one.kept():
        while time.monotonic() < until:
            assert not two.acquire()
            time.sleep(1.0)
    assert one.held
    one.release()
    assert two.acquire()
