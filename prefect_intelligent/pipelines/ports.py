"""Ports of pipelines: a Prefect server, and a store for the content of versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prefect_intelligent.pipelines.runs import PipelineRun, RunState


class PipelineServer(Protocol):
    """A Prefect server: its deployments, the automations this product owns, and flow runs.

    Every method may raise `OrchestratorUnavailableError`, `ConflictError` and `UnknownNameError`, and no other error.
    """

    def read(self, resource: str) -> Mapping[str, Any] | None:
        """Return the content of a resource (see `pipelines.resource_changes`); None if it does not exist."""
        ...

    def read_all(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """Return all resources with a prefix, by full name; of automations only those this product owns."""
        ...

    def write(self, resource: str, value: Mapping[str, Any] | None) -> None:
        """Set the content of a resource, or remove it if `value` is None. Idempotent.

        Raises:
            ConflictError: Prefect rejects the content.
        """
        ...

    def runs(
        self, deployment: str, *, phase: RunState | None = None, since_s: float | None = None
    ) -> list[PipelineRun]:
        """Return the latest 200 runs of a deployment in a state type (None is any), oldest first."""
        ...

    def start_run(
        self, deployment: str, parameters: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Start a run now and return its id; `key` is an idempotency key."""
        ...

    def cancel_run(self, run_id: str) -> None:
        """Request the cancellation of a run; no effect if it has ended."""
        ...

    def retry_run(self, run_id: str) -> None:
        """Run an ended run again under the same id; tasks with persisted results are not repeated."""
        ...

    def pin_run(self, run_id: str, env: Mapping[str, str]) -> bool:
        """Add environment variables to a run that no worker has claimed; False if one has."""
        ...


class BlobStore(Protocol):
    """Content-addressed storage of the files of versions: blobs under their sha256."""

    def put(self, content: bytes) -> str:
        """Store content and return its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the content of a digest; `UnknownNameError` if it is missing, `StoreError` if it is damaged."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the content is stored."""
        ...

    def digests(self) -> Iterator[str]:
        """Iterate over all stored digests."""
        ...

    def delete(self, digest: str) -> None:
        """Remove content; no effect if it is not stored."""
