"""Logs streams of events to MLflow: one run per stream, metrics over time, whole records as Parquet files.

A run is linked to the datasets that its records name and to the policies that decided (as logged models), so that
MLflow's pages of models and datasets lead to the runs.

MLflow's client waits minutes for a server that is down. Here it tries once and fails after a few seconds; the shipper
tries again later. The server keys metrics by (name, time, step, value), and the step of an event is its number in its
stream, so a batch that is sent twice is stored once.
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

from prefect_intelligent.errors import (
    MissingExtraError,
    TrackerAccessDeniedError,
    TrackerError,
    TrackerUnavailableError,
)
from prefect_intelligent.tracking.metrics import clean_name, deciding_policy, metric_points, record_datasets
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
        experiment: Name of the experiment; created if it is missing.
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

    def log(self, events: Sequence[OutboxEvent]) -> None:
        """Send the metrics of events of one stream; see `Tracker.log`."""
        from mlflow.entities import Metric

        metrics = [Metric(p.name, p.value, round(p.at_s * 1000), p.step) for p in metric_points(events)]

        def send(run: str) -> None:
            # A server without logged models (MLflow 2) still takes the metrics.
            with contextlib.suppress(TrackerError, _GoneError):
                _translate_errors(lambda: self._link(run, events))
            for start in range(0, len(metrics), _METRICS_PER_CALL):
                self._client.log_batch(run, metrics=metrics[start : start + _METRICS_PER_CALL])
            # MLflow shows how long a run took once it has an end; more can be logged to it after that.
            self._client.set_terminated(run, end_time=round(max(e.entry.at_s for e in events) * 1000))

        self._in_run(events[0], send)

    def archive(self, events: Sequence[OutboxEvent]) -> None:
        """Write `records/<first>-<last>.parquet` into the run of the stream; see `Tracker.archive`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "place": [e.place for e in events],
                "at": pa.array([datetime.fromtimestamp(e.entry.at_s, UTC) for e in events]),
                "kind": [e.entry.kind for e in events],
                "event_id": [e.entry.id for e in events],
                "record": [json.dumps(dict(e.entry.record)) for e in events],
            }
        )

        def send(run: str) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{events[0].place:09d}-{events[-1].place:09d}.parquet"
                pq.write_table(table, path)
                self._client.log_artifact(run, str(path), "records")

        self._in_run(events[0], send)

    def _in_run(self, first: OutboxEvent, send: Callable[[str], None]) -> None:
        """Call `send` with the id of the stream's run; a run that was deleted is created again."""
        for attempt in range(2):
            try:
                if self._client is None:
                    self._client = _translate_errors(self._make)
                _translate_errors(lambda: send(self._run(first)))
                return
            except _GoneError as exc:
                self._runs.pop(first.stream, None)
                if attempt:
                    raise TrackerError(str(exc)) from exc

    def _run(self, first: OutboxEvent) -> str:
        """Id of the stream's run: remembered, found by its tag, or of a new run."""
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

    def _link(self, run: str, events: Sequence[OutboxEvent]) -> None:
        """Log the datasets and policies of these records as inputs of the run; MLflow stores each link once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        datasets = dict.fromkeys(found for event in events for found in record_datasets(event.entry))
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
        for policy in dict.fromkeys(deciding_policy(event.entry) for event in events):
            if policy is not None and (run, policy) not in self._linked:
                self._client.log_inputs(run, models=[LoggedModelInput(self._model(policy))])
                self._linked.add((run, policy))

    def _model(self, policy: str) -> str:
        """Id of the logged model for a policy; created if the experiment has none."""
        experiment = self._client.get_experiment_by_name(self.experiment).experiment_id
        name = _MODEL_NAME.sub("-", clean_name(policy))
        found = self._client.search_logged_models([experiment], f"name = '{name}'", max_results=1)
        if found:
            return str(found[0].model_id)
        made = self._client.create_logged_model(experiment, name, tags={"pi.policy": policy}, model_type="policy")
        self._client.finalize_logged_model(made.model_id, "READY")
        return str(made.model_id)


class _GoneError(Exception):
    """The run or experiment does not exist, or was deleted."""


def _translate_errors(call: Callable[[], T]) -> T:
    """Call it, and raise our errors in place of MLflow's."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return call()
    except MlflowException as exc:
        status = int(exc.get_http_status_code())  # type: ignore[no-untyped-call, unused-ignore]
        text = str(exc).splitlines()[0][:300]
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in text:
            raise _GoneError(text) from exc
        if status in (401, 403):
            raise TrackerAccessDeniedError(f"MLflow: {text}") from exc
        if status >= 500 or status in (408, 429):
            raise TrackerUnavailableError(f"MLflow: {text}") from exc
        raise TrackerError(f"MLflow: {text}") from exc
    except (SQLAlchemyError, OSError) as exc:  # an error of `requests` is an OSError
        raise TrackerUnavailableError(f"MLflow: {str(exc).splitlines()[0][:300]}") from exc
