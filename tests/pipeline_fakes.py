"""A project on the fake server: steps, their deployments and the services over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect_intelligent.domain import Prices, Terms
from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.deployments import DeploymentNode
from prefect_intelligent.pipelines.project_file import read_project
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.rollout.strategies import Rollout, follow_up
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.survey import Overrides, PipelineModel, Survey, build_model
from prefect_intelligent.pipelines.version import DeploymentVersion, SourceCode
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.pipelines import FakePipelineServer

SCHEMA = {"properties": {"batch": {"type": "string"}}, "required": []}
SPEC: dict[str, Any] = {
    "version": None,
    "description": None,
    "paused": False,
    "tags": [],
    "parameters": {},
    "parameter_openapi_schema": SCHEMA,
    "enforce_parameter_schema": True,
    "job_variables": {},
    "path": "/srv/flows",
    "entrypoint": "flows.py:clean",
    "pull_steps": [],
    "work_pool_name": "pool",
    "work_queue_name": "default",
    "concurrency_options": None,
    "concurrency_limit": None,
    "schedules": [],
}
CHAIN = {"ingest/p": ((), ("raw",)), "clean/p": (("raw",), ("flights",)), "report/p": (("flights",), ("report",))}


class Project:
    """The chain ingest -> clean -> report on a fake server, with versions in a folder."""

    def __init__(self, folder: Any, chain: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = CHAIN) -> None:
        self.chain = chain
        self.server = FakePipelineServer({DEPLOYMENT + name: SPEC for name in chain})
        self.history = InMemoryHistory()
        self.clock = ManualClock()
        self.versions = VersionStore(self.history, FsspecBlobStore(str(folder)), self.clock)

    @property
    def transactions(self) -> Transactions:
        """As a new process would make them."""
        return Transactions(self.server, self.history, self.clock, follow_up)

    @property
    def rollout(self) -> Rollout:
        return Rollout(self.transactions, self.versions, "/versions")

    def model(self, overrides: Overrides | None = None, text: str = "") -> PipelineModel:
        nodes = {
            name: DeploymentNode(name=name, terms=Terms(inputs=inputs, outputs=outputs), schema=SCHEMA)
            for name, (inputs, outputs) in self.chain.items()
        }
        return build_model(
            Survey(nodes=nodes), read_project(text), overrides or Overrides(), Prices(), self.clock.now_s()
        )

    def version(self, content: str, deployment: str = "clean/p", **spec: Any) -> DeploymentVersion:
        """A kept version whose source is `content`."""
        code = SourceCode(blob=self.versions.blobs.put(content.encode()))
        new = DeploymentVersion(deployment=deployment, spec={**SPEC, "path": None, **spec}, code=code, author="me")
        held = self.server.read(DEPLOYMENT + deployment)
        parent = self.versions.current(deployment, held)
        return self.versions.keep(replace(new, parent=None if parent is None else parent.id))
