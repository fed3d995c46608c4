"""MLflow through our adapter: what arrives, that twice is once, and how long a bad server can hold us up."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefect_intelligent.errors import TrackerError, TrackerUnavailableError
from prefect_intelligent.local.spool import Entry
from prefect_intelligent.tracking.adapters.mlflow import EXPERIMENT, KEY, MlflowTracker
from prefect_intelligent.tracking.metrics import MetricPoint
from prefect_intelligent.tracking.outbox import OutboxEvent

NOON_S = 1_767_268_800.0
BAD = MetricPoint(name="a//../b", value=1.0, at_s=NOON_S, step=1)


def events(count, stream="flow-runs/p/2026-01-01", **record):
    return tuple(
        OutboxEvent(
            entry=Entry(id=f"e{i}", at_s=NOON_S + i, kind=stream.split("-")[0], record={"pool": "p", "n": i, **record}),
            stream=stream,
            place=i + 1,
        )
        for i in range(count)
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts in the working directory
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def run_of(client, stream):
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{stream}'")
    return run


def test_a_stream_is_one_run_with_tags_and_a_point_for_every_event(uri, client):
    sent = events(50, policy="atc")
    tracker = MlflowTracker(uri)
    for _ in range(3):  # the same batch again, as after a crash
        tracker.log(sent)
    MlflowTracker(uri).log(sent[40:])  # another process
    run = run_of(client, "flow-runs/p/2026-01-01")
    assert run.info.run_name == "flow-runs p 2026-01-01"
    assert (run.data.tags["pi.kind"], run.data.tags["pi.pool"], run.data.tags["pi.policy"]) == ("flow-runs", "p", "atc")
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 49_000)  # MLflow shows 49 s
    points = client.get_metric_history(run.info.run_id, "n")
    assert [(p.step, p.value, p.timestamp) for p in points] == [
        (i + 1, float(i), round((NOON_S + i) * 1000)) for i in range(50)
    ]


def test_whole_records_are_kept_as_parquet_and_written_again_in_place(uri, client):
    import pyarrow.parquet as pq

    sent = events(5, "quality/a/2026-01-02", text="plain")
    tracker = MlflowTracker(uri)
    for _ in range(2):
        tracker.archive(sent)
    run = run_of(client, "quality/a/2026-01-02")
    (file,) = client.list_artifacts(run.info.run_id, "records")
    table = pq.read_table(client.download_artifacts(run.info.run_id, file.path))
    assert table.column("event_id").to_pylist() == [f"e{i}" for i in range(5)]
    assert json.loads(table.column("record")[0].as_py())["text"] == "plain"


def test_quality_runs_name_their_dataset_as_an_input(uri, client):
    MlflowTracker(uri).log(events(1, "quality/ds.main.t/2026-01-03", dataset="ds/main/t", first={"contract": "abc"}))
    run = run_of(client, "quality/ds.main.t/2026-01-03")
    assert [d.dataset.name for d in run.inputs.dataset_inputs] == ["ds/main/t"]


def test_flow_runs_name_what_they_read_and_wrote(uri, client):
    sent = events(2, "flow_run-p/p/2026-01-06", inputs=["raw"], outputs=["clean"])
    for _ in range(2):  # twice is as good as once
        MlflowTracker(uri).log(sent)
    linked = run_of(client, "flow_run-p/p/2026-01-06").inputs.dataset_inputs
    uses = {found.dataset.name: found.tags[0].value for found in linked}
    assert uses == {"raw": "read", "clean": "written"}
    assert len(linked) == 2


def test_a_policy_is_one_model_and_the_runs_it_decided_lead_to_it(uri, client):
    for day in ("2026-01-07", "2026-01-08"):
        sent = [
            replace(event, entry=replace(event.entry, kind="decision"))
            for event in events(3, f"decisions/p/{day}", policy="champion 1.2/x", queues=[])
        ]
        for _ in range(2):
            MlflowTracker(uri).log(sent)
    runs = [run_of(client, f"decisions/p/{day}") for day in ("2026-01-07", "2026-01-08")]
    inputs = [client.get_run(run.info.run_id).inputs for run in runs]
    linked = [[each.model_id for each in found.model_inputs] for found in inputs]
    assert linked[0] == linked[1]
    (number,) = linked[0]
    model = client.get_logged_model(number)
    assert (model.tags["pi.policy"], str(model.status)) == ("champion 1.2/x", "READY")


def test_a_server_that_knows_no_models_takes_the_numbers_all_the_same(uri, client, monkeypatch):
    from mlflow.exceptions import MlflowException

    def old(*_args, **_more):
        raise MlflowException("no such endpoint", error_code=5)

    monkeypatch.setattr("mlflow.MlflowClient.log_inputs", old)
    MlflowTracker(uri).log(events(3, "news/p/2026-01-09", inputs=["raw"]))
    assert run_of(client, "news/p/2026-01-09").data.metrics["n"] == 2.0


def test_a_run_that_somebody_deleted_is_made_again(uri, client):
    tracker = MlflowTracker(uri)
    tracker.log(events(1, "news/p/2026-01-04"))
    client.delete_run(run_of(client, "news/p/2026-01-04").info.run_id)
    tracker.log(events(2, "news/p/2026-01-04"))
    assert run_of(client, "news/p/2026-01-04").data.metrics["n"] == 1.0


def test_a_record_that_mlflow_cannot_take_is_refused_for_good(uri, client, monkeypatch):
    tracker = MlflowTracker(uri)
    monkeypatch.setattr("prefect_intelligent.tracking.adapters.mlflow.metric_points", lambda sent: [BAD])
    with pytest.raises(TrackerError) as caught:
        tracker.log(events(1, "news/p/2026-01-05"))
    assert not isinstance(caught.value, TrackerUnavailableError)


@contextlib.contextmanager
def bad_server(kind):
    """A server that refuses, is silent, or answers 503."""
    if kind == "503":

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                self.send_response(503)
                self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *_):
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "silent":
            listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refused", "silent", "503"])
def test_a_bad_server_is_given_up_within_seconds_not_minutes(kind, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with bad_server(kind) as uri:
        began = time.monotonic()
        with pytest.raises(TrackerUnavailableError, match="MLflow"):
            MlflowTracker(uri).log(events(3))
        assert time.monotonic() - began < 60  # the client's own default is 246 s to 1200 s
