"""Training from the command line: figures, MLflow with curves and alias, drift, and nothing half-written."""

import json
import time

import numpy as np
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact


@pytest.fixture
def history(monkeypatch, tmp_path):
    url = f"sqlite:///{tmp_path}/h.db"
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return SqlRuns(open_engine(url))


def put(history, first, count, failing):
    rng = np.random.default_rng(first)
    start = time.time() - 20 * 86400.0
    facts = []
    for row in range(first, first + count):
        at, failed = start + row * 1200.0, bool(rng.random() < failing)
        facts.append(
            RunFact(
                f"r{row}", None, "main", "q", f"etl/{row % 3}", "v1", None, "FAILED" if failed else "COMPLETED", None,
                at, at, at + 5, at + 60 + 30 * (row % 3), None, None, None, 1, None, 1.0, None,
            )
        )  # fmt: skip
    history.put(runs=facts)


def test_trained_logged_registered_and_checked_for_drift(history, tmp_path, capsys):
    from mlflow import MlflowClient

    put(history, 0, 20, 0.2)
    assert main(["predict", "train"]) == 2
    assert "not enough data" in capsys.readouterr().err
    assert main(["predict", "drift"]) == 2
    assert not (tmp_path / "data" / "forecaster").exists()
    put(history, 20, 600, 0.2)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert main(["predict", "train", "--track", uri, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["serves"], facts["alias"], facts["version"]) == (True, "champion", "1")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    version = client.get_model_version_by_alias("prefect-intelligent-forecaster", "champion")
    assert version.run_id == facts["run_id"]
    run = client.get_run(facts["run_id"])
    assert run.data.metrics["brier"] == pytest.approx(facts["figures"]["brier"])
    assert len(client.get_metric_history(facts["run_id"], "log_loss/test")) > 5
    assert len(client.get_metric_history(facts["run_id"], "calibration/seen")) == 10
    files = {item.path for folder in ("forecaster", "plots") for item in client.list_artifacts(facts["run_id"], folder)}
    assert files == {"forecaster/forecaster.json", "forecaster/forecaster.npz", "plots/forecaster.png"}
    assert main(["predict", "drift"]) == 0
    assert "not enough data: 0 runs" in capsys.readouterr().out
    put(history, 620, 300, 0.9)
    assert main(["predict", "drift", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["retrain"] is True


def test_an_mlflow_that_is_away_leaves_the_old_forecaster(history, tmp_path, capsys):
    put(history, 0, 600, 0.2)
    assert main(["predict", "train", "--track", "http://127.0.0.1:9"]) == 3
    assert "MLflow" in capsys.readouterr().err
    assert not (tmp_path / "data" / "forecaster").exists()


def test_the_flow_trains_only_when_it_is_due(history, prefect_api, capsys):
    from flows.retrain_forecaster import retrain

    put(history, 0, 600, 0.2)
    first = retrain(track=False)
    assert first["trained"]
    assert first["facts"]["serves"]
    second = retrain(track=False)
    assert not second["trained"]
    assert "not enough data" in second["reasons"][0]
