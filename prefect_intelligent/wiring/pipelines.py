"""The composition root of the pipeline commands: from settings to adapters to services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect_intelligent.domain import Terms
from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import InvalidInputError, StoreError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.adapters.dataset_events import emit_dataset_events, fresh_for
from prefect_intelligent.pipelines.adapters.event_relay import EventRelay
from prefect_intelligent.pipelines.adapters.exclusive_lock import exclusive_lock
from prefect_intelligent.pipelines.adapters.prefect_discovery import RecordedVersion, survey
from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
from prefect_intelligent.pipelines.adapters.source_archive import files_of
from prefect_intelligent.pipelines.apply_graph import current_overrides
from prefect_intelligent.pipelines.project_file import Project, read_project
from prefect_intelligent.pipelines.rollout.strategies import Rollout, follow_up
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.survey import Overrides, PipelineModel, Survey, build_model
from prefect_intelligent.pipelines.version import pull_inputs
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.settings import Settings
from prefect_intelligent.wiring.history import open_history

PROJECT_FILE = "pipelines.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineWorkspace:
    """Everything that the pipeline commands need.

    Attributes:
        settings: All settings.
        api: The Prefect server.
        server: Its deployments, automations and runs.
        history: Where records are kept.
        blobs: Where code is kept.
        clock: The time.
        transactions: Writes several things as one.
        folder: The project: where `pipelines.toml` and the flows are.
        project: What the project file says.
    """

    settings: Settings
    api: PrefectApi
    server: PrefectPipelineServer
    history: HistoryStore
    blobs: FsspecBlobStore
    clock: Clock
    transactions: Transactions
    folder: Path
    project: Project

    def model(self, *, history: bool = True) -> PipelineModel:
        """Return the pipeline model as it is now."""
        found = self._survey(history=history)
        prices = self.settings.prices_of(self.settings.pool or "")
        return build_model(found, self.project, current_overrides(self.transactions), prices, self.clock.now_s())

    def fresh_datasets(self, batch: str) -> set[str]:
        """Datasets that are fresh for a batch, as far back as Prefect keeps events."""
        return fresh_for(self.api, batch)

    def emit_dataset_events(self, flow_run: Mapping[str, Any], outputs: Sequence[str], batch: str | None) -> list[str]:
        """Tell Prefect what an ended run has written; returns the datasets told of.

        Args:
            flow_run: As Prefect's API gives it.
            outputs: Datasets that its deployment writes.
            batch: Name of the parameter that holds the batch, if it has one.
        """
        fresh = flow_run["state_type"] == "COMPLETED"
        return emit_dataset_events(self.api, flow_run, outputs, batch, fresh=fresh)

    def _survey(self, *, history: bool) -> Survey:
        known = {version.id: version for version in self.versions.all()}

        def recorded(held: Mapping[str, Any]) -> RecordedVersion | None:
            version = known.get(str((pull_inputs(held) or {}).get("version")))
            if version is None or version.code is None:
                return None
            blob = version.code.blob
            return RecordedVersion(
                terms=Terms.from_dict(version.terms) if version.terms else None,
                contract=version.contract,
                read=lambda path: self._read(blob, path),
            )

        return survey(self.api, self.server, self.folder, history=history, recorded=recorded)

    def _read(self, blob: str, path: str) -> str | None:
        """Text of a file of a packed source tree; None if it cannot be had."""
        try:
            content = files_of(self.blobs.get(blob)).get(path)
        except (UnknownNameError, StoreError):
            return None
        return None if content is None else content.decode()

    def with_project(self, project: Project) -> PipelineWorkspace:
        """The same for another project file."""
        return replace(self, project=project)

    @property
    def versions(self) -> VersionStore:
        """The versions of all deployments."""
        return VersionStore(self.history, self.blobs, self.clock)

    @property
    def rollout(self) -> Rollout:
        """Changes the version of deployments."""
        return Rollout(self.transactions, self.versions, self.settings.versions)

    def model_builder(self) -> Callable[[Overrides], PipelineModel]:
        """Return a function from overrides to the pipeline model; the server is read once."""
        found = self._survey(history=False)
        prices = self.settings.prices_of(self.settings.pool or "")
        return lambda overrides: build_model(found, self.project, overrides, prices, self.clock.now_s())

    def publish(self, model: PipelineModel) -> list[str]:
        """Tell controllers the terms that the project file gives deployments; names of those that they did not know."""
        known = [name for name in sorted(self.project.terms) if name in model.nodes]
        return [name for name in known if publish_terms(self.api, name, model.nodes[name].terms)]

    def recover(self) -> str | None:
        """Complete what a command that died has begun, unless another command is at work; returns its title."""
        if self.transactions.pending():
            with suppress(InvalidInputError), self.exclusive(patience_s=0.0) as completed:
                return completed
        return None

    @contextmanager
    def exclusive(self, patience_s: float = 20.0) -> Iterator[str | None]:
        """Be the only process that changes pipelines; completes first what a command that died has begun.

        Args:
            patience_s: How long to wait for another machine; longer than the lease of a process that died lasts.

        Yields:
            The title of what was completed, None if there was nothing.

        Raises:
            InvalidInputError: Another process is changing pipelines.
        """
        with exclusive_lock(self.settings.folder / "pipelines.lock", patience_s):
            yield self.transactions.recover()


def open_workspace(settings: Settings, folder: Path | None = None, project: Path | None = None) -> PipelineWorkspace:
    """Make the adapters.

    Args:
        settings: All settings.
        folder: The project's folder; the working directory if None.
        project: The project file; `pipelines.toml` in the folder, if it is there, if None.

    Raises:
        InvalidInputError: A setting or the project file cannot be used.
    """
    root = (folder or Path.cwd()).resolve()
    file = project or root / PROJECT_FILE
    if project is not None and not project.is_file():
        raise InvalidInputError("--project", str(project), "is not a file")
    text = file.read_text() if file.is_file() else ""
    api = PrefectApi(timeout_s=30.0, attempts=5)
    server = PrefectPipelineServer(api)
    history = open_history(settings)
    clock = SystemClock()
    return PipelineWorkspace(
        settings=settings,
        api=api,
        server=server,
        history=history,
        blobs=FsspecBlobStore(settings.versions),
        clock=clock,
        transactions=Transactions(server, history, clock, follow_up),
        folder=root,
        project=read_project(text, file.name),
    )


def open_event_relay(settings: Settings, api: PrefectApi) -> EventRelay:
    """What delivers the pending dataset events of this machine while it is entered."""
    return EventRelay(api.url, settings.folder)
