"""The policy store in MLflow's model registry: one model version per bundle, and MLflow's own aliases.

A version is a logged model whose artifacts are the bundle's two files; none of it is ever executed. Its metrics are
logged per workload, so that MLflow's page of models shows versions side by side. Every move of an alias is stored, with
instant and reason, in tags of the registered model. An alias that a person moves on MLflow's page counts as moved.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from prefect_intelligent.errors import (
    InvalidInputError,
    MissingExtraError,
    StoreError,
    TrackerAccessDeniedError,
    UnknownNameError,
)
from prefect_intelligent.policy.bundle import MANIFEST, WEIGHTS, read_bundle

EXPERIMENT: Final = "prefect-intelligent-policies"
SHA256: Final = "pi.weights_sha256"
MODEL_TYPE: Final = "prefect-intelligent-policy"
_LOG: Final = "pi.alias"
_LOGGER = logging.getLogger(__name__)
_TIMEOUT_S: Final = "5"
_SQLITE: Final = "sqlite:///"
_LONGEST_TAG: Final = 4000
_LONGEST_PARAMETER: Final = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Evaluation of a version, for MLflow's page of models.

    Attributes:
        data: Digest of the data, the same for all versions that were compared on it.
        by_workload: Workload to figures by name.
        overall: Figures over all workloads.
        text: The result in words.
        files: Reports and pictures to store with the version.
    """

    data: str
    by_workload: Mapping[str, Mapping[str, float]]
    overall: Mapping[str, float]
    text: str = ""
    files: Sequence[Path] = field(default_factory=tuple)


