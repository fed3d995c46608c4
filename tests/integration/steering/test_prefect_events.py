"""What brings a decision forward: the event stream, or counting runs where there is none; and hooks that decide."""

import time

import pytest

from prefect_intelligent.flow import hooks
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import load_settings
from prefect_intelligent.steering.adapters.prefect_events import PrefectEventStream, PrefectWakeUps
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.wiring.steering import open_controller, steer_once

pytestmark = pytest.mark.server


@pytest.fixture
def pool(api):
    """Two queues, each with a run that waits."""
    name = api.pool(limit=2)
    for number, queue in enumerate(("a", "b")):
        api.queue(name, queue, priority=10 * (number + 1))
        api.run(api.deployment(name, queue), in_s=-5)
    return name


def connected(signals):
    end = time.monotonic() + 120
    while not signals.connected and time.monotonic() < end:
        time.sleep(0.05)
    return signals.connected


def test_an_event_about_the_pool_ends_the_wait_and_one_about_another_does_not(api, pool, prefect_api):
    mine, other = api.deployment(pool, "a"), api.deployment(api.pool())
    signals = PrefectWakeUps(PrefectApi(prefect_api), pool)
    try:
        assert connected(signals)
        while signals.wait(1.0):  # events of the last minute are sent again
            continue
        api.run(other)
        assert not signals.wait(1.5)
        api.run(mine)
        assert signals.wait(60.0)
    finally:
        signals.close()


def test_one_stream_serves_several_pools(api, pool, prefect_api):
    other = api.pool()
    mine, theirs = api.deployment(pool, "a"), api.deployment(other)
    stream = PrefectEventStream()
    first, second = (PrefectWakeUps(PrefectApi(prefect_api), name, stream=stream) for name in (pool, other))
    try:
        assert connected(stream)
        while first.wait(1.0) or second.wait(0.0):
            continue
        api.run(theirs)
        assert second.wait(60.0)
        assert not first.wait(1.5)
        second.close()
        api.run(mine)
        assert first.wait(60.0)
        assert stream.connected
    finally:
        stream.close()


def test_without_a_stream_runs_are_counted(api, pool, prefect_api, monkeypatch):
    mine = api.deployment(pool, "a")
    monkeypatch.setattr("prefect_intelligent.steering.adapters.prefect_events.get_events_subscriber", no_stream)
    signals = PrefectWakeUps(PrefectApi(prefect_api), pool, poll_s=0.2)
    try:
        assert not signals.wait(1.0)
        api.run(mine)
        assert signals.wait(60.0)
        assert not signals.connected
    finally:
        signals.close()


def no_stream(**_):
    raise OSError("no websocket")


def test_without_a_server_the_wait_just_ends(pool):
    signals = PrefectWakeUps(PrefectApi("http://127.0.0.1:9/api"), pool, poll_s=0.1)
    try:
        assert not signals.wait(0.5)
    finally:
        signals.close()


@pytest.fixture
def embedded(tmp_path, monkeypatch, prefect_api):
    """Settings of a process that runs flows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PREFECT_INTELLIGENT_POLICY", "fifo+fixed:1")
    monkeypatch.setenv("PREFECT_INTELLIGENT_INTERVAL_S", "600")
    return load_settings().settings


def turn(settings, pool, position):
    set_switch(open_controller(settings, pool).history, pool, position, time.time(), "test")


def test_a_hook_decides_when_nobody_else_has_lately(api, pool, embedded, monkeypatch):
    assert steer_once(pool, 5.0) is None  # nobody has switched the pool on
    turn(embedded, pool, "on")
    decision = steer_once(pool, 5.0)
    assert decision.by == "hook"
    assert api.numbers(pool)[""][1] == 1
    assert steer_once(pool, 5.0) is None
    monkeypatch.setenv("PREFECT_INTELLIGENT_INTERVAL_S", "1")
    time.sleep(1.1)
    assert steer_once(pool, 5.0).outcome == "unchanged"


def test_a_hook_asks_for_the_switch_before_anything_else(api, pool, embedded):
    history = open_controller(embedded, pool).history
    hooks._steer(pool, 60.0)
    assert history.records("decision", pool) == []
    turn(embedded, pool, "on")
    hooks._steer(pool, 60.0)
    assert [decision["by"] for decision in history.records("decision", pool)] == ["hook"]


def test_unused_slots_of_a_process_pool_cost_nothing_unless_somebody_says_so(pool, embedded, monkeypatch):
    def idle_fraction():
        return open_controller(load_settings().settings, pool).orchestrator.observe().prices.idle_fraction

    assert idle_fraction() == 0.0
    monkeypatch.setenv("PREFECT_INTELLIGENT_PRICES__IDLE_FRACTION", "0.5")
    assert idle_fraction() == 0.5


def test_a_hook_leaves_it_to_a_controller_that_leads(api, pool, embedded):
    turn(embedded, pool, "on")
    leader = open_controller(embedded, pool)
    assert leader.lease.acquire()
    assert steer_once(pool, 5.0) is None
    leader.lease.release()
    assert steer_once(pool, 5.0) is not None


def test_a_hook_does_nothing_until_the_pool_is_switched_on(api, pool, embedded):
    for position in ("unset", "off"):
        turn(embedded, pool, position)
        assert steer_once(pool, 5.0) is None
    assert api.numbers(pool)[""][1] == 2
