"""Run a version once as a temporary deployment, before it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, ResourceChange
from prefect_intelligent.pipelines.rollout.strategies import Rollout
from prefect_intelligent.pipelines.version import SHORT, DeploymentVersion

TRIAL_QUEUE: Final = "prefect-intelligent-trial"
"""Work queue of trial runs, which Prefect creates on first use, and tag of their deployments."""


def run_trial(rollout: Rollout, version: DeploymentVersion, parameters: Mapping[str, Any], timeout_s: float) -> str:
    """Run a version once as a temporary deployment and return the run's id.

    The run has all effects of the flow: it writes where the flow writes.

    Args:
        rollout: Access to the server and the versions.
        version: The version to run.
        parameters: Parameters set on top of the version's defaults.
        timeout_s: Time after which the run is cancelled, seconds.

    Raises:
        InvalidInputError: The run failed or did not end in time.
    """
    server, clock = rollout.server, rollout.transactions.clock
    flow, _, short = version.deployment.partition("/")
    name = f"{flow}/{short}-trial-{version.id[:SHORT]}"
    content = version.render(rollout.store) | {
        "work_queue_name": TRIAL_QUEUE,
        "schedules": [],
        "tags": [TRIAL_QUEUE],
        "concurrency_limit": None,
    }
    try:  # an interim intent: if this process dies, the next command removes the deployment
        creation = ResourceChange(resource=DEPLOYMENT + name, before=None, after=content)
        rollout.transactions.begin("deploy --trial", [creation])
        run_id = server.start_run(name, {**version.spec["parameters"], **parameters}, key=f"{name} {clock.now_s()}")
        deadline = clock.now_s() + timeout_s
        while True:
            run = next((run for run in server.runs(name) if run.id == run_id), None)
            if run is not None and run.ended:
                break
            if clock.now_s() >= deadline:
                server.cancel_run(run_id)
                raise InvalidInputError("--trial", timeout_s, f"trial run {run_id} did not end in time")
            clock.sleep(0.5)
    finally:
        rollout.transactions.abandon()
    if run.state != "COMPLETED":
        raise InvalidInputError("--trial", run.state, f"trial run {run_id} of {version.deployment} did not complete")
    return run_id
