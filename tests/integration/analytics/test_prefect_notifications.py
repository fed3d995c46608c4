"""The commands that look at a live pool work against a real server."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from prefect_intelligent.cli import main
from tests.real_prefect import made_earlier


def asks_for_runs(api, pool):
    """A worker is there: that nobody is would be an alert too."""
    api.call("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "worker"})
    api.polled(pool)


@pytest.mark.server
def test_alerts_are_looked_for_and_sent(prefect_server, api, monkeypatch, tmp_path, capsys, prefect_api):
    pool = api.pool(limit=2)
    api.queue(pool, "old", priority=50)
    deployment = api.deployment(pool, "old")
    made_earlier(prefect_server, api.run(deployment, in_s=-7200), 7200.0)
    asks_for_runs(api, pool)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.chdir(tmp_path)
    assert main(["sync", "--no-events"]) == 0
    capsys.readouterr()
    assert main(["alerts", "--pool", pool, "--send", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [alert["key"] for alert in found["alerts"]] == ["queue-starving:old"]
    assert found["opened"] == ["queue-starving:old"]
    assert main(["alerts", "--pool", pool, "--send"]) == 0
    out = capsys.readouterr().out
    assert "docs/how-to/runbooks/queue-starving.md" in out
    assert "0 opened, 0 resolved" in out


@pytest.mark.server
def test_a_deployment_that_keeps_failing_is_held(prefect_server, api, monkeypatch, tmp_path, capsys, prefect_api):
    pool = api.pool()
    deployment = api.deployment(pool, "default")
    for _ in range(3):
        run = api.run(deployment, in_s=-5)
        for state in ("PENDING", "RUNNING", "FAILED"):
            api.set_state(run, state)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.chdir(tmp_path)
    assert main(["sync", "--no-events"]) == 0
    capsys.readouterr()
    assert main(["prevent", "--pool", pool]) == 1
    assert "only recorded" in capsys.readouterr().out
    assert api.call("GET", f"/deployments/{deployment}")["global_concurrency_limit"] is None
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/other.db")
    assert main(["sync", "--no-events"]) == 0
    assert main(["prevent", "--pool", pool, "--write"]) == 1
    assert (
        api.call("GET", f"/deployments/{deployment}")["global_concurrency_limit"]["name"]
        == f"prefect-intelligent-hold-{deployment}"
    )
    assert main(["prevent", "scores", "--pool", pool]) == 0


class Letterbox(BaseHTTPRequestHandler):
    """What a webhook has received."""

    letters: Queue

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.letters.put(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def letterbox():
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Letterbox,), {"letters": Queue()}))
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.mark.server
def test_alerts_reach_people_by_prefects_own_blocks(
    prefect_server, api, monkeypatch, tmp_path, capsys, prefect_api, letterbox
):
    pool = api.pool(limit=2)
    api.queue(pool, "old", priority=50)
    run = api.run(api.deployment(pool, "old"), in_s=-7200)
    made_earlier(prefect_server, run, 7200.0)
    asks_for_runs(api, pool)
    name = f"hook-{pool}"
    url = f"http://127.0.0.1:{letterbox.server_port}/"
    hook = CustomWebhookNotificationBlock(name="n", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"})
    hook.save(name)
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_RUNBOOKS_URL", "https://docs.example/runbooks/")
    monkeypatch.chdir(tmp_path)

    def ours():
        return [a for a in api.call("POST", "/automations/filter", {}) if pool in a["name"]]

    install = ["alerts", "install", "--pool", pool, "--block", f"custom-webhook/{name}"]
    assert main(install) == 0
    assert "would create" in capsys.readouterr().out
    assert ours() == []
    assert main(["alerts", "install", "--pool", pool, "--block", "custom-webhook/nobody"]) == 2
    assert "unknown notification block" in capsys.readouterr().err
    for said in ("created", "is there already"):
        assert main([*install, "--write"]) == 0
        assert said in capsys.readouterr().out
    assert len(ours()) == 1
    assert main([*install, "--pages-only", "--write"]) == 0
    assert "changed" in capsys.readouterr().out
    assert main([*install, "--write"]) == 0
    main(["alerts", "--pool", pool, "--send"])
    letter = letterbox.RequestHandlerClass.letters.get(timeout=180)
    assert letter["subject"] == f"ticket in pool {pool}: queue-starving"
    assert "What to do: https://docs.example/runbooks/queue-starving" in letter["body"]
    api.set_state(run, "CANCELLED")
    main(["alerts", "--pool", pool, "--send"])
    main(["alerts", "--pool", pool, "--send"])
    assert letterbox.RequestHandlerClass.letters.get(timeout=180)["subject"].startswith("Resolved: ticket")
    api.call("POST", "/automations/", {**_body(ours()[0]), "name": f"prefect-intelligent alerts of {pool} to x/y"})
    capsys.readouterr()
    assert main(["alerts", "uninstall", "--pool", pool, "--write"]) == 0
    assert [a["name"] for a in ours()] == [f"prefect-intelligent alerts of {pool} to x/y"]  # not tagged: not ours
    assert main(["alerts", "uninstall", "--pool", pool]) == 0
    assert "nothing of ours" in capsys.readouterr().out


def _body(automation):
    kept = {key: automation[key] for key in ("description", "enabled", "trigger", "actions")}
    return kept | {"trigger": {k: v for k, v in kept["trigger"].items() if k != "id"}, "tags": []}
