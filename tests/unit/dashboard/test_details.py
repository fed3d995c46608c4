"""Pages of a deployment, a dataset and all pools: what they show, and where their names lead."""

import re
import time
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from benchmarks.dashboard_world import EVIL, UI, builder, details
from prefect_intelligent.analytics.pool_overview import decision_rows
from prefect_intelligent.dashboard.app import DashboardConfig, create_app
from prefect_intelligent.dashboard.prefect_links import PrefectLinks
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact


@pytest.fixture(scope="module")
def build():
    found = builder(time.time)
    found()
    found.wait()
    return found


@pytest.fixture
def browser(build):
    config = DashboardConfig(
        pool="warehouse", build=build, interval_s=3600.0, details=details(time.time), look_back=build.look_back
    )
    with TestClient(create_app(config)) as found:
        yield found


def test_a_deployment_has_a_page_with_its_runs_quality_and_decisions(browser):
    text = browser.get("/deployment", params={"name": "features/daily-002", "span": "7d"}).text
    assert f"{UI}/deployments/deployment/id-2" in text
    assert f"{UI}/runs/flow-run/run-0" in text
    assert f"{UI}/work-pools/work-pool/warehouse/queue/queue-2" in text
    assert "station is known" in text  # the failed check of what it writes
    assert "limit 44 → 52" in text
    assert "its first run is due in 6 min" in text
    assert 'href="/dataset?name=flight_weather"' in text
    assert text.count("<tr>") > 20


def test_a_dataset_has_a_page_with_who_wrote_it_last_and_its_checks(browser):
    text = browser.get("/dataset", params={"name": "scores"}).text
    assert "no missing score" in text
    assert "blocked" in text
    assert re.search(
        r"Last by <a[^>]*>score/daily-004</a>, run <a href=\"http://prefect.example/runs/flow-run/run-", text
    )
    assert 'read by <a href="/deployment?name=export/daily-006"' in text


def test_all_pools_are_on_one_page(browser):
    text = browser.get("/pools").text
    assert "1 work pool<" in text
    assert f"{UI}/work-pools/work-pool/warehouse" in text
    assert "last decision" in text


def test_what_nobody_knows_and_spans_that_there_are_not_are_refused(browser):
    for path in ("/deployment?name=no/such", "/dataset?name=nothing"):
        assert browser.get(path).status_code == 404
    assert browser.get("/pools?span=3y").status_code == 422
    assert browser.get("/deployment").status_code == 422


def test_names_with_markup_are_text(browser):
    name = f"audit/{EVIL}"
    text = browser.get("/deployment?name=" + quote(name)).text
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("&lt;script&gt;") >= 1


def test_without_details_there_are_no_such_pages(build):
    with TestClient(create_app(DashboardConfig(pool="warehouse", build=build, interval_s=3600.0))) as found:
        for path in ("/deployment?name=features/daily-002", "/dataset?name=scores", "/pools"):
            assert found.get(path).status_code == 404


def test_another_span_gives_other_totals(browser, build):
    day, week = (browser.get("/api/look-back", params={"span": span}).json() for span in ("24h", "7d"))
    assert day["totals"]["runs"] < week["totals"]["runs"] == build()["totals"]["runs"]
    assert day["totals"]["span"] == "1d"


def test_the_timeline_has_the_past_of_three_hours(build):
    state = build()
    ends = [row[4] for row in state["past"]]
    assert ends
    assert min(ends) >= state["at_s"] - 3 * 3600 - 60


def test_links_need_a_server_and_an_id():
    assert PrefectLinks().run("x") is None
    links = PrefectLinks(ui="http://p", deployments={"a/b": "1"})
    assert links.deployment("c/d") is None
    assert links.run(None) is None
    assert links.queue("etl#1", "a/b") == "http://p/work-pools/work-pool/etl%231/queue/a%2Fb"


def decision(at_s, outcome="unchanged", **more):
    record = {"at_s": at_s, "mode": "auto", "policy": "atc", "outcome": outcome, "applied": [], "planned": []}
    return {**record, "reasons": [], "queues": [], **more}


def test_decisions_that_change_nothing_are_folded():
    change = {"applied": [["q", "limit", 1, 2]], "outcome": "applied"}
    records = [decision(1), decision(2), decision(3, **change), decision(4), decision(5), decision(6, "failed")]
    rows = decision_rows(records)
    assert [(row["at_s"], row["since_s"], row["times"]) for row in rows] == [(6, 6, 1), (5, 4, 2), (3, 3, 1), (2, 1, 2)]
    assert len(decision_rows([decision(at, **change) for at in range(50)], 20)) == 20


def test_the_last_ended_runs_are_read_with_their_names(tmp_path):
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path}/h.db"))

    def fact(number, pool, deployment, ended_s):
        return RunFact(
            f"r{number}", f"run-{number}", pool, "q", deployment, None, None, "COMPLETED", None,
            1.0, 1.0, 2.0, ended_s, None, None, None, 1, None, None, None,
        )  # fmt: skip

    store.put(runs=[fact(1, "p", "a/x", 10.0), fact(2, "p", "b/x", 20.0), fact(3, "o", "a/x", 30.0)])
    assert [row["run_id"] for row in store.ended_runs(since_s=0.0)] == ["r3", "r2", "r1"]
    assert [row["run_id"] for row in store.ended_runs(since_s=0.0, pool="p", limit=1)] == ["r2"]
    (row,) = store.ended_runs(since_s=15.0, deployment="a/x")
    assert (row["name"], row["queue"], row["state"], row["due_s"]) == ("run-3", "q", "COMPLETED", None)
