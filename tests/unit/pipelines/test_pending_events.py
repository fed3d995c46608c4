"""Announcements are kept until Prefect has been told: none is lost, none holds up the others."""

import fcntl
import json
import os
import uuid
from contextlib import nullcontext
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import ConflictError, OrchestratorUnavailableError
from prefect_intelligent.flow import hooks
from prefect_intelligent.local import liveness
from prefect_intelligent.pipelines.adapters import event_relay
from prefect_intelligent.pipelines.adapters.event_relay import deliver
from prefect_intelligent.pipelines.event_names import FRESH, PIPELINE_ENV
from prefect_intelligent.pipelines.pending_events import KIND, letterbox, write_letter

URL = "http://nowhere.invalid/api"


class Server:
    """Answers as Prefect would for a deployment in a pipeline; `fails` says what happens to the nth announcement."""

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
def box(tmp_path):
    return letterbox(URL, tmp_path)


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


def put(box, batch, **more):
    letter = write_letter(a_run(parameters={"day": batch}), ["mart"], "day", fresh=True)
    box.append(KIND, letter, event_id=batch, **more)


def test_a_letter_keeps_the_batch_and_our_label_and_nothing_else_of_the_run():
    run = a_run(
        parameters={"day": date(2026, 3, 1), "password": "hush"},
        job_variables={"env": {PIPELINE_ENV: "v7", "TOKEN": "hush"}, "image": "hush"},
    )
    letter = write_letter(run, ("mart",), "day", fresh=False)
    assert letter["flow_run"]["parameters"] == {"day": "2026-03-01"}
    assert letter["flow_run"]["job_variables"] == {"env": {PIPELINE_ENV: "v7"}}
    assert (letter["outputs"], letter["batch_parameter"], letter["fresh"]) == (["mart"], "day", False)
    assert "hush" not in json.dumps(letter)


def test_everything_is_announced_once_and_the_newest_first(box):
    server = Server()
    for batch in "abc":
        put(box, batch)
    assert deliver(server, box) == 3
    assert server.announced == ["c", "b", "a"]
    assert (deliver(server, box), box.size_bytes()) == (0, 0)


def test_what_a_server_that_goes_away_did_not_hear_is_announced_later(box):
    server = Server(fails={1: OrchestratorUnavailableError("gone")})
    for batch in "abc":
        put(box, batch)
    with pytest.raises(OrchestratorUnavailableError):
        deliver(server, box)
    assert server.announced == ["c"]
    put(box, "d")
    assert deliver(server, box) == 3
    assert server.announced == ["c", "d", "b", "a"]


def test_a_letter_that_prefect_refuses_does_not_hold_up_the_others(box, caplog):
    server = Server(fails={1: ConflictError("no such thing")})
    for batch in "abc":
        put(box, batch)
    deliver(server, box)
    assert server.announced == ["c", "a"]
    assert "refuses the announcement of flow run b: no such thing" in caplog.text


@pytest.mark.parametrize(
    "record", [{}, {"flow_run": 3, "outputs": ["mart"], "fresh": True}, {"flow_run": {"id": "x"}, "outputs": ["mart"]}]
)
def test_a_letter_that_cannot_be_read_is_left_out_and_does_not_hold_up_the_others(box, caplog, record):
    server = Server()
    put(box, "a")
    box.append(KIND, record | {"of": str(uuid.uuid4())}, event_id="odd")
    put(box, "b")
    deliver(server, box)
    assert server.announced == ["b", "a"]
    assert "a record of kind 'announcement' cannot be read and is left out" in caplog.text
    assert box.size_bytes() == 0


def test_a_letter_with_fields_of_a_newer_version_or_without_some_is_delivered(box):
    letter = write_letter(a_run(parameters={"batch": "a"}), ["mart"], None, fresh=True) | {"stamp": "new"}
    del letter["batch_parameter"]
    box.append(KIND, letter, event_id="a", version=7)
    server = Server()
    assert deliver(server, box) == 1
    assert server.announced == ["a"]


def test_a_letter_of_last_week_is_given_up(box, caplog):
    server = Server()
    put(box, "old", at_s=1e9)
    put(box, "new")
    deliver(server, box)
    assert server.announced == ["new"]
    assert "given up after a week" in caplog.text


def test_two_processes_do_not_deliver_the_same_letters(box):
    put(box, "a")
    holder = os.open(box.folder / "delivery.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert deliver(Server(), box) == 0
    os.close(holder)
    assert deliver(Server(), box) == 1


def test_letters_are_kept_per_server(box, tmp_path):
    put(box, "a")
    assert letterbox("http://other.invalid/api", tmp_path).size_bytes() == 0
    assert letterbox(URL + "/", tmp_path).size_bytes() > 0


@pytest.fixture
def hooked(tmp_path, monkeypatch):
    """Calls the hook for a completed run of a flow that writes "mart"; requests go to the server given."""
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(hooks, "_api_url", lambda: URL)
    liveness.mark_alive(hooks.steering_key(URL, "pool"), 60)

    def call(server):
        def connect(*args, **options):
            if server is None:
                raise AssertionError("a hook beside an announcer has asked the server")
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


def test_a_hook_beside_an_announcer_leaves_its_letter_and_asks_no_server(hooked, tmp_path):
    liveness.mark_alive(hooks.relay_key(URL), 60)
    batch = hooked(None)
    server = Server()
    deliver(server, letterbox(URL, tmp_path))
    assert server.announced == [batch]


def test_a_hook_without_an_announcer_delivers_its_letter_and_those_left_behind(hooked, tmp_path):
    liveness.mark_alive(hooks.relay_key(URL), 60)
    left = hooked(None)
    liveness.clear(hooks.relay_key(URL))  # the controller has been killed
    server = Server()
    mine = hooked(server)
    assert server.announced == [mine, left]


def test_a_hook_that_cannot_write_to_disk_announces_at_once(hooked, tmp_path, monkeypatch):
    (tmp_path / "announcements").touch()
    server = Server()
    batch = hooked(server)
    assert server.announced == [batch]
