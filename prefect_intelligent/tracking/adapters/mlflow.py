"""Logs streams of events to MLflow: one run per stream, numbers as metrics over time, whole records as Parquet files.

A run is linked to what its records name: datasets checked, read and written, and the policy that decided, as a logged
model, so that MLflow's pages of models and datasets lead to the runs.

MLflow's client waits minutes for a server that is down. Here it tries once and gives up after a few seconds; whoever
calls tries again later. Metrics are keyed by (name, time, step, value) on the server, and the step of an event is its
place in its stream, so a batch that is sent twice is there once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from prefect_intelligent.errors import MissingExtraError, TrackerError, TrackerUnavailableError
from prefect_intelligent.tracking.metrics import clean_name, datasets_of, metric_points, model_of
from prefect_intelligent.tracking.outbox import OutboxEvent

EXPERIMENT = "prefect-intelligent"
KEY = "pi.stream"
_METRICS_PER_CALL = 1000
_TIMEOUT_S = "5"
_LONGEST_DATASET = 500
_MODEL_NAME = re.compile(r"[/:.%]")

T = TypeVar("T")


class MlflowTracker:
    """`Tracker` on an MLflow server, or on a database that MLflow can use.

    Args:
        uri: Tracking URI, e.g. "http://127.0.0.1:5000" or "sqlite:///mlflow.db".
        experiment: Name of the experiment; made if it is missing.
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
        try:
            from mlflow import MlflowClient
        except ImportError as exc:
            raise MissingExtraError("tracking with MLflow", "tracking") from exc
        self.uri, self.experiment = uri, experiment
        self._make = lambda: MlflowClient(tracking_uri=uri)
        self._client: Any = None
        self._runs: dict[str, str] = {}
        self._linked: set[tuple[str, ...]] = set()

    def log(self, parcels: Sequence[OutboxEvent]) -> None:
        """Send the numbers of the parcels of one stream; see `Tracker.log`."""
        from mlflow.entities import Metric

        metrics = [Metric(p.name, p.value, round(p.at_s * 1000), p.place) for p in metric_points(parcels)]

        def send(run: str) -> None:
            # A server that knows no models (MLflow 2) takes the numbers all the same.
            with contextlib.suppress(TrackerError, _GoneError):
                _translated(lambda: self._link(run, parcels))
            for start in range(0, len(metrics), _METRICS_PER_CALL):
                self._client.log_batch(run, metrics=metrics[start : start + _METRICS_PER_CALL])

        self._in_run(parcels[0], send)

    def archive(self, parcels: Sequence[OutboxEvent]) -> None:
        """Write `records/<first>-<last>.parquet` into the run of the stream; see `Tracker.archive`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "place": [p.place for p in parcels],
                "at": pa.array([datetime.fromtimestamp(p.entry.at_s, UTC) for p in parcels]),
                "kind": [p.entry.kind for p in parcels],
                "event_id": [p.entry.id for p in parcels],
                "record": [json.dumps(dict(p.entry.record)) for p in parcels],
            }
        )

        def send(run: str) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{parcels[0].place:09d}-{parcels[-1].place:09d}.parquet"
                pq.write_table(table, path)
                self._client.log_artifact(run, str(path), "records")

        self._in_run(parcels[0], send)

    def _in_run(self, first: OutboxEvent, send: Callable[[str], None]) -> None:
        """Do something in the run of a stream; one that has been deleted is made again."""
        for attempt in range(2):
            try:
                if self._client is None:
                    self._client = _translated(self._make)
                _translated(lambda: send(self._run(first)))
                return
            except _GoneError as exc:
                self._runs.pop(first.stream, None)
                if attempt:
                    raise TrackerError(str(exc)) from exc

    def _run(self, first: OutboxEvent) -> str:
        """Id of the stream's run: known, found by its tag, or made."""
        stream = first.stream
        if stream not in self._runs:
            experiment = self._client.get_experiment_by_name(self.experiment)
            if experiment is None:
                number = self._client.create_experiment(self.experiment, tags={"mlflow.experimentKind": "custom_model"})
            else:
                number = experiment.experiment_id
            found = self._client.search_runs([number], f"tags.`{KEY}` = '{stream}'", max_results=1)
            self._runs[stream] = found[0].info.run_id if found else self._new_run(number, first)
        return self._runs[stream]

    def _new_run(self, experiment: str, first: OutboxEvent) -> str:
        kind, owner, day = first.stream.split("/")
        tags = {KEY: first.stream, "pi.kind": kind, "pi.owner": owner, "pi.day": day}
        record = first.entry.record
        tags |= {f"pi.{name}": str(record[name]) for name in ("pool", "dataset", "policy", "rule") if record.get(name)}
        run = self._client.create_run(
            experiment, start_time=round(first.entry.at_s * 1000), run_name=f"{kind} {owner} {day}", tags=tags
        )
        return str(run.info.run_id)

    def _link(self, run: str, parcels: Sequence[OutboxEvent]) -> None:
        """Name the datasets and the policies of these records as inputs of the run; MLflow keeps each link once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        datasets = dict.fromkeys(found for parcel in parcels for found in datasets_of(parcel.entry))
        new = [found for found in datasets if (run, *found) not in self._linked]
        if new:
            inputs = [
                DatasetInput(
                    dataset=Dataset(
                        name=name[:_LONGEST_DATASET],
                        digest=contract or "-",
                        source_type="local",
                        source=json.dumps({"dataset": name, "contract": contract}),
                    ),
                    tags=[InputTag("mlflow.data.context", use)],
                )
                for name, contract, use in new
            ]
            self._client.log_inputs(run, datasets=inputs)
            self._linked.update((run, *found) for found in new)
        for policy in dict.fromkeys(model_of(parcel.entry) for parcel in parcels):
            if policy is not None and (run, policy) not in self._linked:
                self._client.log_inputs(run, models=[LoggedModelInput(self._model(policy))])
                self._linked.add((run, policy))

    def _model(self, policy: str) -> str:
        """Id of the logged model that stands for a policy; made if the experiment has none."""
        experiment = self._client.get_experiment_by_name(self.experiment).experiment_id
        name = _MODEL_NAME.sub("-", clean_name(policy))
        found = self._client.search_logged_models([experiment], f"name = '{name}'", max_results=1)
        if found:
            return str(found[0].model_id)
        made = self._client.create_logged_model(experiment, name, tags={"pi.policy": policy}, model_type="policy")
        self._client.finalize_logged_model(made.model_id, "READY")
        return str(made.model_id)


class _GoneError(Exception):
    """The run or experiment is not there (any more)."""


def _translated(call: Callable[[], T]) -> T:
    """MLflow's errors in our words."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return call()
    except MlflowException as exc:
        status = int(exc.get_http_status_code())  # type: ignore[no-untyped-call, unused-ignore]
        text = str(exc).splitlines()[0][:300]
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in text:
            raise _GoneError(text) from exc
        if status >= 500 or status in (401, 403, 408, 429):
            raise TrackerUnavailableError(f"MLflow: {text}") from exc
        raise TrackerError(f"MLflow: {text}") from exc
    except (SQLAlchemyError, OSError) as exc:  # an error of `requests` is an OSError
        raise TrackerUnavailableError(f"MLflow: {str(exc).splitlines()[0][:300]}") from exc
