"""`graph apply` on a real server: everything downstream runs in order, once per batch."""

import time
from collections import Counter

import pytest

from prefect_intelligent.domain import Prices, Terms
from prefect_intelligent.pipelines.adapters.prefect_discovery import survey
from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations, remove_all
from prefect_intelligent.pipelines.project_file import read_project
from prefect_intelligent.pipelines.resource_changes import AUTOMATION, EPOCHS
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.survey import Overrides, build_model
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.testing.history import InMemoryHistory
from tests.pipeline_worker import QuickWorker
from tests.real_prefect import PostgresDatabase, RealServer, why_no_postgres

pytestmark = pytest.mark.server

SCHEMA = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
FLOWS = {  # the shape of the demo: two raw tables, cleaned, joined, two marts, one report
    "ingest_flights": ((), ("raw_flights",)),
    "ingest_weather": ((), ("raw_weather",)),
    "clean": (("raw_flights",), ("flights",)),
    "join": (("flights", "raw_weather"), ("flight_weather",)),
    "mart_airlines": (("flight_weather",), ("airlines",)),
    "mart_airports": (("flight_weather",), ("airports",)),
    "report": (("airlines", "airports"), ("report",)),
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A server without other tests' deployments; on PostgreSQL where there is one, SQLite locks under this load."""
    database = PostgresDatabase() if why_no_postgres() is None else None
    url = None if database is None else database.prefect_url
    server = RealServer(tmp_path_factory.mktemp("prefect-graph"), url).start()
    yield server
    server.stop()
    if database is not None:
        database.drop()


@pytest.fixture
def project(own_server):
    """The pipelines on a server with nothing else: api, pool, server, transactions, ids and what draws the graph."""
    api = own_server.api()
    pool = api.pool()
    prefect = PrefectApi(own_server.api_url, timeout_s=60)
    ids = {}
    for name, (inputs, outputs) in FLOWS.items():
        ids[name] = api.deployment(pool, flow=name, name="prod", parameter_openapi_schema=SCHEMA)
        publish_terms(prefect, name, Terms(inputs=inputs, outputs=outputs, batch="day"))
    server = PrefectPipelineServer(prefect)
    transactions = Transactions(server, InMemoryHistory(), SystemClock())

    def model(text="", overrides=None):
        found = survey(prefect, server, own_server.home, history=False)
        return build_model(found, read_project(text), overrides or Overrides(), Prices(), time.time())

    yield api, pool, server, transactions, ids, model
    remove_all(transactions)
    for found in ids.values():
        api.call("DELETE", f"/deployments/{found}")


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_raw_data_brings_everything_downstream_in_order_once_per_batch(project, own_server):
    api, pool, server, transactions, ids, model = project
    assert (
        apply_automations(transactions, plan_automations(server, model(), time.time())) == 5 + 7
    )  # automations, epochs
    assert plan_automations(server, model(), time.time()).changes == ()  # twice is once
    names = {found: name for name, found in ids.items()}
    outputs = {ids[name]: (datasets, "day") for name, (_, datasets) in FLOWS.items()}
    days = ["2013-01-01", "2013-01-02"]
    with QuickWorker(own_server.api_url, pool, outputs) as worker:
        for day in days:  # batches overlap: all flights first, then all weather
            api.run(ids["ingest_flights"], parameters={"day": day})
        for day in days:
            api.run(ids["ingest_weather"], parameters={"day": day})
        wait_for(lambda: len(worker.ran) >= len(FLOWS) * len(days))
        api.run(ids["ingest_weather"], parameters={"day": days[0]})  # delivered again: nothing may run twice
        wait_for(lambda: len(worker.ran) > len(FLOWS) * len(days))
        time.sleep(3)
    ran = [(names[found], api.read_run(run_id)["parameters"]["day"]) for found, run_id in worker.ran]
    assert ran.pop(-1) == ("ingest_weather", days[0])
    assert Counter(ran) == {(name, day): 1 for name in FLOWS for day in days}
    for day in days:
        place = {name: index for index, (name, batch) in enumerate(ran) if batch == day}
        assert place["ingest_flights"] < place["clean"] < place["join"]
        assert place["ingest_weather"] < place["join"] < min(place["mart_airlines"], place["mart_airports"])
        assert max(place["mart_airlines"], place["mart_airports"]) < place["report"]


def test_a_failed_or_late_input_is_handled_as_the_project_file_says(project, own_server):
    api, pool, server, transactions, ids, model = project
    text = """
    on_late = "hold"
    [deployments."join/prod"]
    on_late = "stale"
    wait = "10s"
    [deployments."report/prod"]
    on_late = "stale"
    """
    apply_automations(transactions, plan_automations(server, model(text), time.time()))
    outputs = {ids[name]: (datasets, "day") for name, (_, datasets) in FLOWS.items()}

    def run(flow_run):
        if flow_run["deployment_id"] == ids["mart_airports"]:
            raise RuntimeError

    with QuickWorker(own_server.api_url, pool, outputs, run) as worker:
        api.run(ids["ingest_flights"], parameters={"day": "d"})  # the weather never comes, one mart fails
        wait_for(lambda: ids["report"] in [found for found, _ in worker.ran])
    ran = [found for found, _ in worker.ran]
    assert sorted(ran) == sorted(found for name, found in ids.items() if name != "ingest_weather")


def test_only_what_is_ours_is_written_and_removed(project):
    api, _, server, transactions, _, model = project
    trigger = {"type": "event", "expect": ["x"], "posture": "Reactive", "threshold": 1, "within": 0}
    foreign = {"name": "prefect-intelligent: not ours", "trigger": trigger, "actions": [{"type": "do-nothing"}]}
    foreign_id = api.call("POST", "/automations/", foreign)["id"]
    apply_automations(transactions, plan_automations(server, model(), time.time()))
    assert len(remove_all(transactions)) == 12
    assert server.read_all(AUTOMATION) == {}
    assert server.read_all(EPOCHS) == {}
    assert api.call("GET", f"/automations/{foreign_id}")["name"] == foreign["name"]


def test_a_removed_step_takes_effect_for_the_next_batch_only(project, own_server):
    api, pool, server, transactions, ids, model = project
    apply_automations(transactions, plan_automations(server, model(), time.time()))
    outputs = {ids[name]: (datasets, "day") for name, (_, datasets) in FLOWS.items()}
    names = {found: name for name, found in ids.items()}
    with QuickWorker(own_server.api_url, pool, outputs) as worker:
        api.run(ids["ingest_flights"], parameters={"day": "in flight"})
        wait_for(lambda: ids["clean"] in [found for found, _ in worker.ran])
        without = model(
            overrides=Overrides(
                removed=frozenset({"mart_airlines/prod"}), terms={"report/prod": {"inputs": ["airports"]}}
            )
        )
        apply_automations(transactions, plan_automations(server, without, time.time()))
        time.sleep(1)
        api.run(ids["ingest_weather"], parameters={"day": "in flight"})
        for name in ("ingest_flights", "ingest_weather"):
            api.run(ids[name], parameters={"day": "next"})
        wait_for(lambda: [found for found, _ in worker.ran].count(ids["report"]) == 2)
        time.sleep(2)
    ran = {(names[found], api.read_run(run_id)["parameters"]["day"]) for found, run_id in worker.ran}
    assert ran == {(name, "in flight") for name in FLOWS} | {
        (name, "next") for name in FLOWS if name != "mart_airlines"
    }
