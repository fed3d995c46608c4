"""What everything that is told the wanted slots holds to: the newest number arrives, once, however often it fails."""

import http.server
import json
import sys
import threading

import pytest

from prefect_intelligent.capacity.adapters.notifier import CapacityNotifier, command_teller, webhook_teller

PATIENCE_S = 60.0


class Told:
    """What has been told, and how many attempts are still to fail."""

    def __init__(self):
        self.taken, self.keys, self.attempts, self.fail = [], [], 0, 0
        self.changed = threading.Condition()

    def attempt(self, pool, slots, key=None):
        with self.changed:
            self.attempts += 1
            self.keys.append(key)
            failed, self.fail = self.fail > 0, max(0, self.fail - 1)
            if not failed:
                self.taken.append((pool, slots))
            self.changed.notify_all()
            return not failed

    def wait_for(self, holds):
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE_S), (self.taken, self.attempts)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def address(told):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.authorization = self.headers["Authorization"]
            done = told.attempt(body["pool"], body["desired_slots"], self.headers["Idempotency-Key"])
            self.send_response(204 if done else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/scale"
    server.shutdown()
    server.server_close()


@pytest.fixture
def webhook(address):
    return webhook_teller(address, token="secret")


SCRIPT = """
import os, sys, urllib.request, json
assert os.environ["DESIRED_SLOTS"] == sys.argv[2] and os.environ["DESIRED_POOL"] == sys.argv[3]
body = json.dumps({"pool": sys.argv[3], "desired_slots": int(sys.argv[2])}).encode()
urllib.request.urlopen(urllib.request.Request(sys.argv[1], body)).read()
"""


@pytest.fixture
def command(address, tmp_path):
    script = tmp_path / "scale.py"
    script.write_text(SCRIPT)
    return command_teller([sys.executable, str(script), address, "{slots}", "{pool}"])


@pytest.fixture(params=["webhook", "command"])
def capacity(request):
    made = CapacityNotifier("etl", request.getfixturevalue(request.param), longest_pause_s=0.05)
    yield made
    made.close()


def test_a_number_arrives_and_is_not_told_again(told, capacity):
    for _ in range(3):
        capacity.want("etl", 3)
    told.wait_for(lambda: told.taken == [("etl", 3)])
    capacity.want("etl", 3)
    capacity.want("etl", 0)
    told.wait_for(lambda: told.taken == [("etl", 3), ("etl", 0)])
    assert told.attempts == 2
    assert capacity.present("etl") is None


def test_what_was_not_taken_is_told_again(told, capacity):
    told.fail = 3
    capacity.want("etl", 7)
    told.wait_for(lambda: told.taken == [("etl", 7)])
    assert told.attempts == 4
    assert len(set(told.keys)) == 1


def test_only_the_newest_number_counts(told, capacity):
    told.fail = 10**6
    capacity.want("etl", 1)
    told.wait_for(lambda: told.attempts >= 2)
    capacity.want("etl", 5)
    with told.changed:
        told.fail = 0
    told.wait_for(lambda: told.taken)
    assert told.taken[-1] == ("etl", 5)


def test_another_pool_is_not_told(told, capacity):
    capacity.want("other", 4)
    capacity.want("etl", 1)
    told.wait_for(lambda: told.taken == [("etl", 1)])


def test_the_same_number_later_has_another_key(told, webhook):
    capacity = CapacityNotifier("etl", webhook, longest_pause_s=0.05)
    for slots in (5, 8, 5):
        before = len(told.taken)
        capacity.want("etl", slots)
        told.wait_for(lambda before=before: len(told.taken) > before)
    assert len(set(told.keys)) == 3
    assert told.authorization == "Bearer secret"
    capacity.close()


def test_what_was_taken_is_told_once_more_in_a_while(told, webhook):
    capacity = CapacityNotifier("etl", webhook, repeat_s=0.05)
    capacity.want("etl", 2)
    told.wait_for(lambda: len(told.taken) >= 3)
    assert set(told.taken) == {("etl", 2)}
    capacity.close()


def test_a_program_that_is_not_there_is_tried_again_and_told_once(caplog):
    capacity = CapacityNotifier("etl", command_teller(["./no-such-program", "{slots}"]), longest_pause_s=0.01)
    capacity.want("etl", 2)
    deadline = threading.Event()
    for _ in range(1000):
        if capacity._failures > 3:
            break
        deadline.wait(0.01)
    assert capacity._failures > 3
    capacity.close()
    assert [record.levelname for record in caplog.records if "not taken" in record.message] == ["WARNING"]
