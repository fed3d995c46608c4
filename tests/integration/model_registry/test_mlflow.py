"""Policies in MLflow's registry: side by side in its page, and followed by controllers that never wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from benchmarks.browser import find_chromium, page
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.model_registry.adapters.mlflow import EXPERIMENT, CachedRegistry, PolicyRegistry, Scores
from prefect_intelligent.model_registry.promotion import CHAMPION
from prefect_intelligent.policy.bundle import MANIFEST
from rl.register import main, scores_of
from tests.bundles import random_bundle
from tests.real_prefect import free_port


def wait_for(holds: Callable[[], Any], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
        except OSError:
            return False

    try:
        wait_for(answers, 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def report(folder: Path, sha256: str, ratio: float) -> Path:
    """What rl.evaluate would have written about a bundle."""
    interval = {"value": ratio, "low": ratio - 0.01, "high": ratio + 0.01}
    groups = {"unseen": interval, "trace": interval}
    mean = {"cost_usd": 10 * ratio, "miss_rate": 0.1, "wait_p95_s": 60.0, "late_cvar95_s": 30.0}
    context = {
        "ours": "mine",
        "suite": "validation",
        "verdict": "no proven gain",
        "commit": "abc",
        "data_sha256": "0123456789abcdef",
        "weights_sha256": sha256,
        "best_rule": "edf+reactive+share",
        "groups": {"unseen": "unseen", "kth-small-0.7": "trace"},
        "means": {"unseen": {"mine": mean}, "kth-small-0.7": {"mine": mean}},
        "against": {"tuned": {"groups": groups}, "edf+reactive+share": {"groups": groups}},
    }
    folder.mkdir()
    path = folder / "report.json"
    path.write_text(json.dumps({"figures": {"ratio_vs_tuned": ratio}, "context": context}))
    return path


@pytest.mark.slow
def test_two_models_stand_side_by_side_in_the_page_of_mlflow(mlflow_server: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    name = "side-by-side"
    for number, ratio in ((1, 0.913), (2, 0.957)):
        bundle = random_bundle(tmp_path / f"b{number}", number)
        sha256 = json.loads((bundle / MANIFEST).read_text())["weights_sha256"]
        evaluated = report(tmp_path / f"r{number}", sha256, ratio)
        words = [str(bundle), "--report", str(evaluated), "--name", name, "--tracking-uri", mlflow_server]
        assert main([*words, "--alias", "challenger"]) == 0
    registry = PolicyRegistry(mlflow_server, name, tmp_path / "cache")
    assert registry.alias("challenger") == "2"
    listed = MlflowClient(tracking_uri=mlflow_server).get_model_version(name, "2")
    assert listed.description == "no proven gain on suite validation, commit abc; ratio_vs_tuned 0.957"
    assert listed.tags["ratio_vs_tuned"] == "0.957"
    assert main([str(tmp_path / "b1"), "--report", str(tmp_path / "r2/report.json"), "--name", name]) == 2

    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine")
    number = MlflowClient(tracking_uri=mlflow_server).get_experiment_by_name(EXPERIMENT).experiment_id
    with page(executable, viewport={"width": 2600, "height": 360}) as browser:
        browser.goto(f"{mlflow_server}/#/experiments/{number}/models?workflowType=machine_learning")
        # Columns out of sight are not drawn, so the window is wide.
        for text in (f"{name}-", "all workloads", "trace", "ratio_vs_tuned", "0.913", "0.957"):
            browser.get_by_text(text).first.wait_for(timeout=30_000)
        assert browser.get_by_text(f"{name}-").count() >= 2
        if picture := os.environ.get("PICTURES"):
            browser.get_by_role("button", name="Close").last.click()
            browser.screenshot(path=f"{picture}/mlflow-models.png")


def test_a_controller_follows_the_registry_without_waiting_and_without_needing_it(
    mlflow_server: str, tmp_path: Path
) -> None:
    registry = PolicyRegistry(mlflow_server, "followed", tmp_path / "writer")
    first, second = (registry.add(random_bundle(tmp_path / f"b{number}", number)) for number in (1, 2))
    registry.set_alias(CHAMPION, first, why="test", at_s=1.0)
    follower = CachedRegistry(mlflow_server, "followed", tmp_path / "reader", refresh_s=0.0)
    assert follower.alias(CHAMPION) is None  # it has only begun to ask
    wait_for(lambda: follower.alias(CHAMPION) == first)
    registry.set_alias(CHAMPION, second, why="test", at_s=2.0)
    wait_for(lambda: follower.alias(CHAMPION) == second)

    follower.wait()

    down = f"http://127.0.0.1:{free_port()}"
    started_later = CachedRegistry(down, "followed", tmp_path / "reader", refresh_s=0.0)
    assert started_later.alias(CHAMPION) == second
    assert (started_later.folder(second) / MANIFEST).exists()
    started_later.wait()


def test_weights_that_were_exchanged_in_the_registry_are_refused(mlflow_server: str, tmp_path: Path) -> None:
    registry = PolicyRegistry(mlflow_server, "exchanged", tmp_path / "cache")
    version = registry.add(random_bundle(tmp_path / "mine", 1))
    model = registry._version(version).source.removeprefix("models:/")
    for path in random_bundle(tmp_path / "other", 2).iterdir():
        registry._client.log_model_artifact(model, str(path))
    with pytest.raises(InvalidInputError, match="other weights"):
        registry.folder(version)


def test_scores_need_a_report() -> None:
    with pytest.raises(InvalidInputError, match=r"rl\.evaluate"):
        scores_of({"figures": {}})
    assert isinstance(Scores(data="", by_workload={}, overall={}), Scores)
