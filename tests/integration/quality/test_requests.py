"""A run with a contract asks for a check by hook; the shipper's process does it and tells of it."""

import json

import pandas as pd
import pytest
from prefect import flow

from flows.ship_records import ship_records
from prefect_intelligent import intelligent
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.settings import load_settings
from prefect_intelligent.wiring.tracking import open_shipper

pytestmark = pytest.mark.server
CONTRACT = """
dataset: ds/main/orders
columns:
  - name: order_id
    checks: [{missing: {}}]
"""


@pytest.fixture
def home(tmp_path, monkeypatch, prefect_api):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.yml").write_text(CONTRACT)
    return tmp_path


def run_with(rows, outputs=("orders.parquet",)):
    @intelligent(contract="orders.yml", outputs=list(outputs))
    @flow
    def write_orders():
        pd.DataFrame({"order_id": rows}).to_parquet("orders.parquet")

    return write_orders(return_state=True)


def results(home):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'm.db'}")
    experiment = client.get_experiment_by_name("prefect-intelligent")
    runs = client.search_runs([experiment.experiment_id], "tags.`pi.kind` = 'quality'")
    return [run.data.metrics for run in runs]


def test_a_completed_run_is_checked_once_after_it_has_ended(home, api):
    state = run_with([1.0, None, *range(2, 60)], outputs=("report.csv", "orders.parquet"))
    assert state.is_completed()
    run_id = str(state.state_details.flow_run_id)
    wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    assert api.call("POST", "/artifacts/filter", wanted) == []  # the flow's own process makes none
    uri = f"sqlite:///{home / 'm.db'}"
    done = ship_records(uri)
    assert (done["checks"], done["problem"]) == (1, "")
    assert len(pd.read_parquet("orders.parquet")) == 59
    (numbers,) = results(home)
    assert (numbers["usable"], numbers["quarantined"], numbers["rows_tested"]) == (1.0, 1.0, 60.0)
    assert ship_records(uri)["checks"] == 0
    found = {artifact["key"]: artifact for artifact in api.call("POST", "/artifacts/filter", wanted)}
    assert set(found) == {"quality-ds-main-orders", "quality-ds-main-orders-link"}
    (row,) = json.loads(found["quality-ds-main-orders"]["data"])
    assert (row["outcome"], row["rows failed"], row["after"]) == ("failed", 1, "passed")


def test_a_request_that_cannot_be_done_is_set_aside_with_its_reason(home):
    run_with([1.0], outputs=["orders"])
    shipper = open_shipper(load_settings().settings, uri=f"sqlite:///{home / 'm.db'}")
    done = shipper.once()
    assert (done.checks, done.status.refused, done.problem) == (0, 1, "")
    assert Spool(home / "home" / "spool").segments() == ()
