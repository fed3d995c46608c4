"""W9: `adopt` keeps what a queue means: who polls it, its limit, its pause; and tells what it does to each."""

import json
import time

import pytest

from prefect_intelligent.cli import main
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def home(sqlite, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def poll(api, pool, *queues):
    """Ask for runs as a worker with these `--work-queue` does, or with none, until the server has noted it."""
    deadline = time.monotonic() + 120.0
    while True:
        api.call("POST", f"/work_pools/{pool}/get_scheduled_flow_runs", {"work_queue_names": list(queues) or None})
        seen = {name for name, queue in api.queues(pool).items() if queue["last_polled"]}
        if seen >= set(queues or api.queues(pool)):
            return
        assert time.monotonic() < deadline
        time.sleep(0.3)


def adopt(pool, *more):
    return main(["control", "adopt", "--pool", pool, *more])


def test_where_workers_poll_some_queues_only_nothing_is_sent_to_a_queue_that_nobody_polls(sqlite, home, capsys):
    pool = sqlite.pool()
    sqlite.queue(pool, "high", priority=5)
    sqlite.queue(pool, "low", priority=6)
    owners = [Owner(sqlite, pool, work_queue_name=name) for name in ("high", "low", "low")]
    poll(sqlite, pool, "high", "low")
    before = [owner.values() for owner in owners]
    assert adopt(pool, "--json") == 0
    assert "--work-queue" in json.loads(capsys.readouterr().out)["unpolled"]
    assert adopt(pool, "--apply") != 0
    said = capsys.readouterr().err
    assert "high, low" in said
    assert "--work-queue" in said
    assert [owner.values() for owner in owners] == before
    assert set(sqlite.queues(pool)) == {"default", "high", "low"}
    assert adopt(pool, "--apply", "--force") == 0
    assert {owner.values()["queue"][:3] for owner in owners} == {"pi-"}


def test_where_workers_poll_everything_or_nobody_does_it_is_done(sqlite, home, capsys):
    for polled in (True, False):
        pool = sqlite.pool()
        owners = [Owner(sqlite, pool), Owner(sqlite, pool)]
        if polled:
            poll(sqlite, pool)
        assert adopt(pool, "--apply", "--json") == 0
        assert json.loads(capsys.readouterr().out)["unpolled"] is None
        assert len({owner.values()["queue"] for owner in owners}) == 2


def test_a_worker_that_is_online_but_does_not_poll_the_new_queues_stops_it(sqlite, home, capsys, monkeypatch):
    monkeypatch.setattr("prefect_intelligent.cli.control_adopt._POLL_WAIT_S", 3.0)
    pool = sqlite.pool()
    owners = [Owner(sqlite, pool), Owner(sqlite, pool)]
    sqlite.call("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "w", "heartbeat_interval_seconds": 300})
    poll(sqlite, pool, "default")
    assert adopt(pool, "--apply") != 0
    assert "within 3 s" in capsys.readouterr().err
    assert {owner.values()["queue"] for owner in owners} == {"default"}
    assert set(sqlite.queues(pool)) == {"default"}


def test_a_limit_and_a_pause_stay_in_force(sqlite, home, capsys):
    pool = sqlite.pool()
    sqlite.queue(pool, "few", priority=5, limit=2)
    paused = sqlite.queue(pool, "paused", priority=6)
    sqlite.call("PATCH", f"/work_queues/{paused}", {"is_paused": True})
    few = [Owner(sqlite, pool, work_queue_name="few") for _ in range(2)]
    sqlite.queue(pool, "own", priority=7, limit=3)
    alone = Owner(sqlite, pool, work_queue_name="own")
    still, free = Owner(sqlite, pool, work_queue_name="paused"), Owner(sqlite, pool)
    other = Owner(sqlite, pool)
    assert adopt(pool, "--apply") == 0
    said = capsys.readouterr().out
    assert "its limit of 2" in said
    assert "it is paused" in said
    assert "A deploy sends a deployment" in said
    assert [owner.values()["queue"] for owner in (*few, still)] == ["few", "few", "paused"]
    assert sqlite.queues(pool)[alone.values()["queue"]]["concurrency_limit"] == 3
    assert alone.values()["queue"].startswith("pi-")
    assert free.values()["queue"] != other.values()["queue"]


def test_a_queue_that_was_made_again_by_somebody_is_not_removed(sqlite, home):
    pool = sqlite.pool()
    owners = [Owner(sqlite, pool), Owner(sqlite, pool)]
    assert adopt(pool, "--apply") == 0
    lane = owners[0].values()["queue"]
    for owner in owners:
        owner.edit(work_pool_name=pool, work_queue_name="default")
    sqlite.call("DELETE", f"/work_pools/{pool}/queues/{lane}")
    sqlite.queue(pool, lane, priority=9)
    assert main(["control", "restore", "--pool", pool]) == 0
    assert set(sqlite.queues(pool)) == {"default", lane}
