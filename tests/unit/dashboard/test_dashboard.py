"""The dashboard shows what is there, sends what changed, and refuses everybody else."""

import asyncio
import json
import re
import time
import warnings
from dataclasses import replace

import pytest
from starlette.requests import Request

from benchmarks.dashboard_world import EVIL, builder, past, snapshot
from prefect_intelligent.analytics.alerts import RUNBOOKS
from prefect_intelligent.analytics.failure_signatures import FailureCause
from prefect_intelligent.analytics.pool_overview import (
    at_risk_rows,
    cause_rows,
    expected_ends,
    lateness_probability,
    quality_shares,
)
from prefect_intelligent.cli import main
from prefect_intelligent.dashboard import assets
from prefect_intelligent.dashboard.app import DashboardConfig, _read, create_app
from prefect_intelligent.dashboard.broadcast import Refresher, StateBroadcaster, state_patch
from prefect_intelligent.dashboard.state import StateBuilder
from prefect_intelligent.domain import Prices, QueueSetting, QueueState
from prefect_intelligent.domain.slot_account import SlotAccount
from prefect_intelligent.errors import OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.testing.history import InMemoryHistory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have another HTTP client
    from starlette.testclient import TestClient

TOKEN = "a-token-of-enough-length"


@pytest.fixture(scope="module")
def state():
    build = builder(time.time)
    build()
    build.wait()
    return build()


def client(state, **changes):
    config = DashboardConfig(**({"pool": "warehouse", "build": lambda: state, "interval_s": 3600.0} | changes))
    hub = StateBroadcaster()
    hub.publish(state)
    return TestClient(create_app(config, hub))


def test_the_state_has_every_section(state):
    assert {"pool", "queues", "gantt", "risk", "alerts", "decisions", "health", "money", "causes", "quality"} <= set(
        state
    )
    assert {"recommendations", "graph", "totals", "spending", "names", "steering"} <= set(state)
    assert {node["status"] for node in state["graph"]["nodes"]} >= {"healthy", "blocked", None}
    assert all(len(state["graph"]["nodes"]) > place for edge in state["graph"]["edges"] for place in edge)
    assert set(state["spending"]["by"]) == {"deployment", "queue", "version", "hour"}
    assert state["spending"]["split"]["idle_usd"] > 0
    assert [row["name"] for row in state["health"]["pools"]] == ["warehouse"]
    assert len(state["health"]["queues"]) == len(state["queues"])
    assert any(term["name"] == "cost" and term["n"] for term in state["health"]["rows"][0]["terms"])
    assert state["steering"] == {"mode": "auto", "policy": "atc+lookahead", "switch": "on"}
    assert len(state["queues"]) == 6
    assert sum(state["health"]["counts"].values()) == 60
    assert json.dumps(state, allow_nan=False)
    assert {alert["rule"] for alert in state["alerts"]} & {"keeps-failing", "new-cause", "deadline-at-risk"}


def test_only_what_changed_travels():
    before = {"at_s": 1, "queues": [1], "gantt": {"a": [1], "b": [2]}}
    after = {"at_s": 2, "queues": [1], "gantt": {"a": [1], "c": [3]}}
    assert state_patch(before, after) == {"at_s": 2, "gantt": {"set": {"c": [3]}, "gone": ["b"]}}
    assert state_patch(after, after) == {}


async def test_a_listener_gets_the_state_and_then_patches():
    hub = StateBroadcaster()
    hub.publish({"at_s": 1.0})
    stream = hub.stream()
    assert b'event: state\ndata: {"at_s":1.0}' in await anext(stream)
    hub.publish({"at_s": 2.0})
    assert b'event: patch\ndata: {"at_s":2.0}' in await anext(stream)
    for number in range(40):  # it has fallen asleep
        hub.publish({"at_s": 10.0 + number})
    received = [await anext(stream)]
    assert received[0].startswith((b"event: reload", b"id:"))
    await stream.aclose()
    assert hub.listeners == 0


def test_a_figure_that_json_cannot_hold_is_unknown_and_stops_nothing():
    hub = StateBroadcaster()

    def build():
        return {"totals": {"share": float("nan"), "rows": [1.5, float("inf")]}}

    refresher = Refresher(hub, build, 3600.0)
    refresher.start()
    refresher.end()
    refresher.join(5)
    assert hub.state == {"totals": {"share": None, "rows": [1.5, None]}, "error": None}


