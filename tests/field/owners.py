"""What owners of deployments do on a server, as Prefect's own commands do it."""

from __future__ import annotations

import uuid
from typing import Any

from tests.real_prefect import Api

CANCEL_NEW = {"collision_strategy": "CANCEL_NEW"}


class Owner:
    """The owner of one deployment.

    Args:
        api: The server.
        pool: Its work pool; a new one if not given.
        flow: Name of the flow; a new one if not given.
        name: Name of the deployment.
        **deployed: What is deployed first, see `deploy`.
    """

    def __init__(self, api: Api, pool: str | None = None, flow: str | None = None, name: str = "d", **deployed: Any):
        self.api, self.pool = api, pool or api.pool()
        self.flow, self.short = flow or f"flow-{uuid.uuid4().hex[:8]}", name
        self.id = ""
        self.deploy(**deployed)

    @property
    def name(self) -> str:
        """ "flow/deployment"."""
        return f"{self.flow}/{self.short}"

    def deploy(
        self,
        limit: int | None = None,
        options: dict[str, Any] | None = None,
        job_variables: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Deploy (again) as `flow.deploy()` does: what is not given is sent as its default."""
        body = {
            "concurrency_limit": limit,
            "concurrency_options": options,
            "job_variables": job_variables or {},
            "schedules": [],
            "tags": [],
            "parameters": {},
            **more,
        }
        self.id = self.api.deployment(self.pool, flow=self.flow, name=self.short, **body)

    def edit(self, **fields: Any) -> None:
        """Change fields alone, as the UI does."""
        self.api.call("PATCH", f"/deployments/{self.id}", fields)

    def delete(self) -> None:
        """Delete the deployment."""
        self.api.call("DELETE", f"/deployments/{self.id}")

    def stored(self) -> dict[str, Any]:
        """The deployment as the API gives it."""
        return dict(self.api.call("GET", f"/deployments/{self.id}"))

    def values(self) -> dict[str, Any]:
        """What the owner can set and claims may touch."""
        found = self.stored()
        limit = found["global_concurrency_limit"]
        return {
            "limit": None if limit is None else limit["limit"],
            "taken": None if limit is None else limit["active_slots"],
            "options": found["concurrency_options"],
            "job_variables": found["job_variables"],
            "paused": found["paused"],
            "queue": found["work_queue_name"],
        }

    def run(self, **more: Any) -> str:
        """A run that is due; its id."""
        return self.api.run(self.id, **more)

    def starts(self, run: str | None = None) -> bool:
        """Whether a run gets a slot as a worker proposes it; a run that does is ended at once."""
        run = run or self.run(in_s=-1.0)
        if self.api.set_state(run, "PENDING")["status"] != "ACCEPT":
            return False
        self.api.set_state(run, "CANCELLED")
        return True

    def begin(self) -> str:
        """A run that holds a slot; its id."""
        run = self.run(in_s=-1.0)
        assert self.api.set_state(run, "PENDING")["status"] == "ACCEPT"
        assert self.api.set_state(run, "RUNNING")["status"] == "ACCEPT"
        return run
