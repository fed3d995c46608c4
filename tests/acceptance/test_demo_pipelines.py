"""The demo's pipelines on a fresh server and a real worker: arranged once, raw data brings the report by itself."""

import json
import time
from collections import Counter
from datetime import datetime

import pytest

from prefect_intelligent.cli import main
from tests.real_prefect import REPOSITORY, RealServer, start_worker

pytestmark = [pytest.mark.worker, pytest.mark.slow]

FLOWS = {
    "ingest-flights": "flows/ingest_tables.py:ingest_flights",
    "ingest-weather": "flows/ingest_tables.py:ingest_weather",
    "ingest-planes": "flows/ingest_tables.py:ingest_planes",
    "ingest-airports": "flows/ingest_tables.py:ingest_airports",
    "ingest-airlines": "flows/ingest_tables.py:ingest_airlines",
    "clean-flights": "flows/clean_flights.py:clean_flights",
    "join-weather": "flows/join_weather.py:join_weather",
    "mart-airlines": "flows/build_marts.py:mart_airlines",
    "mart-airports": "flows/build_marts.py:mart_airports",
    "write-report": "flows/write_report.py:write_report",
}
DAILY = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]}
WHOLE = {"type": "object", "properties": {}}
STANDING = ("ingest-planes", "ingest-airports", "ingest-airlines")  # reference tables come in no batches


def test_raw_data_brings_the_report_in_order_once(tmp_path_factory, tmp_path, monkeypatch, workers, capfd):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.ingest_tables import ingest_whole

    server = RealServer(tmp_path_factory.mktemp("prefect-demo")).start()
    workers.callback(server.stop)
    api = server.api()
    pool = api.pool("flights")
    lake = tmp_path / "lake"
    monkeypatch.setenv("FLIGHTS_LAKE", str(lake))
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for table in ("planes", "airports", "airlines"):
        ingest_whole(table)
    env = {"FLIGHTS_LAKE": str(lake), "PREFECT_INTELLIGENT_DATA_DIR": str(tmp_path / "data")}
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(REPOSITORY)}}]
    ids = {
        name: api.deployment(
            pool,
            flow=name,
            name="morning",
            entrypoint=entrypoint,
            pull_steps=pull,
            job_variables={"env": env},
            parameter_openapi_schema=WHOLE if name in STANDING else DAILY,
        )
        for name, entrypoint in FLOWS.items()
    }
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        assert main(["graph", "check"]) == 0  # the clean project has no conflict
        assert "no conflict found" in capfd.readouterr().out
        assert main(["graph", "apply"]) == 0
        assert "nothing was written" in capfd.readouterr().out
        assert main(["graph", "apply", "--yes"]) == 0
        capfd.readouterr()
        assert main(["graph", "apply", "--yes", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["changes"] == []
        assert main(["graph", "plan", "reports", "--fresh", "flight_weather", "--json"]) == 0
        planned = json.loads(capfd.readouterr().out)["deployments"]
        assert planned == ["mart-airlines/morning", "mart-airports/morning", "write-report/morning"]

        assert main(["graph", "critical", "--json"]) == 0
        critical = json.loads(capfd.readouterr().out)
        assert [step["name"] for step in critical["deployments"]][-1] == "write-report/morning"
        assert critical["p50_s"] < critical["p90_s"]
        assert main(["graph", "impact", "clean-flights/morning", "--late", "2h", "--json"]) == 0
        late = [row["deployment"] for row in json.loads(capfd.readouterr().out)["delays"]]
        assert {"join-weather/morning", "write-report/morning"} <= set(late)
        for form, begins in (("mermaid", "flowchart"), ("svg", "<svg"), ("json", "{")):
            assert main(["graph", "show", "--format", form]) == 0
            assert capfd.readouterr().out.startswith(begins)

        workers.callback(start_worker(server, pool, limit=3).stop)
        for name in ("ingest-flights", "ingest-weather"):
            api.run(ids[name], parameters={"day": "2013-02-08"})
        deadline = time.monotonic() + 400
        while True:
            runs = api.call("POST", "/flow_runs/filter", {"sort": "START_TIME_ASC"})
            done = [run for run in runs if run["state_type"] == "COMPLETED"]
            if ids["write-report"] in [run["deployment_id"] for run in done]:
                break
            assert time.monotonic() < deadline, [(run["deployment_id"], run["state_name"]) for run in runs]
            time.sleep(0.5)
        names = {found: name for name, found in ids.items()}
        assert Counter(names[run["deployment_id"]] for run in runs) == {
            name: 1 for name in FLOWS if name not in STANDING
        }
        assert {run["parameters"]["day"] for run in runs} == {"2013-02-08"}
        began = {names[run["deployment_id"]]: datetime.fromisoformat(run["start_time"]) for run in runs}
        ended = {names[run["deployment_id"]]: datetime.fromisoformat(run["end_time"]) for run in runs}
        for before, after in (
            ("ingest-flights", "clean-flights"),
            ("ingest-weather", "join-weather"),
            ("clean-flights", "join-weather"),
            ("join-weather", "mart-airlines"),
            ("join-weather", "mart-airports"),
            ("mart-airlines", "write-report"),
            ("mart-airports", "write-report"),
        ):
            # hooks speak before a run's process has ended; its data is written by then
            assert ended[before] <= began[after], (before, after)
        assert (lake / "reports").exists()

        api.deployment(pool, flow="clean-flights", name="again", entrypoint=FLOWS["clean-flights"], pull_steps=pull)
        capfd.readouterr()
        assert main(["graph", "check", "--json"]) == 1
        found = json.loads(capfd.readouterr().out)["findings"]
        assert {finding["rule"] for finding in found} == {"two-writers"}