def test_a_look_back_that_fails_is_said_and_the_live_part_stays():
    def read_runs(_):
        raise OSError("the disk is full")

    build = StateBuilder(
        observe=None, read_runs=read_runs, history=InMemoryHistory(), pool="warehouse", prices=Prices()
    )
    build()
    with pytest.raises(OSError, match="full"):
        build.wait()
    state = build()
    assert state["error"] == "no look back: OSError: the disk is full"
    assert state["alerts"] == []


def test_a_build_that_fails_is_said_and_the_rest_stays():
    hub = StateBroadcaster()
    hub.publish({"queues": [1]})

    def build():
        raise ValueError("no such luck")

    refresher = Refresher(hub, build, 3600.0)
    refresher.start()
    refresher.end()
    refresher.join(5)
    assert hub.state == {"queues": [1], "error": "ValueError: no such luck"}


def test_pages_and_data_are_served_with_strict_headers(state):
    with client(state) as browser:
        for path in ("/", "/app.js", "/app.css", "/api/state", "/api/session"):
            answer = browser.get(path)
            assert answer.status_code == 200, path
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
        html = browser.get("/").text
        assert not re.search(r"https?://", html), "nothing from elsewhere"
        session = {"pool": "warehouse", "actions": False, "csrf": None, "details": False, "spans": []}
        assert browser.get("/api/session").json() == session


def test_without_a_token_only_localhost_is_served(state):
    with client(state) as browser:
        assert browser.get("/api/state", headers={"host": "evil.example:4280"}).status_code == 421
        assert browser.get("/api/state", headers={"host": "localhost:4280"}).status_code == 200
        assert browser.get("/api/state", headers={"host": "[::1]:4280"}).status_code == 200


