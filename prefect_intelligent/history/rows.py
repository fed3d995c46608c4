"""Rows of the history tables: runs, task runs, states, events, deployments and queues of a Prefect server.

Named tuples, because there are hundreds of thousands. Instants are Unix seconds; None is unknown.
"""

from __future__ import annotations

from typing import Final, NamedTuple

RUN_STATES: Final = (
    "SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING", "PAUSED",
)  # fmt: skip
"""Prefect's state types; their index is their code in the history."""

ENDED_STATES: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
LIVE_STATES: Final = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")


class RunFact(NamedTuple):
    """One flow run.

    `cause` is the signature of a failure, `message` the state message that it is derived from; `parameters` is a line
    of `run_parameters.pack`.
    """

    run_id: str
    name: str | None
    pool: str | None
    queue: str | None
    deployment: str | None
    version: str | None
    host: str | None
    state: str
    cause: str | None
    scheduled_s: float | None
    submitted_s: float
    started_s: float | None
    ended_s: float | None
    due_s: float | None
    size: float | None
    expected_s: float | None
    attempts: int | None
    late_usd_per_hour: float | None
    failure_usd: float | None
    message: str | None
    parameters: str | None = None


class TaskRunFact(NamedTuple):
    """One task run."""

    task_run_id: str
    run_id: str | None
    name: str
    state: str
    started_s: float | None
    ended_s: float | None
    attempts: int | None


class EventFact(NamedTuple):
    """One event of the server; `payload` is its JSON text."""

    event_id: str
    at_s: float
    event: str
    resource: str
    payload: str


class StateFact(NamedTuple):
    """A flow run entered a state."""

    run_id: str
    at_s: float
    state: str
    name: str


class DeploymentFact(NamedTuple):
    """A deployment as it is now; `details` is JSON text: schedules, job variables, limits, terms, tags."""

    deployment_id: str
    name: str
    pool: str | None
    queue: str | None
    version: str | None
    paused: bool
    updated_s: float
    details: str


class QueueFact(NamedTuple):
    """Settings of a work queue (or, with `queue` empty, of the pool) from an instant on."""

    pool: str
    queue: str
    at_s: float
    priority: int | None
    limit: int | None
    paused: bool
