"""Dataset events stay pending until Prefect has taken them: none is lost, none holds up the others."""

import fcntl
import json
import os
import uuid
from contextlib import nullcontext
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import ConflictError, OrchestratorAccessDeniedError, OrchestratorUnavailableError
from prefect_intelligent.flow import hooks
from prefect_intelligent.local import liveness
from prefect_intelligent.pipelines.adapters import event_relay
from prefect_intelligent.pipelines.adapters.event_relay import deliver
from prefect_intelligent.pipelines.event_names import FRESH, PIPELINE_ENV
from prefect_intelligent.pipelines.pending_events import (
    KIND,
    make_pending_event,
    pending_events,
)

URL = "http://nowhere.invalid/api"


class Server:
    """Answers as Prefect would for a deployment in a pipeline; `fails` says what happens to the nth call."""

    def __init__(self, fails=()):
        self.fails, self.announced = dict(fails), []

    def within(self, seconds):
        return nullcontext()

    def close(self):
        pass

    def call(self, method, route, body=None, **options):
        if route.startswith("/variables"):
            return {"value": {"epochs": [[0.0, "v1"]]}}
        if route == "/events/filter":
            return {"events": []}
        assert route == "/events"
        if (error := self.fails.pop(len(self.announced), None)) is not None:
            raise error
        self.announced.append(body[0]["resource"]["prefect-intelligent.batch"])
        assert body[0]["event"] == FRESH
        return None


@pytest.fixture
def pending(tmp_path):
    return pending_events(URL, tmp_path)


def a_run(**more):
    values = {
        "id": uuid.uuid4(),
        "name": "run",
        "deployment_id": uuid.uuid4(),
        "parameters": {},
        "job_variables": None,
        "run_count": 1,
        "start_time": datetime.now(UTC),
        "expected_start_time": datetime.now(UTC),
    }
    return SimpleNamespace(**values | more)


def put(pending, batch, **more):
    event = make_pending_event(a_run(parameters={"day": batch}), ["mart"], "day", fresh=True)
    pending.append(KIND, event, event_id=batch, **more)


def test_a_pending_event_keeps_the_batch_and_our_label_and_nothing_else_of_the_run():
    run = a_run(
        parameters={"day": date(2026, 3, 1), "password": "hush"},
        job_variables={"env": {PIPELINE_ENV: "v7", "TOKEN": "hush"}, "image": "hush"},
    )
    event = make_pending_event(run, ("mart",), "day", fresh=False)
    assert event["flow_run"]["parameters"] == {"day": "2026-03-01"}
    assert event["flow_run"]["job_variables"] == {"env": {PIPELINE_ENV: "v7"}}
    assert (event["outputs"], event["batch_parameter"], event["fresh"]) == (["mart"], "day", False)
    assert "hush" not in json.dumps(event)


def test_everything_is_announced_once_and_the_newest_first(pending):
    server = Server()
    for batch in "abc":
        put(pending, batch)
    assert deliver(server, pending) == 3
    assert server.announced == ["c", "b", "a"]
    assert (deliver(server, pending), pending.size_bytes()) == (0, 0)


def test_what_a_server_that_goes_away_did_not_hear_is_announced_later(pending):
    server = Server(fails={1: OrchestratorUnavailableError("gone")})
    for batch in "abc":
        put(pending, batch)
    with pytest.raises(OrchestratorUnavailableError):
        deliver(server, pending)
    assert server.announced == ["c"]
    put(pending, "d")
    assert deliver(server, pending) == 3
    assert server.announced == ["c", "d", "b", "a"]


def test_what_a_server_denied_is_kept_until_the_credentials_are_right(pending):
    server = Server(fails={1: OrchestratorAccessDeniedError("401")})
    for batch in "abc":
        put(pending, batch)
    with pytest.raises(OrchestratorAccessDeniedError):
        deliver(server, pending)
    assert deliver(server, pending) == 2
    assert server.announced == ["c", "b", "a"]


def test_a_relay_that_is_denied_warns_once(pending, tmp_path, monkeypatch, caplog):
    server = Server()
    monkeypatch.setattr(event_relay, "PrefectApi", lambda *args, **options: server)
    put(pending, "a")
    running = event_relay.EventRelay(URL, tmp_path)
    for _ in range(3):
        server.fails[0] = OrchestratorAccessDeniedError("401")
        assert not running.deliver_pending()
    assert caplog.text.count("check PREFECT_API_KEY") == 1


