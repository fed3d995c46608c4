"""What goes wrong around a controller, each with the pool's settings compared before and after.

`numbers` are all priorities, limits and pauses of a pool; `restore` must bring back exactly those of the beginning, or
what a person has set since.
"""

import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from prefect_intelligent.errors import OrchestratorError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.controller import run_loop
from prefect_intelligent.steering.controller_state import INTENT, load_state
from prefect_intelligent.steering.kill_switch import set_switch
from prefect_intelligent.steering.leadership import Leadership
from prefect_intelligent.steering.restore import restore
from tests.fault.crews import Restless, Wants, crew, make_pool, pass_that_writes, usable
from tests.real_prefect import clone_runs

pytestmark = pytest.mark.server


def go_back(controller):
    """Restore, then allow steering again for the rest of the test."""
    restore(controller.orchestrator, controller.history, controller.clock, by="test")
    set_switch(controller.history, controller.orchestrator.pool, "on", 0.0, "test")


def holds(controller):
    return load_state(controller.history, controller.orchestrator.pool).known.overrides


def just_before_writing(controller, act):
    """Do something once, between the intent and the first write of the next pass that writes; whether it was done."""
    append, done = controller.history.append, []

    def appending(kind, *args):
        number = append(kind, *args)
        if kind == INTENT:
            controller.history.append = append
            act()
            done.append(True)
        return number

    controller.history.append = appending
    return done


def test_the_server_is_killed_in_the_middle_of_a_decision_and_comes_back(own_server, tmp_path):
    api = own_server.api()
    pool = make_pool(api)
    before = api.numbers(pool)
    controller = crew(own_server, pool, tmp_path, Wants(backwards=True))
    call, writes = controller.api.call, itertools.count()

    def dying(method, route, body=None, **more):
        answer = call(method, route, body, **more)
        if method == "PATCH" and next(writes) == 1:
            own_server.kill()
        return answer

    controller.api.call = dying
    decision = controller.reconcile()
    assert len(decision.planned) > 2
    assert len(decision.applied) < len(decision.planned)
    with pytest.raises(OrchestratorError):
        controller.reconcile()
    own_server.start()
    assert usable(api, pool)
    decision = controller.reconcile()
    assert decision.outcome == "applied"
    assert not holds(controller)
    assert [queue.name for queue in sorted(decision.queues, key=lambda q: q.applied.place)] == sorted(
        [queue.name for queue in decision.queues], reverse=True
    )
    go_back(controller)
    assert api.numbers(pool) == before


def test_the_server_stands_still_in_a_decision_and_does_later_what_nobody_waited_for(own_server, tmp_path):
    api = own_server.api()
    pool = make_pool(api)
    before = api.numbers(pool)
    controller = crew(own_server, pool, tmp_path, Wants(backwards=True))
    call, writes = controller.api.call, itertools.count()

    def standing(method, route, body=None, **more):
        if method == "PATCH" and next(writes) == 1:
            own_server.process.signal(signal.SIGSTOP)
            controller.api._timeout_s = 0.5  # it takes the connection and never answers
        return call(method, route, body, **more)

    controller.api.call = standing
    decision = controller.reconcile()
    assert len(decision.planned) > 2
    assert decision.applied == ()
    assert any("could not be written" in reason for reason in decision.reasons)
    with pytest.raises(OrchestratorError, match="timed out"):
        controller.reconcile()
    own_server.process.signal(signal.SIGCONT)
    controller.api._timeout_s = 60.0
    wait_for(lambda: usable(api, pool))
    controller.reconcile()
    assert not holds(controller), "a write that was made late was taken for a person's"
    names = sorted(set(api.numbers(pool)) - {""}, reverse=True)
    assert sorted(names, key=lambda name: api.numbers(pool)[name][0]) == names
    go_back(controller)
    assert api.numbers(pool) == before


