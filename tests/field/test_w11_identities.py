"""W11: a pool or a queue that was deleted and made again is another one: nothing of the old one is put back into it."""

import threading

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import PoolSetting, QueueSetting
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.baseline import read_baseline
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.identity import ids_of, remade
from prefect_intelligent.steering.kill_switch import set_if_unset
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.testing.history import InMemoryHistory

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def home(sqlite, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(api, name, limit, **priorities):
    api.pool(name, limit=limit)
    for queue, priority in priorities.items():
        api.queue(name, queue, priority=priority)


def config(policy):
    rule = parse_policy(policy)
    return ControllerConfig(policy=rule, rule=rule, guard=GuardSettings(interval_s=0.0, hysteresis=0.0))


@pytest.mark.parametrize("passes_after", [0, 2])
def test_a_pool_that_was_made_again_keeps_its_own_numbers(sqlite, passes_after):
    name, history = sqlite.pool(limit=6), InMemoryHistory()
    set_if_unset(history, name, "on", SystemClock().now_s(), by="me")
    sqlite.queue(name, "a", priority=10)
    orchestrator = PrefectOrchestrator(PrefectApi(timeout_s=30.0), name)
    assert reconcile(orchestrator, history, SystemClock(), config("fifo+fixed:2")).outcome == "applied"
    sqlite.call("DELETE", f"/work_pools/{name}")
    make(sqlite, name, 20, a=3, b=4)
    before = sqlite.numbers(name)
    said = [reconcile(orchestrator, history, SystemClock(), config("fifo")).reasons for _ in range(passes_after)]
    if passes_after:
        assert any("made again" in reason for reason in said[0])
        assert not any("made again" in reason for reason in said[1])
        assert read_baseline(history, name) == {}
    done = restore(orchestrator, history, SystemClock(), by="me")
    assert sqlite.numbers(name) == before
    assert bool(done.remade) == (passes_after == 0)
    assert restore(orchestrator, history, SystemClock(), by="me").changes == ()


def test_a_queue_that_was_made_again_keeps_its_own_numbers_and_the_others_get_theirs_back(sqlite):
    name, history = sqlite.pool(limit=6), InMemoryHistory()
    set_if_unset(history, name, "on", SystemClock().now_s(), by="me")
    sqlite.queue(name, "a", priority=10)
    orchestrator = PrefectOrchestrator(PrefectApi(timeout_s=30.0), name)
    reconcile(orchestrator, history, SystemClock(), config("fifo+fixed:2"))
    assert sqlite.numbers(name)[""][1] == 2
    sqlite.call("DELETE", f"/work_pools/{name}/queues/a")
    sqlite.queue(name, "a", priority=77, limit=3)
    done = restore(orchestrator, history, SystemClock(), by="me")
    assert sqlite.numbers(name)[""][1] == 6
    assert sqlite.numbers(name)["a"] == (77, 3, False)
    assert any("'a'" in line for line in done.remade)


def test_restore_says_so(sqlite, home, capsys):
    name = sqlite.pool(limit=6)
    once = ["control", "run", "--pool", name, "--once", "--policy", "fifo+fixed:2"]
    assert main(once) == 0
    sqlite.call("DELETE", f"/work_pools/{name}")
    make(sqlite, name, 20)
    capsys.readouterr()
    assert main(["control", "restore", "--pool", name]) == 0
    assert "deleted and made again" in capsys.readouterr().out
    assert sqlite.numbers(name)[""][1] == 20


def test_a_controller_waits_for_a_pool_that_has_gone(sqlite, home):
    from prefect_intelligent.settings import load_settings
    from prefect_intelligent.steering.controller import run_loop
    from prefect_intelligent.steering.leadership import Leadership
    from prefect_intelligent.wiring.steering import open_controller

    name = sqlite.pool(limit=6)
    controller = open_controller(load_settings({"policy": "fifo"}).settings, name)
    told, done = [], threading.Event()

    def tell(event):
        told.append(event)
        if len(told) == 1:
            sqlite.call("DELETE", f"/work_pools/{name}")
        elif event.what == "failed" and len(told) == 2:
            make(sqlite, name, 9)
        elif event.what == "decided" and len(told) > 2:
            done.set()

    class Never:
        def wait(self, timeout_s):
            return True

        def close(self):
            """Nothing."""

    run_loop(
        controller.reconcile, Leadership(controller.lease), Never(), controller.clock,
        interval_s=2.0, stopped=done.is_set, tell=tell,
    )  # fmt: skip
    assert [event.what for event in told[:2]] == ["decided", "failed"]
    assert name in told[1].problem
    assert not told[1].permanent
    assert sqlite.numbers(name)[""][1] == 9


def test_what_is_not_known_is_not_compared():
    known = ids_of(PoolSetting(name="p", id="1"), [QueueSetting(name="q", priority=1)])
    assert known == {None: "1"}
    assert remade(known, {None: "1", "q": "5"}) == frozenset()
    assert remade({None: "1", "q": "4"}, {None: "1", "q": "5"}) == {"q"}
    assert remade({None: "1", "q": "4"}, {None: "2", "r": "5"}) == {None, "q", "r"}
    assert remade({None: "1", "q": "4"}, {None: "1"}) == frozenset()