def test_an_event_that_prefect_refuses_does_not_hold_up_the_others(pending, caplog):
    server = Server(fails={1: ConflictError("no such thing")})
    for batch in "abc":
        put(pending, batch)
    deliver(server, pending)
    assert server.announced == ["c", "a"]
    assert "refuses the dataset events of flow run b: no such thing" in caplog.text


@pytest.mark.parametrize(
    "record", [{}, {"flow_run": 3, "outputs": ["mart"], "fresh": True}, {"flow_run": {"id": "x"}, "outputs": ["mart"]}]
)
def test_an_event_that_cannot_be_read_is_left_out_and_does_not_hold_up_the_others(pending, caplog, record):
    server = Server()
    put(pending, "a")
    pending.append(KIND, record | {"of": str(uuid.uuid4())}, event_id="odd")
    put(pending, "b")
    deliver(server, pending)
    assert server.announced == ["b", "a"]
    assert "a record of kind 'announcement' cannot be read and is left out" in caplog.text
    assert pending.size_bytes() == 0


def test_an_event_with_fields_of_a_newer_version_or_without_some_is_delivered(pending):
    event = make_pending_event(a_run(parameters={"batch": "a"}), ["mart"], None, fresh=True) | {"stamp": "new"}
    del event["batch_parameter"]
    pending.append(KIND, event, event_id="a", version=7)
    server = Server()
    assert deliver(server, pending) == 1
    assert server.announced == ["a"]


def test_an_event_of_last_week_is_given_up(pending, caplog):
    server = Server()
    put(pending, "old", at_s=1e9)
    put(pending, "new")
    deliver(server, pending)
    assert server.announced == ["new"]
    assert "given up after a week" in caplog.text


def test_two_processes_do_not_deliver_the_same_events(pending):
    put(pending, "a")
    holder = os.open(pending.folder / "delivery.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert deliver(Server(), pending) == 0
    os.close(holder)
    assert deliver(Server(), pending) == 1


def test_events_are_kept_per_server(pending, tmp_path):
    put(pending, "a")
    assert pending_events("http://other.invalid/api", tmp_path).size_bytes() == 0
    assert pending_events(URL + "/", tmp_path).size_bytes() > 0


@pytest.fixture
def hooked(tmp_path, monkeypatch):
    """Calls the hook for a completed run of a flow that writes "mart"; requests go to the server given."""
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(hooks, "_api_url", lambda: URL)
    liveness.mark_alive(hooks.steering_key(URL, "pool"), 60)

    def call(server):
        def connect(*args, **options):
            if server is None:
                raise AssertionError("a hook beside a relay has asked the server")
            return server

        monkeypatch.setattr(event_relay, "PrefectApi", connect)
        flow = SimpleNamespace(name="f", fn=None)
        setattr(flow, hooks.TERMS_ATTRIBUTE, Terms(outputs=("mart",)))
        hooks._published.add("f")
        run = a_run(parameters={"batch": f"b{uuid.uuid4().hex[:6]}"}, work_pool_name="pool", work_queue_name="q")
        state = SimpleNamespace(type=SimpleNamespace(value="COMPLETED"), name="Completed", timestamp=datetime.now(UTC))
        hooks.report_completed(flow, run, state)
        return run.parameters["batch"]

    return call


def test_a_hook_beside_a_relay_leaves_its_event_and_asks_no_server(hooked, tmp_path):
    liveness.mark_alive(hooks.relay_key(URL), 60)
    batch = hooked(None)
    server = Server()
    deliver(server, pending_events(URL, tmp_path))
    assert server.announced == [batch]


def test_a_hook_without_a_relay_delivers_its_event_and_those_left_behind(hooked, tmp_path):
    liveness.mark_alive(hooks.relay_key(URL), 60)
    left = hooked(None)
    liveness.clear(hooks.relay_key(URL))  # the controller has been killed
    server = Server()
    own = hooked(server)
    assert server.announced == [own, left]


def test_a_hook_that_cannot_write_to_disk_announces_at_once(hooked, tmp_path, monkeypatch):
    (tmp_path / "announcements").touch()
    server = Server()
    batch = hooked(server)
    assert server.announced == [batch]
