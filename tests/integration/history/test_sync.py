"""A real server's memory ends up in the history as it is, once, with causes and terms."""

import json
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_intelligent.domain import RelativeDeadline, Terms
from prefect_intelligent.history.adapters.prefect_source import PrefectHistory, size_of
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.sync import sync
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from simulations.calibrate import main as calibrate
from simulations.scenario import load_scenario
from tests.real_prefect import RealServer, clone_runs, free_port


class Now:
    def now_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def ended(api, deployment: str, state: str, message: str = "") -> str:
    run = api.run(deployment, in_s=-30)
    api.set_state(run, "PENDING")
    api.set_state(run, "RUNNING")
    api.set_state(run, state, message=message)
    return run


@pytest.mark.server
def test_runs_causes_terms_queues_and_deployments_are_copied(prefect_server: RealServer, api, tmp_path: Path):
    client = PrefectApi(prefect_server.api_url)
    pool = api.pool(limit=4)
    api.queue(pool, "fast", priority=5, limit=2)
    deployment = api.deployment(pool, "fast")
    name = api.call("GET", f"/deployments/{deployment}")["name"]
    flow = api.call("GET", f"/flows/{api.call('GET', f'/deployments/{deployment}')['flow_id']}")["name"]
    publish_terms(client, f"{flow}/{name}", Terms(deadline=RelativeDeadline(within_s=600.0), late_usd_per_hour=9.0))
    good = ended(api, deployment, "COMPLETED")
    ended(api, deployment, "FAILED", "Flow run encountered an exception: ValueError: no row 17")
    waiting = api.run(deployment, in_s=-60)
    clone_runs(prefect_server, good, 250)
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path}/history.db"))
    source = PrefectHistory(client)
    copied = sync(source, store, Now(), task_runs=True)
    frame = store.run_frame(pool=pool)
    assert copied.runs >= 252
    assert frame["state"].astype(str).value_counts().to_dict()["COMPLETED"] == 251
    assert frame["deployment"].astype(str).unique().tolist() == [f"{flow}/{name}"]
    failed = frame[frame["failed"]]
    assert failed["cause"].astype(str).tolist() == ["ValueError: no row <n>"]
    assert (failed["due_s"] - failed["scheduled_s"]).tolist() == pytest.approx([600.0])
    assert failed["late_usd_per_hour"].tolist() == [9.0]
    queues = store.queue_frame()
    own = queues[(queues["pool"] == pool) & (queues["queue"].isin(["", "fast"]))]
    assert sorted(own["limit"].tolist()) == [2, 4]
    assert f"{flow}/{name}" in store.deployment_frame()["name"].tolist()
    assert waiting not in [row["run_id"] for row in store.failures(since_s=0.0)]
    before = store.counts()["runs"]
    again = sync(source, store, Now())
    assert store.counts()["runs"] == before
    assert again.queue_changes == 0
    client.close()


@pytest.mark.server
def test_a_scenario_is_fitted_to_the_history_of_a_real_server(
    prefect_server: RealServer, api, prefect_api, monkeypatch, tmp_path: Path, capsys
):
    monkeypatch.chdir(tmp_path)
    pool = api.pool(limit=4)
    api.queue(pool, "fast", priority=5, limit=2)
    deployment = api.deployment(pool, "fast")
    row = api.call("GET", f"/deployments/{deployment}")
    name = f"{api.call('GET', '/flows/' + row['flow_id'])['name']}/{row['name']}"
    client = PrefectApi(prefect_server.api_url)
    publish_terms(client, name, Terms(deadline=RelativeDeadline(within_s=600.0), late_usd_per_hour=9.0))
    client.close()
    clone_runs(prefect_server, ended(api, deployment, "COMPLETED"), 60, spread_s=4 * 3600.0)
    ended(api, deployment, "CRASHED")
    words = ["--from-prefect", "--days", "2", "--pool", pool, "-o", "mine.toml"]
    assert calibrate([*words, "--json"]) in (0, 1)  # 1: some of it could not be fitted, which is marked
    (fitted,) = json.loads(capsys.readouterr().out)["deployments"]
    assert (fitted["name"], fitted["runs"]) == (name, 62)
    assert fitted["crashes"] == pytest.approx(1 / 62, rel=0.01)
    scenario = load_scenario("mine.toml")
    assert scenario.pools[0].limit == 4
    assert ("fast", 5, 2) in {(q.name, q.priority, q.limit) for q in scenario.pools[0].queues}
    (source,) = scenario.sources
    assert (str(source.deadline), source.terms.late_usd_per_hour) == ("10m", 9.0)
    assert calibrate([*words[:4], pool[:-1] + "_", "-o", "other.toml"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_server_that_does_not_answer_is_one_line_and_no_file(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.chdir(tmp_path)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert calibrate(["--from-prefect", "-o", "mine.toml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.server
def test_what_a_run_was_asked_to_do_is_kept_without_secrets_and_reaches_forecasts(
    prefect_server: RealServer, api, tmp_path: Path
):
    client = PrefectApi(prefect_server.api_url)
    pool = api.pool(limit=4)
    deployment = api.deployment(pool, "default")
    asked = {
        "rows": 7,
        "mode": "full",
        "dry_run": False,
        "names": ["a", "b"],
        "api_key": "hush-hush",
        "text": "x" * 90_000,
    }
    kept = {"rows": 7.0, "mode": "full", "dry_run": False, "len(names)": 2.0, "len(text)": 90_000.0}
    done, waiting = (api.run(deployment, in_s=-30, parameters=asked) for _ in range(2))
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        api.set_state(done, state)
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path}/history.db"))
    sync(PrefectHistory(client), store, Now(), events=False)
    frame = store.run_frame(pool=pool, parameters=True)
    assert [json.loads(line) for line in frame["parameters"]] == [kept]
    assert b"hush" not in (tmp_path / "history.db").read_bytes()
    live = {run.id: run for run in PrefectOrchestrator(client, pool).observe().runs()}
    assert dict(live[waiting].parameters) == kept


def test_the_size_of_a_run_is_its_largest_number_or_list():
    assert size_of({"rows": 500, "days": 3, "verbose": True, "names": ["a"]}) == 500.0
    assert size_of({"names": ["a", "b"]}) == 2.0
    assert size_of({"who": "you"}) is None
    assert size_of({"key": 10**400, "rows": 7, "share": float("nan"), "most": float("inf")}) == 7.0