class PolicyRegistry:
    """A `PolicyStore` in MLflow.

    Args:
        uri: Tracking URI of MLflow.
        model: Name of the registered model.
        cache: Folder for fetched bundles; a bundle in it is used without asking MLflow again.
    """

    def __init__(self, uri: str, model: str, cache: Path) -> None:
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self.uri, self.model, self.cache = uri, model, cache / model
        self._mlflow_client: Any = None

    def add(self, folder: Path) -> str:
        """Check a bundle and register it; the same weights are the same version."""
        bundle = read_bundle(folder)
        sha256 = _sha256(folder)
        known = self._versions(f"tags.`{SHA256}` = '{sha256}'")
        if known:
            return str(known[0].version)
        described = {"name": bundle.name, "base": bundle.base.name, "margin": bundle.margin, **bundle.provenance}
        texts = {name: json.dumps(value)[:_LONGEST_PARAMETER] for name, value in described.items() if name != "curve"}

        def register() -> str:
            run = self._client.create_run(self._experiment(), run_name=f"policy {sha256[:12]}", tags={SHA256: sha256})
            made = self._client.create_logged_model(
                run.info.experiment_id,
                name=f"{self.model}-{sha256[:12]}",
                source_run_id=run.info.run_id,
                tags={SHA256: sha256},
                params=texts,
                model_type=MODEL_TYPE,
            )
            for name in (MANIFEST, WEIGHTS):
                self._client.log_model_artifact(made.model_id, str(folder / name))
            self._client.finalize_logged_model(made.model_id, "READY")
            self._ensure_model()
            with _default_uri(self.uri):  # MLflow looks up the logged model at the default URI of the process
                version = self._client.create_model_version(
                    self.model,
                    source=f"models:/{made.model_id}",
                    run_id=run.info.run_id,
                    model_id=made.model_id,
                    tags={SHA256: sha256},
                )
            self._client.set_terminated(run.info.run_id)
            return str(version.version)

        return self._call(register)

    def record(self, version: str, scores: Scores) -> None:
        """Log the evaluation of a version, each workload as a dataset; its words and figures stand in the list."""
        from mlflow.entities import Dataset, DatasetInput, Metric

        found = self._version(version)
        run, model, at_ms = found.run_id, _model_id(found), round(time.time() * 1000)
        workloads = {"all workloads": scores.overall, **scores.by_workload}
        datasets = [
            Dataset(name=name, digest=scores.data, source_type="local", source=json.dumps({"workload": name}))
            for name in workloads
        ]

        def send() -> None:
            self._client.log_inputs(run, datasets=[DatasetInput(dataset=each, tags=[]) for each in datasets])
            metrics = [
                Metric(
                    name, float(value), at_ms + number, 0, model_id=model, run_id=run, dataset_name=each.name,
                    dataset_digest=each.digest,
                )  # one instant per dataset: MLflow stores one value per name and instant
                for number, each in enumerate(datasets)
                for name, value in workloads[each.name].items()
            ]  # fmt: skip
            for first in range(0, len(metrics), 1000):
                self._client.log_batch(run, metrics=metrics[first : first + 1000])
            for path in scores.files:
                self._client.log_artifact(run, str(path), "evaluation")
            if scores.text:
                self._client.set_model_version_tag(self.model, version, "pi.evaluation", scores.text[:_LONGEST_TAG])
            shown = {name: f"{value:.4g}" for name, value in sorted(scores.overall.items())}
            for name, value in shown.items():  # the list of versions shows tags and descriptions, not metrics
                self._client.set_model_version_tag(self.model, version, name, value)
            said = "; ".join([scores.text, *(f"{name} {value}" for name, value in shown.items())])
            self._client.update_model_version(self.model, version, description=said.strip("; ")[:_LONGEST_TAG])

        self._call(send)

    def folder(self, version: str) -> Path:
        """The folder with the bundle of a version: fetched into the cache once, and checked against the sha256."""
        sha256 = self.weights_sha256(version)
        place = self.cache / sha256[:12]
        if not place.exists():
            self._fetch(version, sha256, place)
        return place

    def weights_sha256(self, version: str) -> str:
        """The fingerprint of a version's weights."""
        return str(self._version(version).tags.get(SHA256))

    def alias(self, name: str) -> str | None:
        """The version that has the alias; None if none has."""
        found = self._registered()
        return None if found is None or name not in found.aliases else str(found.aliases[name])

    def past(self, name: str) -> Sequence[str]:
        """Versions that have had the alias, oldest first."""
        found = self._registered()
        if found is None:
            return []
        moves = sorted((key, value) for key, value in found.tags.items() if key.startswith(f"{_LOG}.{name}."))
        past = [str(json.loads(value)["version"]) for _, value in moves]
        now = str(found.aliases[name]) if name in found.aliases else None
        return past if now is None or past[-1:] == [now] else [*past, now]

    def set_alias(self, name: str, version: str, *, why: str, at_s: float) -> None:
        """Move the alias in MLflow; the reason is stored with the model and with the version."""
        self._version(version)

        def move() -> None:
            entry = json.dumps({"version": version, "why": why[: _LONGEST_TAG // 2], "at_s": at_s})
            self._client.set_registered_model_alias(self.model, name, version)
            self._client.set_registered_model_tag(self.model, f"{_LOG}.{name}.{round(at_s * 1000):015d}", entry)
            self._client.set_model_version_tag(self.model, version, f"pi.{name}", why[:_LONGEST_TAG])

        self._call(move)

    def _fetch(self, version: str, sha256: str, place: Path) -> None:
        """Copy a bundle from MLflow; it appears when it is complete and has the right weights."""
        self.cache.mkdir(parents=True, exist_ok=True)
        model = _model_id(self._version(version))

        def copy(into: Path) -> None:
            import mlflow

            place = self._client.get_logged_model(model).artifact_location
            for name in (MANIFEST, WEIGHTS):
                with tempfile.TemporaryDirectory() as scratch:
                    found = mlflow.artifacts.download_artifacts(
                        f"{place}/{name}", dst_path=scratch, tracking_uri=self.uri
                    )
                    shutil.copyfile(found, into / name)

        unfinished = Path(tempfile.mkdtemp(dir=self.cache, prefix=".fetching-"))
        try:
            self._call(lambda: copy(unfinished))
            read_bundle(unfinished)
            if _sha256(unfinished) != sha256:
                raise InvalidInputError(f"policy version {version}", "other weights", "damaged; register it again")
            os.replace(unfinished, place)
        except OSError as error:
            if not place.exists():  # else another process was faster
                raise StoreError(f"policy cache {self.cache}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _version(self, version: str) -> Any:
        """MLflow's record of a version.

        Raises:
            UnknownNameError: There is no such version.
        """
        known = {str(found.version): found for found in self._versions("")}
        if version not in known:
            raise UnknownNameError("policy version", version, known)
        return known[version]

    def _versions(self, which: str) -> list[Any]:
        query = f"name = '{self.model}'" + (f" and {which}" if which else "")
        return list(self._call(lambda: self._client.search_model_versions(query)))

    def _registered(self) -> Any:
        found = self._call(lambda: self._client.search_registered_models(f"name = '{self.model}'"))
        return found[0] if found else None

    def _ensure_model(self) -> None:
        if not self._client.search_registered_models(f"name = '{self.model}'"):
            self._client.create_registered_model(self.model, description="Policies that steer Prefect work pools.")

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        beside = None  # for a database without a server: its artifacts go beside it, not into the working directory
        if self.uri.startswith(_SQLITE):
            beside = str(Path(self.uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts")
        tags = {"mlflow.experimentKind": "custom_model"}
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=beside, tags=tags))

    @property
    def _client(self) -> Any:
        if self._mlflow_client is None:
            try:
                from mlflow import MlflowClient
            except ImportError as error:
                raise MissingExtraError("policies in MLflow", "tracking") from error
            self._mlflow_client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._mlflow_client

    def _call(self, call: Callable[[], T]) -> T:
        """Call MLflow and turn its errors into `StoreError`."""
        _ = self._client
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            text = str(error).splitlines()[0][:300]
            if isinstance(error, MlflowException) and int(error.get_http_status_code()) in (401, 403):  # type: ignore[no-untyped-call, unused-ignore]
                text += f"; {TrackerAccessDeniedError.ADVICE}"
            raise StoreError(f"policy registry {self.model} in MLflow at {self.uri}: {text}") from error


class CachedRegistry(PolicyRegistry):
    """The registry for a controller: reads do not wait for MLflow, and work while it is down.

    The alias is read in the background and answered from memory. It is stored on disk too, so that a controller that is
    started while MLflow is down goes on with the last champion.

    Args:
        uri: Tracking URI of MLflow.
        model: Name of the registered model.
        cache: Folder for bundles and aliases.
        refresh_s: Seconds between two reads of the alias.
    """

    def __init__(self, uri: str, model: str, cache: Path, refresh_s: float = 15.0) -> None:
        super().__init__(uri, model, cache)
        self.refresh_s = refresh_s
        self._known: dict[str, tuple[str, str]] = _read_known(self.cache / "known.json")
        self._read_at_s: dict[str, float] = {}
        self._reader: threading.Thread | None = None
        self._logged = ""

    def alias(self, name: str) -> str | None:
        """The version that had the alias when MLflow last answered; None before its first answer."""
        now_s = time.monotonic()
        idle = self._reader is None or not self._reader.is_alive()
        if idle and now_s - self._read_at_s.get(name, -self.refresh_s) >= self.refresh_s:
            self._read_at_s[name] = now_s
            self._reader = threading.Thread(target=self._refresh, args=(name,), daemon=True)
            self._reader.start()
        known = self._known.get(name)
        return None if known is None else known[0]

    def folder(self, version: str) -> Path:
        """The folder with the bundle of a version; it is fetched before `alias` returns the version."""
        for known, sha256 in self._known.values():
            place = self.cache / sha256[:12]
            if known == version and place.exists():
                return place
        return super().folder(version)

    def wait(self) -> None:
        """Wait until the read of the alias that is under way has ended."""
        if self._reader is not None:
            self._reader.join()

    def _refresh(self, name: str) -> None:
        """Read the alias and fetch the bundle; only then may `alias` return the version."""
        try:
            version = super().alias(name)
            if version is None or version == self._known.get(name, ("", ""))[0]:
                self._logged = ""
                return
            super().folder(version)
            self._known[name] = (version, self.weights_sha256(version))
            path = self.cache / "known.json"
            path.with_suffix(".tmp").write_text(json.dumps(self._known), encoding="utf-8")
            os.replace(path.with_suffix(".tmp"), path)
            self._logged = ""
        except (StoreError, InvalidInputError, OSError) as error:  # the cached version stays
            before, self._logged = self._logged, str(error)
            if before != self._logged:  # tried every few seconds, logged once
                _LOGGER.warning("the alias %s could not be followed: %s", name, error)


@contextmanager
def _default_uri(uri: str) -> Iterator[None]:
    """MLflow's process-wide tracking URI for the length of a block."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _model_id(version: Any) -> str:
    """The logged model of a version; a search does not fill in `model_id`."""
    return str(version.source).removeprefix("models:/")


def _read_known(path: Path) -> dict[str, tuple[str, str]]:
    try:
        return {name: (str(pair[0]), str(pair[1])) for name, pair in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, IndexError, AttributeError):
        return {}


def _sha256(folder: Path) -> str:
    return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["weights_sha256"])
