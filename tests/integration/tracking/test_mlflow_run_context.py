"""MLflow runs that a user's flow starts carry the flow run."""

import os
import sys

import pytest

pytest.importorskip("mlflow", reason="needs the extra tracking")

import mlflow
from mlflow.tracking.context import registry
from prefect import flow, task

from prefect_intelligent.tracking.adapters.mlflow_run_context import PrefectRunContext

pytestmark = pytest.mark.server


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    """MLflow on a file, with our provider also where the package is not installed."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    known = registry._run_context_provider_registry
    monkeypatch.setattr(known, "_registry", [p for p in known._registry if type(p) is not PrefectRunContext])
    known.register(PrefectRunContext)
    yield
    mlflow.set_tracking_uri(None)


def own_tags(run):
    return {name: value for name, value in run.data.tags.items() if name.startswith("prefect.")}


@flow
def trains():
    @task
    def fit():
        with mlflow.start_run(nested=True) as run:
            return run.info.run_id

    with mlflow.start_run() as run:
        return run.info.run_id, fit()


def test_the_tags_say_which_flow_run_it_was(api, prefect_api, tracked, monkeypatch):
    monkeypatch.setenv("PREFECT__DEPLOYMENT_NAME", "nightly")
    state = trains(return_state=True)
    of_flow, of_task = state.result()
    tags = own_tags(mlflow.get_run(of_flow))
    run = api.read_run(str(state.state_details.flow_run_id))
    assert tags == {
        "prefect.flow_run_id": run["id"],
        "prefect.flow_run_name": run["name"],
        "prefect.flow": "trains",
        "prefect.deployment": "trains/nightly",
    }
    assert own_tags(mlflow.get_run(of_task))["prefect.flow_run_id"] == run["id"]


def test_outside_a_flow_there_are_none(tracked):
    with mlflow.start_run() as run:
        pass
    assert own_tags(mlflow.get_run(run.info.run_id)) == {}


def test_where_prefect_is_not_imported_it_stays_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "prefect.context")
    assert not PrefectRunContext().in_context()
    assert "prefect.context" not in sys.modules


def test_what_goes_wrong_is_no_failure_of_the_run(monkeypatch):
    class Broken:
        class FlowRunContext:
            @staticmethod
            def get():
                raise RuntimeError("of another version")

    monkeypatch.setitem(sys.modules, "prefect.context", Broken)
    assert not PrefectRunContext().in_context()
    assert PrefectRunContext().tags() == {}
    assert "PREFECT__FLOW_RUN_ID" not in os.environ
