"""A fake Prefect server for pipelines, in memory; a test can make the process die at any write."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prefect_intelligent.errors import ConflictError, UnknownNameError
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.runs import PipelineRun, RunState


class ProcessKilled(BaseException):
    """Stands for `kill -9`: nothing catches it but the test."""


class FakePipelineServer:
    """Implements `PipelineServer`.

    Args:
        resources: What it holds at first, by full resource name.

    Attributes:
        resources: What it holds now.
        die_at: Number of the write (from 1) before which the process dies; None for never.
        refuse: Resources whose writes Prefect refuses.
        writes: Writes so far.
    """

    def __init__(self, resources: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.resources: dict[str, Mapping[str, Any]] = copy.deepcopy(dict(resources or {}))
        self.die_at: int | None = None
        self.refuse: frozenset[str] = frozenset()
        self.writes = 0
        self.flow_runs: dict[str, PipelineRun] = {}
        self._keys: dict[str, str] = {}

    def read(self, resource: str) -> Mapping[str, Any] | None:
        """Content of a resource."""
        return copy.deepcopy(self.resources.get(resource))

    def read_all(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """All resources of one prefix."""
        return {name: copy.deepcopy(value) for name, value in self.resources.items() if name.startswith(prefix)}

    def write(self, resource: str, value: Mapping[str, Any] | None) -> None:
        """Make it hold this."""
        self.writes += 1
        if self.die_at is not None and self.writes >= self.die_at:
            raise ProcessKilled
        if resource in self.refuse:
            raise ConflictError(f"{resource}: refused")
        if value is None:
            self.resources.pop(resource, None)
        else:
            self.resources[resource] = copy.deepcopy(value)

    def runs(
        self, deployment: str, *, phase: RunState | None = None, since_s: float | None = None
    ) -> list[PipelineRun]:
        """Runs of a deployment."""
        if DEPLOYMENT + deployment not in self.resources:
            raise UnknownNameError("deployment", deployment, self.resources)
        found = [run for run in self.flow_runs.values() if run.deployment == deployment]
        return [
            run
            for run in sorted(found, key=lambda run: run.scheduled_s)
            if (phase is None or run.state == phase) and (since_s is None or run.scheduled_s >= since_s)
        ]

    def start_run(
        self, deployment: str, parameters: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Start a run."""
        if key not in self._keys:
            run_id = f"run-{len(self.flow_runs)}"
            self.flow_runs[run_id] = PipelineRun(
                id=run_id,
                deployment=deployment,
                state="SCHEDULED",
                scheduled_s=float(len(self.flow_runs)),
                parameters=dict(parameters),
                env=dict(env or {}),
            )
            self._keys[key] = run_id
        return self._keys[key]

    def cancel_run(self, run_id: str) -> None:
        """End a run."""
        if not self.flow_runs[run_id].ended:
            self.flow_runs[run_id] = replace(self.flow_runs[run_id], state="CANCELLED")

    def retry_run(self, run_id: str) -> None:
        """Run it again."""
        self.flow_runs[run_id] = replace(self.flow_runs[run_id], state="SCHEDULED")

    def pin_run(self, run_id: str, env: Mapping[str, str]) -> bool:
        """Add environment variables to a run that has not been claimed."""
        run = self.flow_runs[run_id]
        if run.state != "SCHEDULED":
            return False
        self.flow_runs[run_id] = replace(run, env={**run.env, **env})
        return True
