"""Record a training run in MLflow: parameters, curves, environment, git commit, data fingerprint, figures.

Records are appended to a spool in the run's directory and sent by a background thread, so the training neither waits
for MLflow nor fails with it. What could not be sent is sent later:

    python -m rl.tracking RUN_DIRECTORY [--tracking-uri URI]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from stable_baselines3.common.logger import KVWriter, Logger

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.policy.bundle import MANIFEST, WEIGHTS
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.tracking.outbox import Outbox, OutboxEvent
from prefect_intelligent.tracking.shipper import Shipment, ship
from prefect_intelligent.wiring.tracking import MlflowTracker
from rl.figures import draw_curves
from rl.provenance import commit

EXPERIMENT: Final = "prefect-intelligent-training"
_FOLDER: Final = "tracking"
_KIND: Final = "training"
_PACKAGES: Final = ("torch", "stable-baselines3", "gymnasium", "numpy", "numba", "prefect-intelligent")
_LONGEST_PARAMETER: Final = 500
_LAST_PASS_S: Final = 60.0


class TrainingTracker(MlflowTracker):
    """Sends the records of a training run; sending a batch twice has the effect of sending it once."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, EXPERIMENT)

    def log(self, events: Sequence[OutboxEvent]) -> None:
        """Send records of one run; see `Tracker.log`."""
        self._in_run(events[0], lambda run: self._send(run, events))

    def archive(self, events: Sequence[OutboxEvent]) -> None:
        """Nothing: the directory of the run holds everything."""

    def _send(self, run: str, events: Sequence[OutboxEvent]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Metric] = []
        for event in events:
            record, at_ms = event.entry.record, round(event.entry.at_s * 1000)
            match record["what"]:
                case "begin":
                    known = self._client.get_run(run).data.params
                    params = [Param(k, v) for k, v in record["parameters"].items() if k not in known]
                    tags = [RunTag(k, v) for k, v in record["tags"].items()]
                    self._client.log_batch(run, params=params, tags=tags)
                    self._client.update_run(run, status="RUNNING")
                    self._link_data(run, record["datasets"])
                case "values":
                    metrics += [Metric(k, v, at_ms, record["step"]) for k, v in record["values"].items()]
                case "file":
                    if Path(record["path"]).exists():
                        self._client.log_artifact(run, record["path"], record["folder"])
                case "end":
                    self._client.set_terminated(run, record["status"], at_ms)
        if metrics:
            self._client.log_batch(run, metrics=metrics)

    def _link_data(self, run: str, datasets: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        found = [
            DatasetInput(
                dataset=Dataset(name=name, digest=digest, source_type="local", source=json.dumps({"workload": name})),
                tags=[InputTag("mlflow.data.context", "training")],
            )
            for name, digest in datasets.items()
        ]
        self._client.log_inputs(run, datasets=found)

    def _new_run(self, experiment: str, first: OutboxEvent) -> str:
        name = first.stream.split("/")[1]
        tags = {"pi.stream": first.stream, "pi.kind": _KIND}
        run = self._client.create_run(
            experiment, start_time=round(first.entry.at_s * 1000), run_name=name.rsplit("-", 1)[0], tags=tags
        )
        return str(run.info.run_id)


class RunTracker:
    """Records a training run. No method raises because of MLflow, and only `end` waits for it.

    Args:
        folder: The run's directory.
        uri: MLflow's tracking URI.
        name: Of the run; the directory's name if None.
    """

    def __init__(self, folder: Path, uri: str, name: str | None = None) -> None:
        self.folder, self.uri = folder / _FOLDER, uri
        self.stream = _stream(self.folder, name or folder.name)
        self._spool = Spool(self.folder / "spool")
        self._shipping: threading.Thread | None = None
        self._problem = ""

    def begin(self, parameters: Mapping[str, Any], datasets: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Record that the run begins, or is resumed.

        Args:
            parameters: Its settings.
            datasets: Name of each workload to a fingerprint of its data.
            tags: Tags of the MLflow run.
        """
        known = {f"environment.{name}": found for name in _PACKAGES if (found := _version(name)) is not None}
        known |= {"environment.python": platform.python_version(), "environment.machine": platform.machine()}
        texts = {name: str(value)[:_LONGEST_PARAMETER] for name, value in {**parameters, **known}.items()}
        tags = {"mlflow.source.git.commit": commit(), "mlflow.source.name": " ".join(sys.argv[:1]), **tags}
        self._append({"what": "begin", "parameters": texts, "datasets": dict(datasets), "tags": tags})

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Record the finite ones of the figures of a step."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._append({"what": "values", "step": step, "values": finite})

    def file(self, path: Path, folder: str | None = None) -> None:
        """Record a file, which is read when it is sent."""
        self._append({"what": "file", "path": str(path.resolve()), "folder": folder})

    def end(self, status: str = "FINISHED", *, wait_s: float = _LAST_PASS_S) -> str:
        """Record the end of the run and wait for MLflow.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".
            wait_s: How long to wait at most.

        Returns:
            Why records could not be sent yet; empty if all were.
        """
        self._append({"what": "end", "status": status})
        deadline = time.monotonic() + wait_s
        if self._shipping is not None:
            self._shipping.join(wait_s)  # a pass that began before the end was recorded may not have sent it
        self._ship()
        assert self._shipping is not None
        self._shipping.join(max(0.0, deadline - time.monotonic()))
        return "sending to MLflow has not ended" if self._shipping.is_alive() else self._problem

    def logger(self) -> Logger:
        """A logger for stable-baselines3; every dump is recorded."""
        return Logger(folder=None, output_formats=[_Output(self)])

    def _append(self, record: dict[str, Any]) -> None:
        try:
            self._spool.append(_KIND, record, event_id=uuid.uuid4().hex, at_s=time.time())
        except PrefectIntelligentError as error:
            print(f"tracking: {error}", file=sys.stderr)
            return
        if record["what"] != "end":
            self._ship()

    def _ship(self) -> None:
        """Start to send the spool, unless that is going on already."""
        if self._shipping is None or not self._shipping.is_alive():
            self._shipping = threading.Thread(target=self._send, daemon=True)
            self._shipping.start()

    def _send(self) -> None:
        try:
            self._problem = send(self.folder, self.uri).problem
        except Exception as error:  # the training goes on whatever MLflow does
            self._problem = f"{type(error).__name__}: {error}"


class _Output(KVWriter):
    """Output format for the logger of stable-baselines3."""

    def __init__(self, tracker: RunTracker) -> None:
        self._tracker = tracker

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Record one dump."""
        numbers = {key: value for key, value in key_values.items() if isinstance(value, int | float)}
        self._tracker.values(step, numbers)

    def close(self) -> None:
        """Nothing is open."""


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Add the options of tracking to a command line."""
    parser.add_argument("--tracking-uri", help="MLflow (default: MLFLOW_TRACKING_URI, else the data folder's)")
    parser.add_argument("--no-track", action="store_true", help="do not track in MLflow")
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="tag of the MLflow run")


@contextmanager
def tracked(config: Any, workload: Any, args: argparse.Namespace) -> Iterator[RunTracker | None]:
    """Track a training as the command line says; its end is recorded even if it fails or is interrupted.

    Args:
        config: The training's configuration, a dataclass with `out`.
        workload: What it trains on; its repr is the fingerprint of the data.
        args: Options of `add_tracking`.
    """
    if args.no_track:
        yield None
        return
    tags = dict(tag.partition("=")[::2] for tag in args.tag)
    tracker = RunTracker(Path(config.out), args.tracking_uri or default_uri())
    digest = hashlib.sha256(repr(workload).encode()).hexdigest()[:32]
    tracker.begin(asdict(config), {"training workload": digest}, tags)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        problem = tracker.end(status)
        if problem:
            again = f"python -m rl.tracking {config.out}"
            print(f"MLflow at {tracker.uri} lacks a part of this run ({problem}); `{again}` sends it", file=sys.stderr)


def keep_results(tracker: RunTracker, found: Mapping[str, Any]) -> None:
    """Record the best bundle of a training and a picture of its curves."""
    best = Path(found["best"])
    for name in (MANIFEST, WEIGHTS):
        tracker.file(best / name, "best")
    tracker.file(draw_curves(found["progress"], best.parent / "curves.png"), "figures")


def send(folder: Path, uri: str) -> Shipment:
    """Send the unsent records of a run's tracking folder; safe to repeat and to interrupt."""
    stream = _stream(folder, None)
    outbox = Outbox(folder / "outbox.db")
    try:
        return ship(Spool(folder / "spool"), outbox, TrainingTracker(uri), SystemClock(), stream_of=lambda _: stream)
    finally:
        outbox.close()


def default_uri() -> str:
    """The tracking URI that `prefect-intelligent ship` sends to."""
    from prefect_intelligent.settings import load_settings

    return load_settings().settings.mlflow_uri


def _stream(folder: Path, name: str | None) -> str:
    """Name of the run's stream of records; kept in its folder, so that a resumed training continues its MLflow run."""
    path = folder / "stream"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    if name is None:
        raise InvalidInputError("run", str(folder.parent), f"has no {_FOLDER} folder; name a directory of rl.train")
    folder.mkdir(parents=True, exist_ok=True)
    stream = f"{_KIND}/{name.replace('/', '-')}-{uuid.uuid4().hex[:8]}/run"
    path.write_text(stream + "\n", encoding="utf-8")
    return stream


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.tracking`."""
    parser = argparse.ArgumentParser(
        prog="python -m rl.tracking", description="Send the records that a training could not send."
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("--tracking-uri", help="MLflow (default: MLFLOW_TRACKING_URI, else the data folder's)")
    args = parser.parse_args(argv)
    try:
        done = send(args.run / _FOLDER, args.tracking_uri or default_uri())
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{done.sent} records sent, {done.status.waiting} wait" + (f": {done.problem}" if done.problem else ""))
    return 1 if done.problem else 0


if __name__ == "__main__":
    sys.exit(main())
