"""Addresses of runs, deployments, queues and pools in Prefect's own pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectLinks:
    """Makes addresses; each is None where the server or the id is not known.

    Attributes:
        ui: Address of Prefect's pages, without a slash at its end.
        deployments: Name of a deployment to its id.
    """

    ui: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)

    def run(self, run_id: str | None) -> str | None:
        """The page of a flow run."""
        return self._at("runs/flow-run", run_id)

    def deployment(self, name: str) -> str | None:
        """The page of a deployment."""
        return self._at("deployments/deployment", self.deployments.get(name))

    def pool(self, name: str) -> str | None:
        """The page of a work pool."""
        return self._at("work-pools/work-pool", name)

    def queue(self, pool: str, queue: str) -> str | None:
        """The page of a work queue."""
        return self._at("work-pools/work-pool", pool, "queue", queue)

    def _at(self, kind: str, *parts: str | None) -> str | None:
        if self.ui is None or not all(parts):
            return None
        return "/".join([self.ui, kind, *(quote(str(part), safe="") for part in parts)])
