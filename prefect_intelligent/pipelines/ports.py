"""What pipelines need from the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prefect_intelligent.pipelines.runs import PipelineRun, RunState


class PipelineServer(Protocol):
    """What pipelines need of a Prefect server: its deployments, the automations we own, and runs.

    Every method may raise `OrchestratorUnavailableError`, `ConflictError` and `UnknownNameError`; nothing else escapes.
    """

    def read(self, resource: str) -> Mapping[str, Any] | None:
        """Content of a resource (see `pipelines.resource_changes`); None if it does not exist."""
        ...

    def read_all(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """All resources of one prefix by their full name; of automations those we own."""
        ...

    def write(self, resource: str, value: Mapping[str, Any] | None) -> None:
        """Make the resource hold exactly this, or remove it; twice is as good as once.

        Raises:
            ConflictError: Prefect refuses the content.
        """
        ...

    def runs(
        self, deployment: str, *, phase: RunState | None = None, since_s: float | None = None
    ) -> list[PipelineRun]:
        """Runs of a deployment, the latest 200 of that state type, oldest first."""
        ...

    def start_run(
        self, deployment: str, parameters: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Start a run now and return its id; the same `key` gives the same run."""
        ...

    def cancel_run(self, run_id: str) -> None:
        """Ask for a run's end; nothing happens if it has ended."""
        ...

    def retry_run(self, run_id: str) -> None:
        """Run an ended run again under the same id: tasks whose results were kept are not repeated."""
        ...

    def pin_run(self, run_id: str, env: Mapping[str, str]) -> bool:
        """Add environment variables to a run that has not been claimed; False if it already has."""
        ...


class BlobStore(Protocol):
    """Content kept under its sha256, for versions of pipelines."""

    def put(self, content: bytes) -> str:
        """Keep content and return its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """Content of a digest; `UnknownNameError` if it is not there, `StoreError` if it is damaged."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the content is there."""
        ...

    def digests(self) -> Iterator[str]:
        """All digests that are kept."""
        ...

    def delete(self, digest: str) -> None:
        """Remove content; nothing happens if it has gone."""
