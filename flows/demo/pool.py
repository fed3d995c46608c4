"""The pool of the demo on its Prefect server: queues, deployments, submitted runs and their records.

Import this module only after `prepare_environment` has been called: Prefect reads its environment when it is imported.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from flows.demo.environment import ROOT
from flows.demo.processes import DemoError
from flows.demo.scoring import RunRecord
from flows.demo.workload import DEPLOYMENT, PIPELINES, QUEUES, Launch, Pipeline, feeding
from flows.store_partitions import LAKE_VARIABLE
from prefect_intelligent import publish
from prefect_intelligent.prefect_client.api import PrefectApi

POOL = "flights"
SLOTS = 2
PRIORITY_AS_CREATED = 1
"""Priority of every queue before steering: that of Prefect's own queue `default`. Queues of equal priority are served
first come first served, as are the runs of a team that uses no queues."""
COLD = 3
"""Number of first runs that are not used to estimate the speed of submitting; they take longer."""
FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that has been submitted.

    Attributes:
        id: Prefect's flow run id.
        launch: What it runs.
        scheduled_s: Its scheduled start, Unix seconds.
        reads_from: Ids of the runs whose output it reads.
    """

    id: str
    launch: Launch
    scheduled_s: float
    reads_from: tuple[str, ...]


class DemoPool:
    """The pool on the server of `PREFECT_API_URL`.

    Args:
        client: A client of that server.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._api = PrefectApi(timeout_s=30.0, patience=8)  # Prefect's client sleeps for seconds at each 503 of SQLite
        self._deployments: dict[str, UUID] = {}

    def build(self) -> None:
        """Create the pool, its queues and the deployments."""
        self._client.create_work_pool(
            WorkPoolCreate(
                name=POOL,
                type="process",
                concurrency_limit=SLOTS,
                base_job_template=ProcessWorker.get_default_base_job_template(),
            )
        )
        for queue in QUEUES:
            self._client.create_work_queue(name=queue, work_pool_name=POOL, priority=PRIORITY_AS_CREATED)
        self.reset()
        for pipeline in PIPELINES:
            self.deploy(pipeline)
            publish(pipeline.flow)  # the first run would do it too, but the controller needs the terms before

    def deploy(self, pipeline: Pipeline, parameters: Mapping[str, Any] | None = None) -> None:
        """Create a deployment, with default parameters for its runs."""
        command = [sys.executable, "-m", "prefect.flow_engine", str(ROOT / pipeline.entrypoint)]
        self._deployments[pipeline.name] = self._client.create_deployment(
            flow_id=self._client.create_flow_from_name(pipeline.flow.name),
            name=DEPLOYMENT,
            work_pool_name=POOL,
            work_queue_name=pipeline.queue,
            entrypoint=pipeline.entrypoint,
            path=str(ROOT),
            parameters=dict(parameters or {}),
            parameter_openapi_schema=parameter_schema(pipeline.flow.fn).model_dump(),
            job_variables={"command": shlex.join(command), "working_dir": str(ROOT)},
        )

    def reset(self) -> None:
        """Reset every setting of the pool and its queues to its initial value.

        Raises:
            DemoError: A setting has another value afterwards.
        """
        self._client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=SLOTS, is_paused=False))
        for queue in self._client.read_work_queues(work_pool_name=POOL):
            if queue.priority != PRIORITY_AS_CREATED or queue.concurrency_limit is not None:
                self._client.update_work_queue(queue.id, priority=PRIORITY_AS_CREATED, concurrency_limit=None)
        if not self.is_as_created():
            raise DemoError(f"the queues of pool {POOL!r} could not be set back to how they were created")

    def is_as_created(self) -> bool:
        """Whether every setting of the pool and its queues is what it was when they were created."""
        queues = self._client.read_work_queues(work_pool_name=POOL)
        settings = {(queue.priority, queue.concurrency_limit) for queue in queues}
        return settings == {(PRIORITY_AS_CREATED, None)} and self.limit() == SLOTS

    def priorities(self) -> dict[str, int]:
        """Priority of every queue of the pool."""
        return {queue.name: queue.priority for queue in self._client.read_work_queues(work_pool_name=POOL)}

    def limit(self) -> int:
        """The pool's limit now, slots."""
        limit = self._client.read_work_pool(POOL).concurrency_limit
        return SLOTS if limit is None else limit

    def worker_is_online(self, name: str) -> bool:
        """Whether the worker of that name has announced itself to the pool."""
        return any(worker.name == name for worker in self._client.read_workers_for_work_pool(POOL))

    def submit(
        self, launches: Sequence[Launch], begin_s: float, tag: str, lake: Path, *, until_s: float | None = None
    ) -> list[Submitted] | None:
        """Schedule all runs of an arm, in order.

        Args:
            launches: What to run.
            begin_s: Instant of offset 0, Unix seconds.
            tag: Given to every run.
            lake: Folder of the datasets that they read and write.
            until_s: When all of them have to be there.

        Returns:
            What has been submitted; None if it takes too long, and then all of it has been withdrawn again.
        """
        ids: list[str] = []
        begun_s = time.time()
        for launch in launches:
            scheduled_s = begin_s + launch.offset_s
            when = datetime.fromtimestamp(scheduled_s, UTC)
            body = {
                "parameters": dict(launch.parameters),
                "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}},
                "tags": [tag],
                "job_variables": {"env": {LAKE_VARIABLE: str(lake)}},
                "idempotency_key": uuid4().hex,
            }
            route = f"/deployments/{self._deployments[launch.pipeline.name]}/create_flow_run"
            ids.append(self._api.call("POST", route, body)["id"])
            done = len(ids) / len(launches)
            if until_s is not None and len(ids) > COLD and _expected_end_s(begun_s, done) > until_s:
                for run_id in ids:
                    self._client.delete_flow_run(UUID(run_id))
                return None
        return [
            Submitted(
                id=run_id,
                launch=launch,
                scheduled_s=begin_s + launch.offset_s,
                reads_from=tuple(ids[index] for index in writers),
            )
            for run_id, launch, writers in zip(ids, launches, feeding(launches), strict=True)
        ]

    def start(self, pipeline: Pipeline) -> str:
        """Submit one run, due at once, and return its id."""
        return str(self._client.create_flow_run_from_deployment(self._deployments[pipeline.name]).id)

    def state(self, run_id: str) -> dict[str, Any]:
        """Name and message of a run's state, and whether it is its last."""
        state = self._client.read_flow_run(UUID(run_id)).state
        assert state is not None
        return {"name": state.name, "message": state.message, "final": state.is_final()}

    def states(self, tag: str) -> dict[str, StateType]:
        """State of each run with the tag, by id; at most 200 runs."""
        found = self._client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
        return {str(run.id): run.state_type for run in found if run.state_type is not None}

    def record(self, submitted: Submitted) -> RunRecord:
        """What happened to a finished run, from Prefect's own record of its states.

        Raises:
            DemoError: The run never took a slot.
        """
        run = self._client.read_flow_run(UUID(submitted.id))
        states = self._client.read_flow_run_states(run.id)
        at_s = {kind: [s.timestamp.timestamp() for s in states if s.type == kind] for kind in StateType}
        if run.state is None or not at_s[StateType.PENDING]:
            raise DemoError(f"run {run.name} of {submitted.launch.pipeline.name} never took a slot: {run.state_name}")
        started_s, finished_s = at_s[StateType.PENDING][0], run.state.timestamp.timestamp()
        terms = submitted.launch.pipeline.terms
        scheduled_s = run.expected_start_time.timestamp() if run.expected_start_time else submitted.scheduled_s
        return RunRecord(
            id=submitted.id,
            deployment=submitted.launch.pipeline.name,
            queue=submitted.launch.pipeline.queue,
            scheduled_s=scheduled_s,
            started_s=started_s,
            running_s=at_s[StateType.RUNNING][0] if at_s[StateType.RUNNING] else finished_s,
            finished_s=finished_s,
            due_s=None if terms.deadline is None else terms.deadline.due_s(scheduled_s),
            late_usd_per_hour=terms.late_usd_per_hour,
            failure_usd=terms.failure_usd,
            failed=run.state.type is not StateType.COMPLETED,
            reads_from=submitted.reads_from,
        )


def _expected_end_s(begun_s: float, done: float) -> float:
    """Expected end of an activity that began at `begun_s` and of which the share `done` is done."""
    return begun_s + (time.time() - begun_s) / done
