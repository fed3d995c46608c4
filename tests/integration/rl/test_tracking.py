"""A training run in MLflow: all of it there, once, also when MLflow comes late, and never at the training's cost."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")

from prefect_intelligent.errors import InvalidInputError
from rl import tracking
from rl.tracking import EXPERIMENT, RunTracker, main, send


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts in the working directory
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def runs(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


def tell(tracker: RunTracker, folder: Path, steps: range) -> None:
    tracker.begin({"seed": 3, "steps": 100}, {"training workload": "abc"}, {"pi.retrain_id": "r1"})
    logger = tracker.logger()
    for step in steps:
        logger.record("progress/saved_percent", float(step))
        logger.record("train/approx_kl", float("nan"))
        logger.dump(step)
    (folder / "curves.png").write_bytes(b"picture")
    tracker.file(folder / "curves.png", "figures")


def test_parameters_curves_environment_data_and_figures_arrive_once(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    tracker = RunTracker(tmp_path / "ppo", uri)
    tell(tracker, tmp_path, range(4))
    assert tracker.end() == ""
    again = RunTracker(tmp_path / "ppo", uri)  # --resume
    tell(again, tmp_path, range(4, 6))
    assert again.end() == ""
    (run,) = runs(uri)
    assert run.info.run_name == "ppo"
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "3"
    assert "environment.torch" in run.data.params
    assert run.data.tags["pi.retrain_id"] == "r1"
    assert "mlflow.source.git.commit" in run.data.tags
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["training workload"]
    client = MlflowClient(tracking_uri=uri)
    points = client.get_metric_history(run.info.run_id, "progress/saved_percent")
    assert sorted((point.step, point.value) for point in points) == [(step, float(step)) for step in range(6)]
    assert "train/approx_kl" not in run.data.metrics
    assert [each.path for each in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curves.png"]


def test_without_mlflow_the_training_goes_on_and_the_run_is_completed_later(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:  # takes calls, answers none
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = RunTracker(tmp_path / "ppo", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.perf_counter()
        tell(tracker, tmp_path, range(50))
        told_s = time.perf_counter() - began
        assert tracker.end("FINISHED", wait_s=30) != ""
    assert told_s < 5  # none of the 52 calls has waited for an answer, whose time limit is 5 s
    assert main([str(tmp_path / "ppo"), "--tracking-uri", uri]) == 0
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["progress/saved_percent"] == 49
    assert run.data.params["seed"] == "3"
    assert send(tmp_path / "ppo" / "tracking", uri).sent == 0
    assert "0 wait" in capsys.readouterr().out


def test_an_error_of_mlflow_itself_does_not_reach_the_training(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug in MLflow")

    monkeypatch.setattr(tracking, "send", broken)
    tracker = RunTracker(tmp_path / "ppo", uri)
    tell(tracker, tmp_path, range(2))
    assert "a bug in MLflow" in tracker.end(wait_s=5)


def test_a_directory_that_was_never_tracked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"rl\.train"):
        send(tmp_path / "tracking", "sqlite://")
    assert main([str(tmp_path)]) == 2