class Storm(ThreadingHTTPServer):
    """A proxy that answers 503 to a share of the requests, sometimes only after it has passed them on."""

    daemon_threads = True

    def __init__(self, target, share, seed):
        self.rng, self.share, self.refused = random.Random(seed), share, 0
        self.upstream = httpx.Client(base_url=target, timeout=30)
        super().__init__(("127.0.0.1", 0), _Weather)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def api_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/api"

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class _Weather(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        storm = self.server
        mood = storm.rng.random()
        found = None
        if mood > storm.share / 2:  # the lower half is refused at once, the upper half after the fact
            headers = {"Content-Type": "application/json"}
            found = storm.upstream.request(self.command, self.path.removeprefix("/api"), content=body, headers=headers)
        if mood < storm.share:
            storm.refused += 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(found.status_code)
        self.send_header("Content-Length", str(len(found.content)))
        self.end_headers()
        self.wfile.write(found.content)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, *args):
        pass


def test_a_storm_of_503_delays_decisions_and_harms_nothing(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    with Storm(prefect_server.api_url, share=0.3, seed=5) as storm:
        controller = crew(storm, pool, tmp_path, Restless(1))
        decided = 0
        for _ in range(60):
            with contextlib.suppress(OrchestratorError):
                decided += bool(controller.reconcile().applied)
            assert usable(api, pool)
            if storm.refused > 10 and decided > 1:
                break
        assert storm.refused > 10
        assert decided > 1
        assert not holds(controller), "a write whose answer was lost was taken for a person's"
        for attempt in itertools.count():
            try:
                go_back(controller)
                break
            except OrchestratorError:
                assert attempt < 20
    assert api.numbers(pool) == before


def test_twenty_controllers_are_killed_and_the_last_one_puts_everything_back(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.fault.killed_controllers", prefect_server.api_url, pool, str(tmp_path), "20"],
        env=prefect_server.env(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert killed.returncode == 0, killed.stderr[-2000:]
    report = json.loads(killed.stdout)
    assert len(report["lived_s"]) >= 20
    assert report["unusable"] == 0
    assert report["in_the_middle_of_writing"] >= 1
    successor = crew(prefect_server, pool, tmp_path, Restless(99))
    memory = load_state(successor.history, pool)
    assert memory.passes > 3
    assert not memory.known.overrides, "a dead controller's value was taken for a person's"
    pass_that_writes(successor)
    assert not holds(successor)
    go_back(successor)
    assert api.numbers(pool) == before


def test_two_controllers_at_once_never_steer_together(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    ends = {name: threading.Event() for name in ("first", "second")}
    steering, together, led = set(), [], []

    def take_turns(name):
        controller = crew(prefect_server, pool, tmp_path, Restless(len(name)), by=name)

        def steer():
            steering.add(name)
            together.append(len(steering))
            try:
                return controller.reconcile()
            finally:
                led.append(name)
                steering.discard(name)

        run_loop(
            steer,
            Leadership(controller.lease),
            Busy(),
            controller.clock,
            interval_s=0.2,
            stopped=ends[name].is_set,
            tell=lambda moment: None,
        )

    threads = {name: threading.Thread(target=take_turns, args=(name,), daemon=True) for name in ends}
    threads["first"].start()
    wait_for(lambda: len(led) >= 3)
    threads["second"].start()
    wait_for(lambda: len(led) >= 10)
    ends["first"].set()
    threads["first"].join(120)
    mark = len(led)
    wait_for(lambda: len(led) >= mark + 3)
    ends["second"].set()
    threads["second"].join(120)
    assert max(together) == 1
    assert [name for name, _ in itertools.groupby(led)] == ["first", "second"]
    last = crew(prefect_server, pool, tmp_path, Wants())
    assert [record["by"] for record in last.history.records("decision", pool)] == led
    assert not holds(last)
    go_back(last)
    assert api.numbers(pool) == before


class Busy:
    """Signals that fire at once."""

    def wait(self, timeout_s):
        return True

    def close(self):
        pass


def wait_for(holds_true, timeout_s=180.0):
    end = time.monotonic() + timeout_s
    while not holds_true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def edit(api, pool, queue, **values):
    """As Prefect's UI and command line do it: by name, which may push other queues down."""
    api.call("PATCH", f"/work_pools/{pool}/queues/{queue}", values)


def test_a_person_edits_a_queue_by_hand(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    controller = crew(prefect_server, pool, tmp_path, Restless(3))
    controller.reconcile()
    # while nobody looks
    edit(api, pool, "b", concurrency_limit=70)  # what the policy never wants, which is 1 to 8
    for _ in range(4):
        controller.reconcile()
        assert api.numbers(pool)["b"][1] == 70
    # between observing and writing
    edited = just_before_writing(controller, lambda: edit(api, pool, "c", concurrency_limit=20))
    while not edited:
        controller.reconcile()
    for _ in range(4):
        controller.reconcile()
        assert api.numbers(pool)["c"][1] == 20
    # a pause is never touched
    edit(api, pool, "d", is_paused=True)
    controller.reconcile()
    assert api.numbers(pool)["d"][2] is True
    go_back(controller)
    after = api.numbers(pool)
    assert {name: found for name, found in after.items() if name not in "bcd"} == {
        name: found for name, found in before.items() if name not in "bcd"
    }
    assert [after[name][1] for name in "bc"] == [70, 20]
    assert [after[name][0] for name in "bcd"] == [before[name][0] for name in "bcd"]
    assert after["d"] == (before["d"][0], before["d"][1], True)


def test_a_queue_is_deleted_under_us(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    controller = crew(prefect_server, pool, tmp_path, Wants(backwards=True))
    just_before_writing(controller, lambda: api.call("DELETE", f"/work_pools/{pool}/queues/c"))
    decision = controller.reconcile()
    assert any(queue == "c" for queue, *_ in decision.planned)
    assert not any(queue == "c" for queue, *_ in decision.applied)
    assert {queue.name for queue in controller.reconcile().queues} == {"a", "b", "d", "default"}
    assert usable(api, pool)
    go_back(controller)
    assert api.numbers(pool) == {name: found for name, found in before.items() if name != "c"}


def test_the_clock_jumps(prefect_server, api, tmp_path):
    pool = make_pool(api)
    before = api.numbers(pool)
    controller = crew(prefect_server, pool, tmp_path, Restless(4))
    clock = Jumping()
    shifted = PrefectOrchestrator(PrefectApi(prefect_server.api_url), pool, now=clock.now_s)
    guard = replace(controller.config.guard, interval_s=1.0)
    controller = replace(controller, clock=clock, orchestrator=shifted, config=replace(controller.config, guard=guard))
    pass_that_writes(controller)
    for jump_s in (-86_400.0, 7 * 86_400.0, -3_600.0):
        clock.shift_s += jump_s
        assert usable(api, pool)
        controller.reconcile()
        clock.shift_s += 1.5  # one interval of the guard later it moves again
        pass_that_writes(controller)
        assert not holds(controller)
    go_back(controller)
    assert api.numbers(pool) == before


class Jumping:
    """The clock of this machine, set wrong."""

    shift_s = 0.0

    def now_s(self):
        return time.time() + self.shift_s

    def sleep(self, seconds):
        time.sleep(seconds)


def test_ten_thousand_runs_wait(own_server, tmp_path):
    api = own_server.api()
    pool = make_pool(api, runs=1)
    run = api.run(api.deployment(pool, "d"), in_s=-5)
    clone_runs(own_server, run, 9_996)
    before = api.numbers(pool)
    controller = crew(own_server, pool, tmp_path, Wants(backwards=True))
    decision = controller.reconcile()
    waiting = {queue.name: queue.waiting for queue in decision.queues}
    assert waiting == {"a": 1, "b": 1, "c": 1, "d": 9_998, "default": 0}
    assert decision.outcome == "applied"
    assert decision.applied == decision.planned
    assert [queue.applied.place for queue in decision.queues] == [1, 5, 4, 3, 2]
    assert controller.reconcile().outcome == "unchanged"
    go_back(controller)
    assert api.numbers(pool) == before
