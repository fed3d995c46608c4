"""Blocks on a real server: their types are registered, and the settings that name one use it."""

import subprocess
import sys

import pytest

from prefect_intelligent import HistoryDatabase, MlflowServer
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.blocks import history_url, mlflow_uri
from prefect_intelligent.wiring.history import open_history

pytestmark = pytest.mark.server


def test_prefect_registers_them_by_the_name_of_the_package(prefect_server, api):
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "prefect_intelligent"]
    done = subprocess.run(command, env=prefect_server.env(), capture_output=True, text=True, check=True)
    assert "Successfully registered 2 blocks" in done.stdout
    for slug in ("intelligent-history", "intelligent-mlflow"):
        assert api.call("GET", f"/block_types/slug/{slug}")["slug"] == slug


def test_the_history_lies_where_the_block_says(prefect_api, tmp_path):
    HistoryDatabase(url=f"sqlite:///{tmp_path / 'of-the-block.db'}").save("prod", overwrite=True, _sync=True)
    settings = Settings(data_dir=tmp_path / "data", history_block="prod")
    open_history(settings).append("audit", "etl", 1.0, {"what": "x"})
    assert (tmp_path / "of-the-block.db").exists()
    assert not (tmp_path / "data").exists()
    with pytest.raises(InvalidInputError, match="history_block: got 'nobody'; the server has no block"):
        history_url(Settings(history_block="nobody"))


def test_mlflow_finds_its_credentials_where_it_looks_for_them(prefect_api, monkeypatch):
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    server = MlflowServer(tracking_uri="http://127.0.0.1:9", username="pi", password="secret")
    server.save("prod", overwrite=True, _sync=True)
    assert mlflow_uri(Settings(mlflow_block="prod")) == "http://127.0.0.1:9"
    import os

    assert [os.environ.pop(name) for name in names] == ["http://127.0.0.1:9", "pi", "secret"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:8")
    assert mlflow_uri(Settings(mlflow_block="nobody")) == "http://127.0.0.1:8"
