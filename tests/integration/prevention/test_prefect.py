"""Prevention on a real server from the command line: seen, held, scored, put back; hung runs by their heartbeats."""

import json
import time
import uuid

import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.heartbeats import EVENT, read_heartbeats
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.prevention import look
from prefect_intelligent.wiring.steering import open_controller
from tests.real_prefect import iso

pytestmark = pytest.mark.server


@pytest.fixture
def store(prefect_api, monkeypatch, tmp_path):
    url = f"sqlite:///{tmp_path}/h.db"
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return SqlRuns(open_engine(url))


def put(store, pool, name, count, cause=None):
    now = time.time()
    store.put(
        runs=[
            RunFact(
                f"{name}{row}", None, pool, "default", name, "v1", None, "FAILED" if cause else "COMPLETED", cause,
                at, at, at, at + 60, None, None, None, 1, None, 2.0, cause,
            )
            for row, at in enumerate(now - 600.0 * (count - n) for n in range(count))
        ]
    )  # fmt: skip


def beat(api, run, ago_s):
    """A heartbeat as a flow's process sends it."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": iso(time.time() - ago_s),
        "event": EVENT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "payload": {},
    }
    api.call("POST", "/events", [event])


def test_what_keeps_failing_is_held_scored_and_put_back(api, store, capsys, tmp_path):
    pool, flow = api.pool(), f"flow-{uuid.uuid4().hex[:6]}"
    deployment = api.deployment(pool, flow=flow, concurrency_limit=3)
    assert main(["prevent", "--pool", pool]) == 0
    assert "Not enough data" in capsys.readouterr().out
    put(store, pool, f"{flow}/d", 4, "ValueError: <n>")
    assert main(["prevent", "--pool", pool]) == 1
    assert "only recorded" in capsys.readouterr().out

    def refused():
        state = {"state": {"type": "PENDING"}}
        return api.call("POST", f"/flow_runs/{api.run(deployment)}/set_state", state)["status"] == "REJECT"

    assert not refused()
    (tmp_path / "prefect-intelligent.toml").write_text('[prevention.keeps-failing]\nmode = "off"\n')
    assert main(["prevent", "--pool", pool]) == 0
    (tmp_path / "prefect-intelligent.toml").unlink()
    capsys.readouterr()
    other = api.pool()
    put(store, other, f"{flow}/d", 4, "ValueError: <n>")
    assert main(["prevent", "--pool", other, "--write", "--json"]) == 1
    (held,) = json.loads(capsys.readouterr().out)["standing"]
    assert (held["rule"], held["written"]) == ("keeps-failing", True)
    assert refused()
    assert main(["prevent", "status", "--pool", other]) == 1
    assert "in force: keeps-failing" in capsys.readouterr().out
    assert main(["prevent", "scores", "--pool", other, "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["measures"]
    assert (score["verdict"], score["written"]) == ("open", True)
    assert main(["control", "restore", "--pool", other, "--dry-run"]) == 0
    assert refused()
    assert main(["control", "restore", "--pool", other]) == 0
    assert "1 measure put back" in capsys.readouterr().out
    assert not refused()
    assert api.call("GET", f"/deployments/{deployment}")["global_concurrency_limit"]["limit"] == 3


def test_signs_of_life_are_read_from_the_server(api, prefect_server, store):
    pool = api.pool()
    deployment = api.deployment(pool)
    beating, silent, mute = (api.run(deployment) for _ in range(3))
    for run in (beating, silent, mute):
        api.set_state(run, "RUNNING")
    beat(api, beating, 50.0)
    beat(api, beating, 20.0)
    beat(api, silent, 700.0)
    client = PrefectApi(prefect_server.api_url)
    deadline = time.monotonic() + 180
    while len(found := read_heartbeats(client, [beating, silent, mute])) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # the server writes events in the background
    assert set(found) == {beating, silent}
    assert found[beating].last_s - found[silent].last_s == pytest.approx(680.0, abs=30.0)
    settings = load_settings().settings
    evidence = look(settings, open_controller(settings, pool), store.run_frame(pool=pool))
    assert {run.run_id for run in evidence.live if run.heartbeats is not None} == {beating, silent}
    assert {run.run_id for run in evidence.live if run.started_s is not None} == {beating, silent, mute}


def test_a_rule_that_does_not_exist_is_refused(store, capsys, tmp_path):
    (tmp_path / "prefect-intelligent.toml").write_text('[prevention.keep-failing]\nmode = "auto"\n')
    assert main(["prevent", "--pool", "p"]) == 2
    assert "keeps-failing" in capsys.readouterr().err