def test_with_a_token_nothing_is_served_without_it(state):
    with client(state, token=TOKEN) as browser:
        for path in ("/", "/app.js", "/api/state", "/api/stream", "/api/session", "/api/runs"):
            assert browser.get(path).status_code == 401, path
            assert browser.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401, path
            assert browser.get(path, headers={"authorization": "Bearer "}).status_code == 401, path
        assert browser.get("/api/state", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        login = browser.get(f"/?token={TOKEN}", follow_redirects=False)
        assert login.status_code == 303
        cookie = login.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/api/state").status_code == 200  # the cookie


@pytest.mark.parametrize(
    "path",
    [
        *("/../pyproject.toml", "/..%2f..%2fetc/passwd", "/static/app.js", "/app.js/../../settings.py"),
        *("/%2e%2e/app.py", "/dom.js", "/runbooks/none", "/runbooks/%2e%2e", "/runbooks/..%2f..%2fREADME"),
    ],
)
def test_no_other_file_is_served(state, path):
    with client(state) as browser:
        assert browser.get(path).status_code == 404


@pytest.mark.parametrize("query", ["limit=100000", "limit=0", "limit=-1", "offset=-5", "offset=99999999999", "limit=x"])
def test_huge_or_silly_pages_are_refused(state, query):
    with client(state) as browser:
        assert browser.get(f"/api/runs?{query}").status_code == 422


def test_runs_come_in_pages(state):
    with client(state) as browser:
        answer = browser.get("/api/runs?limit=5&offset=2").json()
        assert (answer["total"], len(answer["rows"])) == (len(state["gantt"]), 5)


def test_it_is_read_only_unless_told_otherwise(state):
    with client(state) as browser:
        assert browser.post("/api/actions/steer-off").status_code == 403
        assert browser.post("/").status_code == 405
        assert browser.delete("/api/state").status_code == 405


def test_a_switch_that_cannot_be_turned_says_why(state):
    class Away(InMemoryHistory):
        def append(self, *_):
            raise OrchestratorUnavailableError("the server does not answer")

    with client(state, actions=Away()) as browser:
        own = {"x-csrf-token": browser.get("/api/session").json()["csrf"], "origin": "http://testserver"}
        answer = browser.post("/api/actions/steer-off", headers=own)
        assert (answer.status_code, answer.json()) == (503, {"error": "the server does not answer"})


def test_actions_need_this_session_and_leave_a_record(state):
    history = InMemoryHistory()
    with client(state, actions=history) as browser:
        csrf = browser.get("/api/session").json()["csrf"]
        assert browser.post("/api/actions/steer-off").status_code == 403
        assert browser.post("/api/actions/steer-off", headers={"x-csrf-token": "x" * 43}).status_code == 403
        elsewhere = {"x-csrf-token": csrf, "origin": "https://evil.example"}
        assert browser.post("/api/actions/steer-off", headers=elsewhere).status_code == 403
        assert history.latest("switch", "warehouse") is None
        own = {"x-csrf-token": csrf, "origin": "http://testserver"}
        assert browser.post("/api/actions/steer-off", headers=own).json() == {"done": "steer-off"}
        assert history.latest("switch", "warehouse")["position"] == "off"
        assert browser.post("/api/actions/acknowledge", headers=own, content=b"new-cause:x").status_code == 200
        assert browser.post("/api/actions/acknowledge", headers=own, content=b"x" * 5000).status_code == 422
        assert browser.post("/api/actions/drop-tables", headers=own).status_code == 404
    records = [{**record, "at_s": 0} for record in history.records("audit")]
    said = {"at_s": 0, "by": "testclient", "through": "dashboard"}
    assert records == [{**said, "action": "steer-off"}, {**said, "action": "acknowledge", "alert": "new-cause:x"}]


def test_a_body_without_end_is_not_kept_in_memory(state):
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 4096

    async def receive():
        return {"type": "http.request", "body": next(parts), "more_body": True}

    parts = endless()
    assert len(asyncio.run(_read(Request({"type": "http", "headers": []}, receive)))) == 2 * 4096
    assert sent == 2


def test_what_was_done_on_the_page_can_be_read(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    assert main(["dashboard", "--pool", "main", "--audit"]) == 0
    assert capsys.readouterr().out == "No action was taken on the dashboard.\n"
    record = {"at_s": 0.0, "action": "acknowledge", "by": "127.0.0.1", "through": "dashboard", "alert": "new-cause:x"}
    open_history(f"sqlite:///{tmp_path}/history.db").append("audit", "main", 0.0, record)
    assert main(["dashboard", "--pool", "main", "--audit"]) == 0
    assert capsys.readouterr().out == "1970-01-01 00:00:00  127.0.0.1  acknowledge  new-cause:x\n"


def test_each_alert_links_to_its_runbook(state):
    with client(state, token=TOKEN) as browser:
        own = {"authorization": f"Bearer {TOKEN}"}
        for rule in RUNBOOKS:
            answer = browser.get(f"/runbooks/{rule}", headers=own)
            assert f"`{rule}`" in answer.text
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert browser.get(f"/runbooks/{rule}").status_code == 401


@pytest.mark.parametrize("runs", [0, 1])
def test_a_history_of_nothing_or_of_one_run_makes_a_page(runs):
    frame = past(time.time()).iloc[:runs]
    build = StateBuilder(
        observe=None,
        read_runs=lambda _: frame,
        history=InMemoryHistory(),
        pool="warehouse",
        prices=Prices(),
        slots=lambda: SlotAccount.constant(0.0, 0.0),
    )
    build()
    build.wait()
    state = build()
    assert json.dumps(state, allow_nan=False)
    assert sum(state["health"]["counts"].values()) == runs
    assert bool(state["spending"]) == bool(runs)
    assert state["alerts"] == []


def test_an_acknowledged_alert_says_so(state):
    build = builder(time.time)
    key = state["alerts"][0]["key"]
    build()
    build.wait()
    assert not any(alert["acknowledged"] for alert in build()["alerts"])
    build._history.append("acknowledged", "warehouse", time.time(), {"alert": key})
    assert [alert["key"] for alert in build()["alerts"] if alert["acknowledged"]] == [key]


def test_causes_are_folded_to_where_they_begin():
    upstream = {"clean/x": ["ingest/x"], "report/x": ["clean/x"]}
    cause = FailureCause(
        signature="KeyError",
        failures=9,
        deployments=("report/x", "ingest/x", "other/x", "clean/x"),
        first_s=0.0,
        last_s=1.0,
        introduced_by=None,
        host=None,
        wasted_s=1.0,
    )
    (row,) = cause_rows([cause], upstream)
    assert row["deployments"] == ["ingest/x", "other/x"]
    assert row["downstream"] == ["clean/x", "report/x"]


def test_failed_checks_weigh_by_severity_in_the_health_of_who_writes():
    checks = [("critical", "failed"), ("minor", "passed"), ("major", "unknown"), ("minor", "passed")]
    record = {
        "dataset": "flights",
        "outcome": "blocked",
        "at_s": 1.0,
        "first": {"checks": [{"name": "c", "severity": s, "outcome": o} for s, o in checks]},
    }
    assert quality_shares([record], {"flights": ["clean/x"]}) == {"clean/x": (2 / 6, 3)}
    assert quality_shares([record], {}) == {}


TEXTS = ("ink", "soft", "accent", "good", "warn", "bad")
GROUNDS = ("card", "ground", "shade")
BARS = ("bar-run", "bar", "next", "bar-late", "useful", "overhead", "idle", "edge")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme):
    blocks = re.findall(r":root \{(.*?)\}", assets.style(), re.DOTALL)
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    pairs = [(text, ground, 4.5) for text in TEXTS for ground in GROUNDS]
    pairs += [("good", "tint-good", 4.5), ("bad", "tint-bad", 4.5)]
    pairs += [(bar, "card", 3.0) for bar in BARS]
    low = {(a, b): contrast(colour[a], colour[b]) for a, b, least in pairs if contrast(colour[a], colour[b]) < least}
    assert low == {}


def test_a_static_page_cannot_be_broken_out_of(state):
    text = assets.static_page(state)
    inside = text.split('id="state">', 1)[1].split("</script>", 1)[0]
    assert json.loads(inside)["queues"] == state["queues"]
    assert EVIL not in text
    assert "<script>document" not in text
    assert text.count("<script") == 2
    assert "{{" not in assets.live_page()
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]+'", text)
    assert 'src="/' not in text
    assert 'href="/' not in text


