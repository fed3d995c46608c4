"""A hook beside a controller says nothing to the server, and yet what waits for the dataset hears of it."""

import time
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prefect import flow

from prefect_intelligent import attach
from prefect_intelligent.flow import hooks
from prefect_intelligent.local import liveness
from prefect_intelligent.local.liveness import relay_key
from prefect_intelligent.pipelines.adapters.dataset_events import epochs_variable
from prefect_intelligent.pipelines.adapters.event_relay import EventRelay
from prefect_intelligent.pipelines.event_names import ARRIVED, BATCH, FRESH
from prefect_intelligent.pipelines.pending_events import pending_events

pytestmark = pytest.mark.server


def announced(api, batch):
    body = {"filter": {"event": {"name": [FRESH, ARRIVED]}, "resource": {"labels": {BATCH: [batch]}}}, "limit": 50}
    return sorted(event["event"] for event in api.call("POST", "/events/filter", body)["events"])


@pytest.fixture
def completed(api, prefect_api, monkeypatch, tmp_path):
    """Calls the hook for a completed run of a deployment in a pipeline, as Prefect does; gives the batch."""
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    deployment = api.deployment(api.pool())
    epochs = {"epochs": [[0.0, "v1"]]}
    api.call("POST", "/variables/", {"name": epochs_variable(deployment), "value": epochs})
    liveness.mark_alive(hooks.steering_key(prefect_api, "p"), 60)

    @flow(name=f"f-{uuid.uuid4().hex[:6]}")
    def work(day: str = ""):
        return day

    attach(work, outputs=["mart"], batch="day")
    hooks._published.add(work.name)

    def run():
        now, batch = datetime.now(UTC), uuid.uuid4().hex
        flow_run = SimpleNamespace(
            id=uuid.uuid4(),
            name="run",
            deployment_id=uuid.UUID(deployment),
            work_pool_name="p",
            run_count=1,
            parameters={"day": batch},
            job_variables={},
            start_time=now,
            expected_start_time=now,
        )
        state = SimpleNamespace(type=SimpleNamespace(value="COMPLETED"), name="Completed", timestamp=now)
        hooks.report_completed(work, flow_run, state)
        return batch

    return run


def test_the_relay_of_a_controller_tells_prefect_and_so_does_a_hook_when_it_is_gone(
    api, prefect_api, completed, tmp_path
):
    def told(batch):
        deadline = time.monotonic() + 240
        while len(announced(api, batch)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        return announced(api, batch)

    with EventRelay(prefect_api, tmp_path):
        while not liveness.is_alive(relay_key(prefect_api)):
            time.sleep(0.02)
        assert told(completed()) == [ARRIVED, FRESH]
    assert not liveness.is_alive(relay_key(prefect_api))

    liveness.mark_alive(relay_key(prefect_api), 60)  # as one that is killed leaves it
    left = completed()
    liveness.clear(relay_key(prefect_api))
    assert told(completed()) == told(left) == [ARRIVED, FRESH]
    assert pending_events(prefect_api).size_bytes() == 0


def test_a_relay_that_ends_leaves_no_event_behind(api, prefect_api, completed, tmp_path):
    with EventRelay(prefect_api, tmp_path) as ending:
        while not liveness.is_alive(relay_key(prefect_api)):
            time.sleep(0.02)
        ending._ended.set()
        ending._thread.join()
        completed()  # after its last look, before its light is out
    assert pending_events(prefect_api).size_bytes() == 0
