"""One controller for several pools of a real Prefect server: who joins, who leaves, and what one does to the others."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from prefect_intelligent.cli.control_pools import PoolRunner
from prefect_intelligent.settings import load_settings
from prefect_intelligent.steering.pool_group import PoolGroup
from prefect_intelligent.wiring.pool_group import find_pools, open_shared_parts
from prefect_intelligent.wiring.steering import open_controller

pytestmark = pytest.mark.server

PATIENCE_S = 120.0
SETTINGS = {
    "PREFECT_INTELLIGENT_INTERVAL_S": "2",
    "PREFECT_INTELLIGENT_GUARD__INTERVAL_S": "0",
    "PREFECT_INTELLIGENT_POLICY": "fifo+fixed:1",
}


def wait_for(holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


class Controller:
    """`control run --json` as a process, and what it has said."""

    def __init__(self, server, folder, *words):
        self.log = (folder / "out").open("w+")
        env = server.env(**SETTINGS, PREFECT_INTELLIGENT_DATA_DIR=str(folder / "data"))
        command = [sys.executable, "-m", "prefect_intelligent", "control", "run", "--json", *words]
        self.process = subprocess.Popen(command, env=env, cwd=folder, stdout=self.log, stderr=subprocess.PIPE)

    def said(self, what, pool):
        whole = Path(self.log.name).read_text().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if (line["what"], line["pool"]) == (what, pool)]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def start(prefect_server, tmp_path):
    started = []

    def begin(*words):
        started.append(Controller(prefect_server, tmp_path, *words))
        return started[-1]

    yield begin
    for controller in started:
        controller.stop()


def limit(api, pool):
    return api.numbers(pool)[""][1]


def test_named_pools_are_steered_and_one_that_is_deleted_does_not_end_the_others(api, start):
    first, second, other = (api.pool(limit=3) for _ in range(3))
    controller = start("--pool", first, "--pool", second, "--pool", first)
    wait_for(lambda: limit(api, first) == 1 and limit(api, second) == 1)
    assert limit(api, other) == 3
    api.call("DELETE", f"/work_pools/{first}")
    wait_for(lambda: controller.said("failed", first))
    before = len(controller.said("decided", second))
    wait_for(lambda: len(controller.said("decided", second)) > before + 1)
    seen = len(controller.said("decided", first))
    api.pool(first, limit=4)  # somebody makes it again: it is another pool, which nobody has switched on
    wait_for(lambda: len(controller.said("decided", first)) > seen)
    assert controller.said("decided", first)[-1]["decision"]["outcome"] == "off"
    assert limit(api, first) == 4
    assert controller.stop() == (0, "")


def test_each_pool_has_a_lease_of_its_own(api, start, prefect_api, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "other"))
    mine, theirs = api.pool(limit=3), api.pool(limit=3)
    leader = open_controller(load_settings().settings, theirs)
    assert leader.lease.acquire()
    controller = start("--pool", mine, "--pool", theirs)
    wait_for(lambda: limit(api, mine) == 1 and controller.said("standing by", theirs))
    assert limit(api, theirs) == 3
    leader.lease.release()
    wait_for(lambda: limit(api, theirs) == 1)
    assert controller.stop() == (0, "")
    assert open_controller(load_settings().settings, mine).lease.acquire()  # it was given up


def test_all_pools_with_a_tag_join_and_leave(api, start):
    tag = f"team-{uuid.uuid4().hex[:6]}"
    first, second, other = (api.pool(limit=3) for _ in range(3))
    api.deployment(first, tags=[tag, "x"])
    api.deployment(other, tags=["x"])
    controller = start("--all-pools", "--tag", tag)
    wait_for(lambda: limit(api, first) == 1)
    assert (limit(api, second), limit(api, other)) == (3, 3)
    api.deployment(second, tags=[tag])
    wait_for(lambda: limit(api, second) == 1)
    assert controller.said("joined", second)
    api.call("DELETE", f"/work_pools/{first}")
    wait_for(lambda: controller.said("left", first))
    before = len(controller.said("decided", second))
    wait_for(lambda: len(controller.said("decided", second)) > before)
    assert not controller.said("joined", other)
    assert controller.stop() == (0, "")


def test_a_pool_that_is_switched_off_is_left_alone(api, start, prefect_api, tmp_path, monkeypatch):
    from prefect_intelligent.cli import main

    monkeypatch.chdir(tmp_path)
    tag = f"team-{uuid.uuid4().hex[:6]}"
    pools = [api.pool(limit=3) for _ in range(2)]
    for pool in pools:
        api.deployment(pool, tags=[tag])
    assert main(["control", "off", "--pool", pools[0]]) == 0
    controller = start("--all-pools", "--tag", tag)
    wait_for(lambda: limit(api, pools[1]) == 1 and controller.said("decided", pools[0]))
    assert controller.said("decided", pools[0])[0]["decision"]["outcome"] == "off"
    assert limit(api, pools[0]) == 3


def test_without_a_tag_every_pool_is_meant(api, prefect_api):
    from prefect_intelligent.prefect_client.api import PrefectApi

    pools = {api.pool() for _ in range(3)}
    assert pools <= set(find_pools(PrefectApi(prefect_api)))
    assert find_pools(PrefectApi(prefect_api), "a tag that nobody has") == ()


def test_a_pool_that_is_made_later_is_watched_until_it_is_switched_on(own_server, tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from prefect_intelligent.cli import main

    api = own_server.api()
    monkeypatch.chdir(tmp_path)
    first = api.pool(limit=3)
    controller = Controller(own_server, tmp_path, "--all-pools")
    try:
        wait_for(lambda: limit(api, first) == 1)
        later = api.pool(limit=3)
        wait_for(lambda: len(controller.said("decided", later)) > 1)
        assert {line["decision"]["outcome"] for line in controller.said("decided", later)} == {"off"}
        assert limit(api, later) == 3
        with temporary_settings({PREFECT_API_URL: own_server.api_url}):
            assert main(["control", "on", "--pool", later]) == 0
        wait_for(lambda: limit(api, later) == 1)
    finally:
        controller.stop()


def test_once_decides_once_for_each_and_tells_which_failed(api, start):
    pools = [api.pool(limit=3) for _ in range(2)]
    controller = start("--once", "--pool", pools[0], "--pool", pools[1])
    assert controller.process.wait(PATIENCE_S) == 0
    assert [len(controller.said("decided", pool)) for pool in pools] == [1, 1]
    assert [limit(api, pool) for pool in pools] == [1, 1]


def test_a_pool_that_hangs_delays_no_other(api, prefect_api, tmp_path, monkeypatch, capsys):
    for name, value in {**SETTINGS, "PREFECT_INTELLIGENT_DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings().settings
    hangs, works = api.pool(limit=3), api.pool(limit=3)
    released, reached = threading.Event(), threading.Event()
    with open_shared_parts(settings, listen=True) as shared, contextlib.ExitStack() as stack:
        opened = [open_controller(settings, pool, shared=shared) for pool in (hangs, works)]
        observe = opened[0].orchestrator.observe

        def hang():
            reached.set()
            released.wait(PATIENCE_S)
            return observe()

        monkeypatch.setattr(opened[0].orchestrator, "observe", hang)
        runner = PoolRunner(settings, shared, opened, None, once=False, restore_on_exit=False, as_json=True)
        group = PoolGroup(runner.run_named, runner.tell_broken)
        stack.callback(group.stop, PATIENCE_S)
        stack.callback(released.set)
        group.follow([hangs, works])
        assert reached.wait(PATIENCE_S)
        history = opened[1].history
        before = len(history.records("decision", works))
        wait_for(lambda: len(history.records("decision", works)) >= before + 3)
        assert history.records("decision", hangs) == []
        released.set()
        wait_for(lambda: history.records("decision", hangs))