def test_the_text_of_a_runbook_is_escaped(monkeypatch, tmp_path):
    (tmp_path / "page.md").write_text("<script>alert(1)</script> & more")
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "package")
    monkeypatch.setitem(RUNBOOKS, "hung-run", "page.md")
    assert '<pre class="page">&lt;script&gt;alert(1)&lt;/script&gt; &amp; more</pre>' in assets.runbook("hung-run")


def test_the_look_ahead_serves_in_order_within_limits():
    base = snapshot(1000.0, runs=60, queues=2)
    ends = expected_ends(base)
    waiting = [run.id for queue in base.queues for run in queue.waiting]
    assert set(waiting) <= set(ends)
    closed = QueueState(
        setting=QueueSetting(name="queue-0", priority=1, limit=0), waiting=base.queues[0].waiting, active=()
    )
    shut = replace(base, queues=(closed, base.queues[1]))
    assert not {run.id for run in closed.waiting} & set(expected_ends(shut))
    risk = at_risk_rows(base, ends)
    assert [r["chance"] * r["usd_per_hour"] for r in risk] == sorted(
        (r["chance"] * r["usd_per_hour"] for r in risk), reverse=True
    )


def test_the_chance_to_be_late_grows_with_the_expected_end():
    run = next(run for run in snapshot(1000.0).queues[0].waiting if run.due_s and run.due_s > 1000.0)
    chances = [lateness_probability(run, run.due_s + shift, 1000.0) for shift in (-600.0, -60.0, 0.0, 600.0)]
    assert chances == sorted(chances)
    assert lateness_probability(run, run.due_s, 1000.0) == pytest.approx(0.5)
    assert lateness_probability(run, None, 1000.0) == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dashboard", "--pool", "p", "--port", "0"], "--port: got 0"),
        (["dashboard", "--pool", "p", "--every", "0"], "--every: got 0"),
        (["dashboard", "--pool", "p", "--token-file", "/nonexistent/t"], "--token-file"),
        (["dashboard"], "name a work pool"),
    ],
)
def test_options_that_cannot_be_used(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_run_says_why_it_does_not_start(state):
    def why(run):
        if run == "gone":
            raise UnknownNameError("flow run", run, ())
        if run == "down":
            raise OrchestratorUnavailableError("no answer")
        return [f"run {run}:", "  work pool main is paused"]

    with client(state, why=why) as browser:
        assert browser.get("/api/why/a%2Fb").status_code == 404  # no run has such an id
        assert browser.get("/api/why/r1").json() == {"lines": ["run r1:", "  work pool main is paused"]}
        assert browser.get("/api/why/gone").status_code == 404
        assert browser.get("/api/why/down").status_code == 503
    with client(state) as browser:
        assert browser.get("/api/why/r1").status_code == 404
    with client(state, why=why, token=TOKEN) as browser:
        assert browser.get("/api/why/r1").status_code == 401
