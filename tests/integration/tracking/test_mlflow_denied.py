"""An MLflow server that answers 401 or 403: every adapter names the credentials, and nothing is given up."""

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from prefect_intelligent.errors import StoreError, TrackerAccessDeniedError
from prefect_intelligent.forecasting.adapters.mlflow import register_forecaster
from prefect_intelligent.forecasting.evaluation import ForecasterEvaluation
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.model_registry.adapters.mlflow import CachedRegistry, PolicyRegistry
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.tracking.adapters.mlflow import MlflowTracker
from prefect_intelligent.tracking.outbox import Outbox
from prefect_intelligent.tracking.shipper import ship

SETTINGS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


@pytest.fixture(params=[401, 403])
def denying(request, monkeypatch):
    """Address of a server that denies everything, as MLflow's with authentication does."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(request.param)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        do_GET = do_POST = answer

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_shipper_keeps_what_it_may_not_send_and_refuses_nothing(denying, tmp_path):
    spool, outbox = Spool(tmp_path / "spool"), Outbox(tmp_path / "outbox.db")
    for number in range(5):
        spool.append("flow_run", {"pool": "p", "wait_s": float(number)})
    done = ship(spool, outbox, MlflowTracker(denying), ManualClock())
    assert (done.denied, done.sent, done.refused, done.status.waiting) == (True, 0, 0, 5)
    assert SETTINGS in done.problem


def test_the_registry_of_policies_names_the_settings_and_says_it_once(denying, tmp_path, caplog):
    with pytest.raises(StoreError, match=SETTINGS):
        PolicyRegistry(denying, "m", tmp_path / "a").alias("champion")
    follower = CachedRegistry(denying, "m", tmp_path / "b", refresh_s=0.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert follower.alias("champion") is None
            follower.wait()
    assert caplog.text.count(SETTINGS) == 1


def test_a_forecaster_is_not_registered(denying, tmp_path):
    none = np.empty((0, 3))
    appraisal = ForecasterEvaluation(figures={}, learning=none, calibration=none, roc=none, precision_recall=none)
    with pytest.raises(TrackerAccessDeniedError, match=SETTINGS):
        register_forecaster(denying, tmp_path, appraisal, {}, serves=True)
